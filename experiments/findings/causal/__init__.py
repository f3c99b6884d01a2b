"""Causal convolution with a state: a language model that generates by steps, a filter in chunks."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import convjax
from experiments.findings.causal.text_model import (
    DILATIONS,
    Plan,
    Text,
    documents,
    fit,
    generate,
    generate_anew,
    packed,
    prefill,
    spelled,
    step,
    whole,
)
from experiments.page.figures import Theme, chart, intervals
from experiments.page.report import Section
from experiments.page.verdicts import above, estimate
from experiments.run import experiment
from experiments.run.measure import call, integers
from experiments.run.settings import Settings

TAPS = 4
ARMS = {"4 taps": TAPS, "1 tap": 1}
RATE = 16_000  # samples a second
PARTS = tuple(ARMS)


class Measured(NamedTuple):
    """One arm: bits per character of every seed, after and before training, and a trained model."""

    bits: np.ndarray
    untrained: np.ndarray
    model: Any


PLANS = {
    "smoke": Plan(1, 4, length=32, rows=8, width=16, generated=12),
    "quick": Plan(2, 300),
    "standard": Plan(5, 600),
    "full": Plan(5, 5_000, length=256, rows=64, width=256, generated=500),
}
EXPECTED = {"standard": "10 small models of text, minutes on two cores, below 1 GB of memory."}


def run(settings: Settings) -> Section:
    """Run the experiment."""
    return experiment.run(settings, PLANS, PARTS, _measure, _report)


def _measure(settings: Settings, plan: Plan, part: str) -> Measured:
    text, _ = documents()
    runs = [
        fit(settings, plan, part, ARMS[part], text, seed) for seed in settings.seeds(plan.seeds)
    ]
    return Measured(
        np.array([after for _, after, _ in runs]),
        np.array([before for _, _, before in runs]),
        runs[0][0],
    )


def _report(settings: Settings, plan: Plan, found: dict[str, Measured]) -> Section:
    section = Section(
        "causal",
        "Causal convolution, whole and in steps",
        "A convolution that sees only the past can go on from a state, its last few inputs. A "
        "model of text is made of depthwise short convolutions (4 taps, dilated by 1, 2, 4 and 8, "
        "SiLU), as Mamba and its kin have them, between gates; it is trained on whole rows of "
        f"{plan.length} characters and generates character by character. The text is scikit-"
        "learn's description of its data sets, nine tenths of every file for training, the "
        f"rest for the test; {plan.steps} steps, {plan.seeds} seeds. Control: the same model with "
        "1 tap, which sees no past. And a low-pass filter goes over a sound in chunks.",
    )
    before, after = filter_claims(section)
    text, vocabulary = documents()
    model = found["4 taps"].model
    model_claims(section, plan, model, text)
    bits = {arm: each.bits for arm, each in found.items()}
    learning_claims(section, settings, bits, {arm: each.untrained for arm, each in found.items()})
    prompt = text.test[0][: plan.length // 2]
    tokens = generate(model, prompt, plan.generated)
    words = (spelled(prompt, vocabulary), spelled(tokens, vocabulary))
    _figures(section, bits, before, after, *words)
    return section


# ---- claims --------------------------------------------------------------------------------------


def model_claims(section: Section, plan: Plan, params: Any, text: Text) -> None:
    """Steps, prefixes and packs of a trained model, against whole rows."""
    rows = jnp.asarray(text.rows(plan.length)[:4, :-1])
    logits = call(whole, params, rows)

    def stepped(params: Any, rows: jax.Array) -> jax.Array:
        states = prefill(params, rows[:, :1])[1]
        states = [jnp.zeros_like(state) for state in states]

        def body(states: Any, token: jax.Array) -> Any:
            return step(params, states, token)[::-1]

        return jax.lax.scan(body, states, rows.T)[1].swapaxes(0, 1)

    scale = float(jnp.abs(logits).max())
    section.identity(
        "Predictions from the state, character by character, are those for the whole row",
        "equal",
        jnp.abs(call(stepped, params, rows) - logits).max() / scale,
        1e-4,
        "Relative to the largest logit; the matrix products between the convolutions sum in "
        "another order for one character than for a row.",
    )
    layer = params["blocks"][-1]
    x = params["embedding"][rows]
    dilation, channels = DILATIONS[-1], x.shape[-1]
    kernel = layer["kernel"]

    def at_once(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return convjax.causal_conv(
            x, kernel, kernel_dilation=dilation, feature_group_count=channels
        )

    def in_steps(x: jax.Array, kernel: jax.Array) -> jax.Array:
        state = convjax.init_state(x, kernel, kernel_dilation=dilation)

        def body(state: jax.Array, x_t: jax.Array) -> Any:
            y_t, state = convjax.causal_step(
                x_t, kernel, state, kernel_dilation=dilation, feature_group_count=channels
            )
            return state, y_t

        return jax.lax.scan(body, state, x.swapaxes(0, 1))[1].swapaxes(0, 1)

    section.identity(
        "… and the sums of the short convolution are the same to the last bit",
        "equal",
        jnp.abs(jax.jit(in_steps)(x, kernel) - jax.jit(at_once)(x, kernel)).max(),
        0.0 if jax.default_backend() == "cpu" else 1e-5,
    )
    prompt = text.test[0][: plan.length // 2]
    ways = [way(params, prompt, plan.generated) for way in (generate, generate_anew)]
    section.exact(
        f"The {plan.generated} likeliest next characters: from the state, and from the whole text "
        "anew for each",
        True,
        bool((ways[0] == ways[1]).all()),
    )
    held = sum(state.size for state in prefill(params, rows[:1])[1])
    section.exact(
        "The state holds 3 inputs of every channel times the dilation, however long the text is",
        (TAPS - 1) * sum(DILATIONS) * plan.width,
        held,
    )
    changed = call(whole, params, rows.at[:, -1].set((rows[:, -1] + 1) % text.characters))
    section.identity(
        "Another last character changes no prediction before it",
        "equal",
        jnp.abs(changed - logits)[:, :-1].max(),
        0.0,
    )
    middle = rows.shape[1] // 2
    ids = jnp.broadcast_to(jnp.arange(rows.shape[1]) >= middle, rows.shape).astype(jnp.int32)
    together = call(packed, params, rows, ids)
    apart = [call(whole, params, part) for part in (rows[:, :middle], rows[:, middle:])]
    section.identity(
        "Two texts packed into one row have the predictions of two rows",
        "equal",
        jnp.abs(together - jnp.concatenate(apart, 1)).max() / scale,
        1e-4,
        "Relative to the largest logit.",
    )


def learning_claims(
    section: Section,
    settings: Settings,
    bits: dict[str, np.ndarray],
    untrained: dict[str, np.ndarray],
) -> None:
    """From bits per character of every model's test, after and before training."""
    gain = estimate(bits["1 tap"] - bits["4 taps"])
    section.finding(
        "Short convolutions let the model see the past: bits per character that the control needs "
        f"more ({bits['1 tap'].mean():.2f} and {bits['4 taps'].mean():.2f})",
        None,
        *gain,
        above(settings, gain, what="the difference"),
    )
    for arm in bits:
        learned = estimate(untrained[arm] - bits[arm])
        section.finding(
            f"… control, {arm}: fewer bits than before training (difference)",
            None,
            *learned,
            above(settings, learned, what="the difference"),
        )


def low_pass(taps: int = 129, cut: float = 1_000.0) -> np.ndarray:
    """A windowed sinc that lets frequencies (Hz) below `cut` through."""
    place = np.arange(taps) - (taps - 1) / 2
    bell = np.sinc(2 * cut / RATE * place) * np.hamming(taps)
    return bell / bell.sum()


def sound(samples: int = 4_000) -> np.ndarray:
    """A tone of 440 Hz and one of 5 kHz."""
    time = np.arange(samples) / RATE
    return np.sin(2 * np.pi * 440 * time) + 0.6 * np.sin(2 * np.pi * 5_000 * time)


def in_chunks(x: jax.Array, kernel: jax.Array, sizes: Sequence[int]) -> jax.Array:
    """A causal filter over chunks of these sizes in turn, each from the state of the last one."""
    state, start = None, 0
    found: list[jax.Array] = []
    while start < x.shape[1]:
        chunk = x[:, start : start + sizes[len(found) % len(sizes)]]
        y, state = convjax.causal_conv(chunk, kernel, state=state, return_state=True)
        found.append(y)
        start += chunk.shape[1]
    return jnp.concatenate(found, 1)


def filter_claims(section: Section) -> tuple[np.ndarray, np.ndarray]:
    """A filter in chunks; the sound before and after it."""
    sizes = (160, 1, 37, 512)
    x, kernel = integers(1, 1, 1_500, 1), integers(2, 33, 1, 1)
    section.identity(
        f"In integers, a filter over chunks of {', '.join(map(str, sizes))} samples is the filter "
        "over the whole sound",
        "equal",
        jnp.abs(in_chunks(x, kernel, sizes) - call(convjax.causal_conv, x, kernel)).max(),
        0.0,
    )
    from scipy import signal

    samples, taps = sound(), low_pass()
    flipped = jnp.asarray(taps[::-1], jnp.float32)[:, None, None]  # the last tap meets the present
    wave = jnp.asarray(samples, jnp.float32)[None, :, None]
    streamed = np.asarray(in_chunks(wave, flipped, sizes))[0, :, 0]
    section.identity(
        "… and a low-pass of 129 taps over chunks of a sound is SciPy's filter over the whole",
        "equal",
        np.abs(streamed - signal.lfilter(taps, 1.0, samples)).max(),
        1e-5,
    )
    return samples, streamed


# ---- figures -------------------------------------------------------------------------------------


def _figures(
    section: Section,
    bits: dict[str, np.ndarray],
    samples: np.ndarray,
    streamed: np.ndarray,
    prompt: str,
    text: str,
) -> None:
    def filtered(axes: Axes, theme: Theme) -> None:
        time = np.arange(600) / RATE * 1e3
        axes.plot(time, samples[:600], color=theme.quiet, label="440 Hz and 5 kHz")
        axes.plot(time, streamed[:600], color=theme.one, label="filtered in chunks")
        for border in (160, 161, 198):
            axes.axvline(border / RATE * 1e3, color=theme.two, linestyle=":")
        axes.set(xlabel="milliseconds")
        axes.legend(loc="upper right", fontsize=8)

    def arms(axes: Axes, theme: Theme) -> None:
        intervals(axes, theme, {arm: estimate(values) for arm, values in bits.items()})
        axes.set(xlabel="bits per character, test")

    section.figure(
        "A state carries the past",
        "A low-pass filter over chunks of 160, 1, 37 and 512 samples (dotted: where they end) has "
        "no seams. The model of text needs fewer bits where its convolutions have 4 taps; what it "
        "writes after so short a training on 40 kB is dull, and the same with and without the "
        "state.",
        [chart("A filter", filtered, 460, 240), chart("The model", arms, 360, 130)],
        [("prompt", repr(prompt[-40:])), ("goes on", repr(text))],
    )
