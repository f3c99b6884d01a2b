"""What each role looks like, on light and dark grounds, for the colour-blind too.

The hues are those of Okabe and Ito; no difference is told by hue only: padding is dashed, the
window has an outline, what is computed now is darker.

Source: M. Okabe, K. Ito, Color universal design, 2008, https://jfly.uni-koeln.de/color
"""

import dataclasses
from typing import NamedTuple

BLACK, ORANGE, SKY, GREEN = "#000000", "#e69f00", "#56b4e9", "#009e73"
YELLOW, BLUE, VERMILLION, PURPLE = "#f0e442", "#0072b2", "#d55e00", "#cc79a7"
LIGHT, DARK = 0, 1
STEPS = 13  # colours of a scale
GROUPS = 8  # groups that have a colour; the ninth has the first one's again


@dataclasses.dataclass(frozen=True)
class Style:
    """Fill, and the pen that outlines; "none" leaves it out."""

    fill: str = "none"
    stroke: str = "none"
    width: float = 1
    dash: tuple[float, ...] = ()
    opacity: float = 1


class Look(NamedTuple):
    """A role's style on a light and on a dark ground."""

    light: Style
    dark: Style


def _cell(light: tuple[str, str], dark: tuple[str, str], **pen: object) -> Look:
    return Look(Style(*light, **pen), Style(*dark, **pen))  # type: ignore[arg-type]


def _pen(light: str, dark: str, **pen: object) -> Look:
    return Look(Style("none", light, **pen), Style("none", dark, **pen))  # type: ignore[arg-type]


def _ink(light: str, dark: str) -> Look:
    return Look(Style(light), Style(dark))


def mixed(first: str, second: str, share: float) -> str:
    """The colour between two, `share` of the way to the second."""
    pairs = zip(_rgb(first), _rgb(second), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def brightness(colour: str) -> float:
    """0 for black, 1 for white, as the eye weighs the three lights."""
    linear = [c / 3294.6 if c < 11 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in _rgb(colour)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _between(stops: tuple[str, ...], place: float) -> str:
    at = place * (len(stops) - 1)
    first = min(int(at), len(stops) - 2)
    return mixed(stops[first], stops[first + 1], at - first)


PAGE = ("#ffffff", "#14181d")
_HEAT = (
    ("#f4f6f8", "#a9d3ee", "#3f97d0", "#0b4f86", "#062a4a"),
    ("#1d242c", "#174a70", "#2f86c4", "#8cc8f0", "#e9f5ff"),
)
_SIGNED = (
    ("#0b4f86", "#6fb4e2", "#f7f7f5", "#eda35a", "#a84400"),
    ("#a6d8ff", "#2f86c4", "#1d242c", "#c4661b", "#ffc88f"),
)
_GROUP_HUES = (SKY, PURPLE, YELLOW, GREEN, BLUE, "#999999", VERMILLION, ORANGE)

LOOKS: dict[str, Look] = {
    "page": _ink(*PAGE),
    "ink": _ink("#1b222a", "#e9eef3"),
    "quiet": _ink("#56616d", "#a3afbb"),
    "on-tap": _ink("#1b1200", "#1b1200"),
    "on-current": _ink("#ffffff", "#00140e"),
    "on-dark": _ink("#ffffff", "#ffffff"),
    "on-light": _ink("#11161c", "#11161c"),
    "input": _cell(("#d9edf9", "#6aa9d2"), ("#17384e", "#4a8fbd")),
    "middle": _cell(("#f5e4ee", "#bf8bad"), ("#432a3a", "#b57c9f")),
    "output": _cell(("#d6f0e7", "#5fb398"), ("#123d31", "#3f9c80")),
    "kernel": _cell(("#fcf3cc", "#c7ae3e"), ("#453c12", "#b9a23c")),
    "padding": _cell(("#ffffff", "#98a3ae"), ("#14181d", "#6d7a87"), dash=(3, 3)),
    "inserted": _cell(("#eef1f4", "#b3bcc5"), ("#20262d", "#55606c"), dash=(1, 3)),
    "copy": _cell(("#f1f8fd", "#6aa9d2"), ("#14242f", "#4a8fbd"), dash=(3, 3)),
    "cropped": _cell(("#eceff1", "#c2c9d0"), ("#1a1f25", "#3b444d"), opacity=0.6),
    "tap": _cell((ORANGE, "#8a5f00"), (ORANGE, "#ffd98a"), width=1.5),
    "tap-zero": _cell(("#fbe9c4", "#b98a2a"), ("#4d3a12", "#c7972f"), width=1.5, dash=(3, 3)),
    "current": _cell(("#00785a", "#00402f"), ("#2fd0a3", "#d2fff0"), width=2),
    "fed": _cell(("#7fd3ba", "#00644a"), ("#14664d", "#aef5dd"), width=1.5),
    "window": _pen(VERMILLION, "#ff8a3d", width=3),
    "link": _pen(VERMILLION, "#ff8a3d", width=1.4, opacity=0.65),
    "outline": _pen("#56616d", "#a3afbb", width=1.2),
    "axis": _pen("#8a949e", "#77838f", width=1),
    "arrow": _pen("#56616d", "#a3afbb", width=1.8),
    "face": _cell(("#e4eaf0", "#56616d"), ("#28313a", "#a3afbb"), width=1.2),
    "front": _cell(("#cfd9e3", "#56616d"), ("#35404b", "#a3afbb"), width=1.2),
    "plate": _cell(("#f5f7f9", "#c2cad2"), ("#1c2229", "#3d4751")),
    "bar": _cell((BLUE, "none"), ("#4ea8de", "none")),
    "bar-2": _cell((ORANGE, "none"), (ORANGE, "none")),
    "curve-0": _pen(BLUE, "#5cb3ea", width=2.2),
    "curve-1": _pen(VERMILLION, "#ff8a3d", width=2.2),
    "curve-2": _pen(GREEN, "#2fd0a3", width=2.2),
    "curve-3": _pen("#a0527d", "#e39cc4", width=2.2),
    "area": _cell(("#f6d9a0", "none"), ("#5c4414", "none")),
    "block": _pen(VERMILLION, "#ff8a3d", width=1.6),
}
for _number, _hue in enumerate(_GROUP_HUES):
    _edge = mixed(_hue, "#000000", 0.35), mixed(_hue, "#ffffff", 0.25)
    LOOKS[f"group-{_number}"] = _cell(
        (mixed(_hue, "#ffffff", 0.55), _edge[0]), (mixed(_hue, "#000000", 0.62), _edge[1])
    )
    LOOKS[f"link-{_number}"] = _pen(_edge[0], _edge[1], width=1.3, opacity=0.8)
for _number in range(STEPS):
    for _name, _scale in (("heat", _HEAT), ("signed", _SIGNED)):
        _fills = [_between(stops, _number / (STEPS - 1)) for stops in _scale]
        LOOKS[f"{_name}-{_number}"] = Look(Style(_fills[0], "none"), Style(_fills[1], "none"))
        LOOKS[f"on-{_name}-{_number}"] = _ink(
            *("#000000" if brightness(fill) > 0.179 else "#ffffff" for fill in _fills)
        )


def group_role(group: int) -> str:
    """The role of what belongs to a group."""
    return f"group-{group % GROUPS}"


def heat(value: float, high: float, low: float = 0.0) -> str:
    """The role of a value between `low` and `high`: one of `STEPS`."""
    share = (value - low) / (high - low) if high > low else 0.0
    return f"heat-{round(min(max(share, 0.0), 1.0) * (STEPS - 1))}"


def signed(value: float, limit: float) -> str:
    """The role of a signed value: blue below zero, orange above, the page's colour at zero."""
    share = 0.5 + 0.5 * (value / limit if limit else 0.0)
    return f"signed-{round(min(max(share, 0.0), 1.0) * (STEPS - 1))}"


def look(role: str) -> Look:
    """What a role looks like; a role that is a colour fills with it."""
    if role.startswith("#"):
        return Look(Style(role), Style(role))
    return LOOKS[role]
