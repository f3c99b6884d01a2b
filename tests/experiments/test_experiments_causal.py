"""What `causal` measures: text in rows, a model by steps, a filter in chunks, and its verdicts."""

import numpy as np
import pytest

for package in ("flax", "optax", "orbax.checkpoint", "matplotlib", "skimage", "sklearn"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from experiments.findings import causal  # noqa: E402
from experiments.findings.causal import text_model  # noqa: E402
from experiments.page.report import Section  # noqa: E402
from experiments.run.settings import Settings  # noqa: E402

STANDARD = Settings("standard")


def verdicts(section):
    return [claim.verdict for claim in section.claims]


def test_text_and_its_rows():
    text, vocabulary = text_model.documents()
    assert text.characters == len(set(vocabulary)) == len(vocabulary)
    assert len(text.train) == len(text.test) > 5
    start = text_model.spelled(text.train[0][:20], vocabulary)
    assert start.startswith(".. _breast_cancer")
    rows, test = text.rows(32), text.rows(32, test=True)
    assert rows.shape[1] == test.shape[1] == 33
    assert np.array_equal(rows[0][8:], rows[1][:-8]) and np.array_equal(test[0][32:], test[1][:1])
    # no row of the test is one of training
    assert not {row.tobytes() for row in rows} & {row.tobytes() for row in test}


def test_steps_prefixes_and_packs_of_an_untrained_model():
    text, _ = text_model.documents()
    params = text_model.initial(jax.random.key(0), text.characters, 16, 4)
    plan = text_model.Plan(1, 1, length=24, width=16, generated=5)
    section = Section("causal", "", "")
    causal.model_claims(section, plan, params, text)
    assert set(verdicts(section)) == {"exact", "reproduced"}
    assert len(section.claims) == 6
    prompt = text.test[0][:9]
    tokens = text_model.generate(params, prompt, 5)
    for n in range(5):  # greedy: each is the likeliest after all before
        before = jnp.asarray(np.concatenate([prompt, tokens[:n]]))[None]
        assert text_model.whole(params, before)[0, -1].argmax() == tokens[n]


def test_the_filter():
    section = Section("causal", "", "")
    before, after = causal.filter_claims(section)
    assert verdicts(section) == ["exact", "reproduced"]
    spectra = [np.abs(np.fft.rfft(sound[1000:])) for sound in (before, after)]
    tones = [round(f * 3000 / causal.RATE) for f in (440, 5_000)]
    low, high = ([s[t - 2 : t + 3].max() for s in spectra] for t in tones)
    assert low[1] > 0.9 * low[0] and high[1] < 0.01 * high[0]


def test_claims_on_learning_follow_the_numbers():
    spread = np.array([0, 0.01, 0.02])
    bits = {"4 taps": 2 + spread, "1 tap": 2.5 + 0.9 * spread}
    untrained = {arm: np.full(3, 7.0) for arm in bits}

    def found():
        section = Section("causal", "", "")
        causal.learning_claims(section, STANDARD, bits, untrained)
        return verdicts(section)

    assert found() == ["reproduced"] * 3
    bits["1 tap"], untrained["1 tap"] = bits["4 taps"] - 0.1 - 0.1 * spread, bits["1 tap"] - 3
    assert found() == ["not reproduced", "reproduced", "not reproduced"]
