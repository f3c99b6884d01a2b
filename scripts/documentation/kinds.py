"""The pages of the kinds, from the library's own table: nothing of it is written a second time."""

import inspect
import re

from convjax import kinds
from convjax.kinds import Kind
from documentation import names
from documentation.calls import ARGUMENTS, CALLS, KERNELS

BAR = "\\|"  # a bar inside a table
_LETTERS = """\
`N` is the batch. `I` and `O` are the input and output channels. `K1`, `K2`, … are the extents of
the kernel (`*K` stands for all of them, `K̂` for their extent when dilated). `G` is the number of
groups, `M` the channel multiplier and `r` the scale. `*space` stands for the spatial axes."""


def title(kind: Kind) -> str:
    """The title of its page: "Depthwise separable convolution" for "depthwise_separable"."""
    words = kind.name.replace("_", " ").replace("subpixel", "sub-pixel").capitalize()
    return words if words.endswith(("shuffle", "Hold")) else f"{words} convolution"


def linked(text: str) -> str:
    """A docstring's running text as Markdown: a public name in backticks becomes a link."""
    known = names.everything()

    def link(match: re.Match[str]) -> str:
        name = match.group(1)
        full = next((n for n in (name, f"convjax.{name}") if n in known), None)
        return f"{{py:obj}}`~{full}`" if full else match.group(0)

    return re.sub(r"(?<!`)`([\w.]+)`(?!`)", link, text)


def formula(kind: Kind) -> str:
    """The second paragraph of the function's docstring, which is its formula."""
    paragraphs = (inspect.getdoc(kind.function) or "").split("\n\n")
    return linked(paragraphs[1])


def sections(kind: Kind) -> str:
    """Which sections of the article treat it."""
    if not kind.section:
        return ""
    many = "," in kind.section
    subject, verb = ("Sections", "treat") if many else ("Section", "treats")
    return f" {subject} {kind.section} of the article {verb} it."


def equals(kind: Kind) -> list[str]:
    """The sentence on the dense convolution that it equals, if it is not one already."""
    name = {"resize": "resize_conv"}.get(kind.name, kind.name)
    function = names.everything().get(f"convjax.equivalents.{name}")
    if function is None:
        return []
    enlarges = "`conv_transpose` that equals" in (inspect.getdoc(function) or "")
    other = "transposed" if enlarges else "dense"
    role = f"{{py:obj}}`convjax.equivalents.{name}`"
    return [f"It equals a {other} convolution, with the kernel that {role} gives.", ""]


def operands(kind: Kind) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape in the example and shape in letters of x and of each kernel."""
    example = kind.example()
    named = KERNELS.get(kind.name, ("kernel",))[: len(example.kernels)]
    written = re.findall(r"\([^()]*\)", kind.kernels)
    found = [("x", example.x.shape, "(N, *space, I)")]
    for index, name in enumerate(named):
        found.append((name, example.kernels[index].shape, written[index]))
    return found


def call(kind: Kind) -> str:
    """The convjax call of the page."""
    arguments = ["x", ARGUMENTS.get(kind.name, "kernel")]
    if "padding" in kind.options:
        arguments.append('padding="VALID"')
    return f"convjax.{kind.function.__name__}({', '.join(arguments)})"


def _setup(kind: Kind) -> str:
    lines = ["import numpy as np", "import convjax"]
    lines += ["from convjax import interop"] * (kind.kernels != "none")
    lines += ["", "rng = np.random.default_rng(0)"]
    for name, shape, letters in operands(kind):
        lines.append(f"{name} = rng.standard_normal({shape}, np.float32)  # {letters}")
    lines += ["", f"ours = {call(kind)}", f"assert ours.shape == {_result(kind)}"]
    return "\n".join(lines)


def _result(kind: Kind) -> tuple[int, ...]:
    padding = {"padding": "VALID"} if "padding" in kind.options else {}
    return kind.example()(**padding).shape


def _fence(code: str) -> list[str]:
    return ["```python", code, "```", ""]


def _costs(kind: Kind) -> list[str]:
    padding = {"padding": "VALID"} if "padding" in kind.options else {}
    cost = kind.example().cost(**padding)
    parameters = f"{cost.params:,} parameters" if cost.params else "no parameters"
    count = f"convjax.cost.{kind.function.__name__}"
    return [
        "## Costs",
        "",
        f"Multiply-accumulates per output pixel: {kind.macs}.",
        "",
        f"The call below has {parameters} and takes {cost.macs:,} multiply-accumulates.",
        f"{{py:obj}}`{count}` and {{py:obj}}`convjax.cost_of` count them.",
        "",
        *equals(kind),
    ]


def page(kind: Kind) -> str:
    """The page of one kind."""
    author, address = kind.source
    others = [kind.function.__name__, *kind.also]
    lines = [f"# {title(kind)}", "", f"{kind.summary[0].upper()}{kind.summary[1:]}.", ""]
    lines += [f"Source: [{author}]({address}).{sections(kind)}", ""]
    lines += ["Functions: " + ", ".join(f"{{py:obj}}`convjax.{name}`" for name in others) + ".", ""]
    lines += ["## Formula", "", formula(kind), "", "## Shapes", ""]
    lines += ["| array | shape | in the example |", "|---|---|---|"]
    lines += [f"| `{name}` | `{letters}` | `{shape}` |" for name, shape, letters in operands(kind)]
    lines += [f"| result | | `{_result(kind)}` |", "", _LETTERS, ""]
    lines += _costs(kind)
    lines += ["## The call", "", *_fence(_setup(kind))]
    lines += ["## The same call in other libraries", ""]
    lines += ["The tests of this project run each of these and compare the numbers.", ""]
    lines += ["::::{tab-set}", ""]
    for library, code in CALLS[kind.name].items():
        lines += [f":::{{tab-item}} {library}", *_fence(code), ":::", ""]
    lines += ["::::", ""]
    return "\n".join(lines)


def table() -> str:
    """The table of docs/kinds.md: a row for each kind, with a link to its page."""
    header = ("kind", "what it does", "kernels", "MACs per output pixel")
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for kind in kinds.KINDS.values():
        shapes = kind.kernels if kind.kernels == "none" else f"`{kind.kernels}`"
        page = f"[{kind.name}](kinds/{kind.name}.md)"
        lines.append(f"| {page} | {kind.summary.replace('|', BAR)} | {shapes} | {kind.macs} |")
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """File names below ``docs/`` and their text."""
    return {f"kinds/{kind.name}.md": page(kind) for kind in kinds.KINDS.values()}
