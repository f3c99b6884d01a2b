"""A small model of text whose memory is depthwise short convolutions, and the text it learns."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import convjax
from experiments.run.measure import call
from experiments.run.settings import Settings
from experiments.run.training import Keeping, Schedule, Task, beginning, train

DILATIONS = (1, 2, 4, 8)  # of the blocks: with 4 taps a character sees 46, itself counted


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a profile does: characters per row, rows per step, channels, steps, and seeds."""

    seeds: int
    steps: int
    length: int = 96
    rows: int = 16
    width: int = 64
    generated: int = 100


# ---- text ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Text:
    """Documents as numbers of characters, split into training and test."""

    train: Sequence[np.ndarray]
    test: Sequence[np.ndarray]
    characters: int

    def rows(self, length: int, test: bool = False) -> np.ndarray:
        """(N, length + 1): every document cut into rows that share one character."""
        found = [
            document[start : start + length + 1]
            for document in (self.test if test else self.train)
            for start in range(0, len(document) - length, length if test else length // 4)
        ]
        return np.stack(found)


def documents() -> tuple[Text, str]:
    """The descriptions that scikit-learn ships, and their characters in order."""
    folder = resources.files("sklearn.datasets.descr")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".rst")), key=lambda f: f.name)
    texts = [file.read_text(encoding="utf-8") for file in files]
    vocabulary = "".join(sorted(set("".join(texts))))
    number = {character: place for place, character in enumerate(vocabulary)}
    found = [np.array([number[c] for c in text], np.int32) for text in texts]
    cuts = [len(document) * 9 // 10 for document in found]
    train = [document[:cut] for document, cut in zip(found, cuts, strict=True)]
    test = [document[cut:] for document, cut in zip(found, cuts, strict=True)]
    return Text(train, sorted(test, key=len, reverse=True), len(vocabulary)), vocabulary


def spelled(tokens: np.ndarray, vocabulary: str) -> str:
    return "".join(vocabulary[token] for token in np.asarray(tokens))


# ---- the model -----------------------------------------------------------------------------------


def initial(key: jax.Array, characters: int, width: int, taps: int) -> dict[str, Any]:
    """The parameters."""
    keys = iter(jax.random.split(key, 2 + 3 * len(DILATIONS)))

    def normal(*shape: int, fan: int) -> jax.Array:
        return jax.random.normal(next(keys), shape) / np.sqrt(fan)

    blocks = [
        {
            "norm": jnp.ones(width),
            "in": normal(width, 2 * width, fan=width),
            "kernel": normal(taps, 1, width, fan=taps),
            "bias": jnp.zeros(width),
            "out": normal(width, width, fan=width * len(DILATIONS)),
        }
        for _ in DILATIONS
    ]
    return {
        "embedding": normal(characters, width, fan=1),
        "blocks": blocks,
        "norm": jnp.ones(width),
        "head": normal(width, characters, fan=width),
    }


Convolution = Callable[[int, jax.Array, dict[str, Any], dict[str, Any]], jax.Array]


def network(params: Any, tokens: jax.Array, convolve: Convolution) -> jax.Array:
    """Logits of the next character; ``convolve(layer, x, block, options)`` is the convolution."""
    x = params["embedding"][tokens]
    for layer, (block, dilation) in enumerate(zip(params["blocks"], DILATIONS, strict=True)):
        signal, gate = jnp.split(_normalised(x, block["norm"]) @ block["in"], 2, -1)
        options = {
            "activation": "silu",
            "bias": block["bias"],
            "kernel_dilation": dilation,
            "feature_group_count": signal.shape[-1],
        }
        x = x + (convolve(layer, signal, block, options) * jax.nn.silu(gate)) @ block["out"]
    return _normalised(x, params["norm"]) @ params["head"]


def _normalised(x: jax.Array, scale: jax.Array) -> jax.Array:
    return x * jax.lax.rsqrt((x**2).mean(-1, keepdims=True) + 1e-6) * scale


def whole(params: Any, tokens: jax.Array, **given: Any) -> jax.Array:
    """(N, T, characters): for whole rows, as in training."""
    return network(
        params,
        tokens,
        lambda _, x, block, options: convjax.causal_conv(x, block["kernel"], **options, **given),
    )


def packed(params: Any, tokens: jax.Array, ids: jax.Array) -> jax.Array:
    """The same for rows that hold several texts."""
    return whole(params, tokens, segment_ids=ids)


def prefill(params: Any, tokens: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    """The logits of a prompt, and the states at its end."""
    states: list[jax.Array] = []

    def convolve(layer: int, x: jax.Array, block: Any, options: Any) -> jax.Array:
        y, state = convjax.causal_conv(x, block["kernel"], return_state=True, **options)
        states.append(state)
        return y

    return network(params, tokens, convolve), states


def step(
    params: Any, states: list[jax.Array], token: jax.Array
) -> tuple[jax.Array, list[jax.Array]]:
    """The logits after one character (N,), and the next states."""
    after: list[jax.Array] = []

    def convolve(layer: int, x: jax.Array, block: Any, options: Any) -> jax.Array:
        y, state = convjax.causal_step(x, block["kernel"], states[layer], **options)
        after.append(state)
        return y

    return network(params, token, convolve), after


@functools.partial(jax.jit, static_argnames="count")
def _by_steps(params: Any, prompt: jax.Array, count: int) -> jax.Array:
    logits, states = prefill(params, prompt[None])

    def body(carry: Any, _: None) -> Any:
        states, token = carry
        logits, states = step(params, states, token)
        return (states, logits.argmax(-1)), token

    first = (states, logits[:, -1].argmax(-1))
    return jax.lax.scan(body, first, None, count)[1][:, 0]


def generate(params: Any, prompt: np.ndarray, count: int) -> np.ndarray:
    """The likeliest continuation, character by character, each from the state of the one before."""
    return np.asarray(_by_steps(params, jnp.asarray(prompt), count))


def generate_anew(params: Any, prompt: np.ndarray, count: int) -> np.ndarray:
    """The same without a state: every character from the whole text so far."""
    tokens = np.zeros(len(prompt) + count, np.int32)
    tokens[: len(prompt)] = prompt
    for place in range(len(prompt), len(tokens)):
        logits = call(whole, params, jnp.asarray(tokens[None]))
        tokens[place] = logits[0, place - 1].argmax()
    return tokens[len(prompt) :]


# ---- training ------------------------------------------------------------------------------------


@functools.cache
def task(characters: int, width: int, taps: int) -> Task:
    def loss(params: Any, model: Any, batch: jax.Array, key: jax.Array) -> Any:
        return _nats(params, batch).mean(), model

    return Task(lambda key: (initial(key, characters, width, taps), ()), loss)


def _nats(params: Any, rows: jax.Array) -> jax.Array:
    logits = whole(params, rows[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, rows[:, 1:])


def fit(
    settings: Settings, plan: Plan, arm: str, taps: int, text: Text, seed: int
) -> tuple[Any, float, float]:
    """Trained parameters, and bits per character of the test after and before training."""
    made = task(text.characters, plan.width, taps)
    name = f"causal-{arm.replace(' ', '-')}-{seed}"
    folder = None if settings.runs is None else settings.runs / name
    about = {"taps": taps, "width": plan.width}
    trained = train(
        made,
        text.rows(plan.length),
        optax.adamw(optax.cosine_decay_schedule(4e-3, plan.steps), weight_decay=0.05),
        Schedule(plan.steps, plan.rows),
        seed=seed,
        name=name,
        keeping=Keeping(folder, settings.resume, settings.bars, about),
    )
    rows = jnp.asarray(text.rows(min(plan.length, 96), test=True))
    bits = [
        float(call(_nats, params, rows).mean() / np.log(2))
        for params in (trained.params, beginning(made, seed)[0])
    ]
    return trained.params, bits[0], bits[1]
