"""What an experiment hands back, and the two files that all of them become.

An experiment fills one `Section`: claims (rows of the summary table and of results.json) and
figures. `write` puts both files in place at once, or leaves what was there.
"""

import contextlib
import dataclasses
import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

EXACT, REPRODUCED, NOT_REPRODUCED, UNDECIDED = VERDICTS = (
    "exact",
    "reproduced",
    "not reproduced",
    "undecided",
)


class Decision(NamedTuple):
    """A verdict and how it follows from the numbers."""

    verdict: str
    rule: str


@dataclasses.dataclass(frozen=True)
class Claim:
    """One statement of the article beside what was computed here.

    Attributes:
        experiment: name of the experiment that computed it.
        claim: the statement, in a few words.
        paper: what the article says: a number, a list of numbers or a few words.
        ours: what was computed.
        uncertainty: of `ours`, in its units; None where it is an exact integer or word.
        verdict: one of `VERDICTS`.
        rule: how the verdict follows from the two values.
        why: where the article is wrong or loose, what is right.
    """

    experiment: str
    claim: str
    paper: Any
    ours: Any
    uncertainty: Any
    verdict: str
    rule: str
    why: str = ""

    def row(self) -> dict[str, Any]:
        """The claim as results.json has it, the reason being part of the rule."""
        entries = {key: plain(value) for key, value in dataclasses.asdict(self).items()}
        why = entries.pop("why")
        entries["rule"] = f"{self.rule}. {why}" if why else self.rule
        return entries


@dataclasses.dataclass(frozen=True)
class Picture:
    """One panel of a figure.

    Attributes:
        label: printed above the picture.
        light: data URI.
        dark: data URI for dark pages; empty if `light` serves both.
        width: pixels on a page that is wide enough.
        pixelated: whether enlarged pixels must stay square.
    """

    label: str
    light: str
    width: int
    dark: str = ""
    pixelated: bool = False


@dataclasses.dataclass(frozen=True)
class Figure:
    """Panels side by side and the caption that says what to notice.

    Attributes:
        title: a heading.
        caption: a sentence or three; `code` in backticks.
        pictures: the panels.
        facts: (name, value) pairs of numbers computed for this figure.
        kind: name in `convjax.kinds` that the figure shows, if it shows one.
    """

    title: str
    caption: str
    pictures: Sequence[Picture]
    facts: Sequence[tuple[str, Any]] = ()
    kind: str = ""


@dataclasses.dataclass
class Section:
    """What one experiment found: its heading, its claims and its figures.

    `failed` is the traceback of one that did not get to its end, and found nothing.
    """

    name: str
    title: str
    intro: str
    claims: list[Claim] = dataclasses.field(default_factory=list)
    figures: list[Figure] = dataclasses.field(default_factory=list)
    failed: str = ""

    def exact(self, claim: str, paper: Any, ours: Any, why: str = "") -> None:
        """Add a claim about integers or words: the two are the same, or they are not."""
        verdict = EXACT if plain(paper) == plain(ours) else NOT_REPRODUCED
        self._add(claim, paper, ours, None, verdict, "the same in every digit", why)

    def near(self, claim: str, paper: float, ours: float, tolerance: float, why: str = "") -> None:
        """Add a claim about a number that the article rounds, or that holds in a limit."""
        verdict = REPRODUCED if abs(paper - ours) <= tolerance else NOT_REPRODUCED
        self._add(claim, paper, ours, 0, verdict, f"within {tolerance:.2g} of the article", why)

    def identity(
        self, claim: str, paper: str, error: Any, bound: float, why: str = "", what: str = ""
    ) -> None:
        """Add a claim that two results are equal: their largest difference is at most `bound`.

        Results computed in integers have a bound of 0, and are then exact.
        """
        error = float(error)
        verdict = NOT_REPRODUCED if not error <= bound else REPRODUCED if bound else EXACT
        what = what or "largest difference"
        ours = f"{what} {show(error)}"
        rule = f"{what} at most {bound:.2g}" if bound else f"{what} exactly 0"
        self._add(claim, paper, ours, bound or None, verdict, rule, why)

    def finding(
        self, claim: str, paper: Any, ours: Any, uncertainty: Any, decided: Decision, why: str = ""
    ) -> None:
        """Add a claim about something measured, with the verdict and the rule of `verdicts`."""
        self._add(claim, paper, ours, uncertainty, decided.verdict, decided.rule, why)

    def _add(self, claim: str, paper: Any, ours: Any, *rest: Any) -> None:
        self.claims.append(Claim(self.name, claim, paper, ours, *rest))

    def figure(
        self,
        title: str,
        caption: str,
        pictures: Sequence[Picture],
        facts: Sequence[tuple[str, Any]] = (),
        kind: str = "",
    ) -> None:
        """Add a figure."""
        self.figures.append(Figure(title, caption, pictures, facts, kind))


def plain(value: Any) -> Any:
    """`value` as JSON has it: numbers, strings, booleans, None and lists of them."""
    if isinstance(value, Fraction):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, (str, bool, int, float)) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return plain(np.asarray(value).tolist())


def show(value: Any) -> str:
    """`value` as a reader wants it: 86,400 · 0.1189 · 3, 7, 15 · yes."""
    value = plain(value)
    if value is None:
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    if isinstance(value, float):
        return f"{value:.2g}" if 0 < abs(value) < 1e-3 else f"{value:.5g}"
    if isinstance(value, list):
        if value and isinstance(value[0], list):
            return "; ".join(" ".join(show(entry) for entry in row) for row in value)
        return ", ".join(show(entry) for entry in value)
    return value


def show_with(value: Any, half: Any) -> str:
    """`value` ± `half` to the digits that the uncertainty leaves: 0.0331 ± 0.0012."""
    value, half = plain(value), plain(half)
    if isinstance(value, list) and isinstance(half, list):
        return ", ".join(show_with(*pair) for pair in zip(value, half, strict=True))
    known = isinstance(half, (int, float)) and half > 0 and isinstance(value, (int, float))
    if not known or isinstance(value, bool) or not math.isfinite(value + half):
        return show(value)
    digits = max(0, 1 - math.floor(math.log10(half)))
    return f"{round(value, digits) + 0.0:,.{digits}f} ± {half:,.{digits}f}"  # no -0


def count(claims: Iterable[Claim]) -> dict[str, int]:
    """How many claims have each verdict; verdicts that none has are left out."""
    found = Counter(claim.verdict for claim in claims)
    return {verdict: found[verdict] for verdict in VERDICTS if found[verdict]}


def summary(sections: Sequence[Section], width: int = 120) -> str:
    """The claims as a table of plain text, at most `width` columns wide."""
    verdict_width = max(map(len, VERDICTS))
    value_width = 24
    claim_width = max(20, width - verdict_width - 2 * value_width - 6)

    def line(*cells: str) -> str:
        widths = (claim_width, value_width, value_width, verdict_width)
        clipped = (
            cell if len(cell) <= size else cell[: size - 1] + "…"
            for cell, size in zip(cells, widths, strict=True)
        )
        padded = (cell.ljust(size) for cell, size in zip(clipped, widths, strict=True))
        return "  ".join(padded).rstrip()

    lines = [line("claim", "article", "computed here", "verdict")]
    for section in sections:
        if section.claims or section.failed:
            lines += ["", section.title]
        if section.failed:
            lines.append(f"failed: {section.failed.strip().splitlines()[-1]}"[:width])
        for claim in section.claims:
            text = claim.claim.replace("`", "")
            lines.append(line(text, show(claim.paper), show(claim.ours), claim.verdict))
    claims = [claim for section in sections for claim in section.claims]
    totals = ", ".join(f"{number} {verdict}" for verdict, number in count(claims).items())
    return "\n".join([*lines, "", f"{len(claims)} claims: {totals or 'none'}"])


def results(
    sections: Sequence[Section], made_with: dict[str, Any], to_come: Iterable[str] = ()
) -> str:
    """The text of results.json; it names experiments that failed, or are still to come."""
    found: dict[str, Any] = {
        "claims": [claim.row() for section in sections for claim in section.claims],
        "made_with": made_with,
        "failed": {section.name: section.failed for section in sections if section.failed},
        "to_come": list(to_come),
    }
    kept = {name: value for name, value in found.items() if value or name not in _SOMETIMES}
    return json.dumps(kept, indent=1, allow_nan=False) + "\n"


_SOMETIMES = ("failed", "to_come")


def write(directory: Path, texts: dict[str, str]) -> None:
    """Write the files `texts` (name: text) into `directory`: all of them, or none.

    Every file is complete under a temporary name before the first one is renamed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    ready: list[tuple[str, Path]] = []
    try:
        for name, text in texts.items():
            handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".tmp", dir=directory)
            ready.append((temporary, directory / name))
            with open(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
        for temporary, target in ready:
            os.replace(temporary, target)
    finally:
        for temporary, _ in ready:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
