"""The page: one HTML file that needs nothing but itself."""

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.page.report import Claim, Figure, Picture, Section, count, show, show_with

TITLE = "Every kind of convolution, computed"
LEAD = (
    "A photograph goes through every kind of convolution of the library, and every worked number "
    "of the article “A comprehensive introduction to different types of convolutions in deep "
    "learning” is computed again by running the library. Nothing in the “computed here” column is "
    "typed in. Where the article is wrong, the row says so and gives the right value. Findings "
    "about trained networks stand beside controls; ± is half of a 95 % interval over seeds."
)
MEANINGS = {
    "exact": "the same in every digit",
    "reproduced": "equal within the stated bound",
    "not reproduced": "does not hold here, or only in special cases",
    "undecided": "this run cannot tell",
}
SIGNS = {"exact": "=", "reproduced": "✓", "not reproduced": "✗", "undecided": "?"}
# Nothing but inlined pictures and style can load, whatever the page contains.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class ToCome(NamedTuple):
    """An experiment that has not run yet: its name, what it is about, and how long it takes."""

    name: str
    about: str
    expected: str


RELOAD = 15  # seconds after which a page with sections to come loads itself again


def page(
    sections: Sequence[Section],
    made_with: dict[str, Any],
    to_come: Sequence[ToCome] = (),
    *,
    stopped: bool = False,
) -> str:
    """The whole page as HTML; while sections are to come it lists them, and reloads itself.

    `stopped` says that those will not come: the run was interrupted.
    """
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    claims = [claim for section in sections for claim in section.claims]
    footer = " · ".join(f"{prose(name)} {prose(show(value))}" for name, value in made_with.items())
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            *([f'<meta http-equiv="refresh" content="{RELOAD}">'] * bool(to_come and not stopped)),
            f"<title>{TITLE}</title>\n<style>\n{style}</style>\n</head>\n<body>",
            f"<h1>{TITLE}</h1>\n<p>{prose(LEAD)}</p>",
            _counts(claims),
            *([_notice(len(to_come), stopped)] if to_come else []),
            _summary(sections),
            *(_section(section) for section in sections),
            *([_to_come(to_come, stopped)] if to_come else []),
            f"<footer>Made with: {footer}</footer>\n</body>\n</html>\n",
        ]
    )


def _notice(number: int, stopped: bool) -> str:
    """Above all, where sections are missing."""
    some = f'<a href="#to-come">{number} section{"s" * (number > 1)}</a>'
    if stopped:
        return f'<p class="notice card">This run was stopped: {some} were not computed.</p>'
    return (
        f'<p class="notice card">{some} still to come. This page loads itself again every '
        f"{RELOAD} seconds.</p>"
    )


def _to_come(waiting: Sequence[ToCome], stopped: bool) -> str:
    items = "\n".join(
        f"<li><b>{prose(one.name.replace('_', ' '))}</b>: {prose(one.about)} "
        f"<small>{prose(one.expected)}</small></li>"
        for one in waiting
    )
    heading = "Not computed" if stopped else "Still to come"
    return f'<section id="to-come">\n<h2>{heading}</h2>\n<ul>\n{items}\n</ul>\n</section>'


def _failure(section: Section) -> str:
    return (
        f'<section id="{section.name}">\n<h2>{prose(section.title)}</h2>\n'
        '<p><span class="verdict not-reproduced">✗ failed</span> This experiment did not get to '
        "its end. What it found is not here; the other sections do not depend on it.</p>\n"
        f"<pre>{html.escape(section.failed)}</pre>\n</section>"
    )


def prose(text: str) -> str:
    """Text as HTML, `code` in backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def verdict(word: str) -> str:
    return f'<span class="verdict {word.replace(" ", "-")}">{SIGNS[word]} {word}</span>'


def _summary(sections: Sequence[Section]) -> str:
    """Every claim, a group for every section, which opens at a click."""
    groups = [
        f'<details id="claims-{section.name}"><summary><b>{prose(section.title)}</b> '
        f"{_tally(section)}</summary>\n{_table(section)}\n</details>"
        for section in sections
    ]
    return (
        "<p>Each line opens to its statements: what is claimed, the article’s or the paper’s "
        "value, ours with its uncertainty, the verdict and its rule. Figures follow below.</p>\n"
        f'<nav id="summary" class="card" aria-label="Summary">\n{chr(10).join(groups)}\n</nav>'
    )


def _tally(section: Section) -> str:
    """How many claims of a section have which verdict."""
    if section.failed:
        return '<span class="verdict not-reproduced">✗ failed</span>'
    return " ".join(
        f'<span class="verdict {word.replace(" ", "-")}" title="{word}">{SIGNS[word]} {n}</span>'
        for word, n in count(section.claims).items()
    )


def _counts(claims: Sequence[Claim]) -> str:
    found = count(claims)
    items = "".join(
        f"<li>{verdict(word).replace('</span>', f': {number}</span>')} {MEANINGS[word]}</li>"
        for word, number in found.items()
    )
    return f'<ul class="counts">{items}</ul>'


def _table(section: Section) -> str:
    rows = "\n".join(map(_row, section.claims))
    head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
    return (
        f'<table class="claims"><thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>'
    )


SMALL = 220  # pixels: two such panels stand side by side on a phone
COLUMNS = ("Claim", "The article", "Computed here", "Verdict")


def _row(claim: Claim) -> str:
    notes = f"<small>{prose(claim.why)}</small>" if claim.why else ""
    rule = f"<small>rule: {prose(claim.rule)}</small>"
    ours = (
        show(claim.ours) if claim.uncertainty is None else show_with(claim.ours, claim.uncertainty)
    )
    cells = (
        f"<td>{prose(claim.claim)}{notes}{rule}</td>",
        f'<td data-label="{COLUMNS[1]}">{prose(show(claim.paper))}</td>',
        f'<td data-label="{COLUMNS[2]}">{prose(ours)}</td>',
        f"<td>{verdict(claim.verdict)}</td>",
    )
    following = " following" if claim.claim.startswith("…") else ""
    return f'<tr class="{claim.verdict.replace(" ", "-")}{following}">{"".join(cells)}</tr>'


def _section(section: Section) -> str:
    if section.failed:
        return _failure(section)
    figures = "\n".join(_figure(figure) for figure in section.figures)
    return (
        f'<section id="{section.name}">\n<h2>{prose(section.title)}</h2>\n'
        f"<p>{prose(section.intro)}</p>\n"
        f'<p><a href="#claims-{section.name}">Its statements</a>: {_tally(section)}</p>\n'
        f"{figures}\n</section>"
    )


def _figure(figure: Figure) -> str:
    panels = "".join(_panel(picture, figure) for picture in figure.pictures)
    pairs = "".join(
        f"<div><dt>{prose(name)}</dt><dd>{prose(show(value))}</dd></div>"
        for name, value in figure.facts
    )
    facts = f'<dl class="facts">{pairs}</dl>' if pairs else ""
    kind = f' data-kind="{figure.kind}"' if figure.kind else ""
    return (
        f'<figure class="card"{kind}><h3>{prose(figure.title)}</h3>\n'
        f'<div class="panels">{panels}</div>\n'
        f"<figcaption><p>{prose(figure.caption)}</p>{facts}</figcaption></figure>"
    )


def _panel(picture: Picture, figure: Figure) -> str:
    alt = html.escape(f"{figure.title}: {picture.label}".replace("`", ""), quote=True)
    style = ' class="pixelated"' if picture.pixelated else ""
    image = f'<img{style} src="{picture.light}" alt="{alt}" width="{picture.width}">'
    if picture.dark:
        query = "screen and (prefers-color-scheme: dark)"
        image = f'<picture><source media="{query}" srcset="{picture.dark}">{image}</picture>'
    shape = "panel chart" if picture.dark else "panel"
    shape += " small" if picture.width <= SMALL else ""
    return (
        f'<div class="{shape}" style="width:{picture.width}px">'
        f"<span>{prose(picture.label)}</span>{image}</div>"
    )
