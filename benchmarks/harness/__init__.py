"""What the commands time, and how they keep and sum up the results.

rows, networks     what is timed: operands' shapes, and a program over `Ops`
table, drawn_rows  the rows themselves, and rows drawn at random
ops, torch_ops     the contenders: how each library runs a program
layouts            the libraries' layouts of operands
prepare            a contender's program for one cell, compiled; and what the compiler tells
hlo_text           the text of an optimised program, without names
timing             interleaved rounds, paired ratios
session            one cell after another: equality first, then time
machine, results   conditions, the CSV file
command            options, the comparison of results, and the reports of the other commands
summary, readme    what follows from the numbers
"""
