"""What programs that were compiled for TPUs and GPUs tell; none of the devices is needed.

targets     the devices, and what has to be set before jax is imported
reading     one compiled program: cycles, bytes, passes, copies, collectives, temporaries
geometries  the table's rows: one layer each
table       compiles every row for every target, by lax and by convjax, into CSV files
summary     the table of the documentation's page
public      compiles every public function
failures    what could not be compiled: named at the end, with exit status 1
scale       compiles training steps of networks for one device and for many
"""
