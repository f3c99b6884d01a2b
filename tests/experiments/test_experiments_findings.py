"""What `filter_groups` and `checkerboard` measure, and that verdicts follow the numbers."""

import functools

import numpy as np
import pytest

for package in ("flax", "optax", "orbax.checkpoint", "matplotlib", "skimage", "sklearn"):
    pytest.importorskip(package, reason="needs the `experiments` extra")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

import convjax  # noqa: E402
from convjax.analysis import phase_gains  # noqa: E402
from experiments.article import true_convolution  # noqa: E402
from experiments.findings import checkerboard, filter_groups  # noqa: E402
from experiments.findings.checkerboard import discriminators, generators, search, upscaling  # noqa: E402
from experiments.findings.checkerboard.generators import Choices  # noqa: E402
from experiments.findings.filter_groups import claims as groups_report  # noqa: E402
from experiments.findings.filter_groups import scores  # noqa: E402
from experiments.findings.filter_groups.scores import AUTHORS, OTHERS, Measured, blocks_of  # noqa: E402
from experiments.page.report import Section  # noqa: E402
from experiments.run.networks import Network, crop_and_mirror  # noqa: E402
from experiments.run.settings import Settings  # noqa: E402
from experiments.run.training import beginning  # noqa: E402

# Compiling takes far longer than running.
hastily = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# ---- filter groups ---------------------------------------------------------------------------


def planted(groups, share, seed):
    """A map (32, 32) whose share `share` of energy is in the blocks, and nearly so R, E and N."""
    rng = np.random.default_rng(seed)
    noise = np.abs(rng.normal(size=(32, 32)) * 0.05 + 1) * rng.choice([-1, 1], (32, 32))
    inside = np.kron(np.eye(groups), np.ones((32 // groups,) * 2)).astype(bool)
    matrix = np.where(inside, np.sqrt(share * groups), np.sqrt((1 - share) * groups / (groups - 1)))
    return 0.01 * (matrix * noise).astype(np.float32)


def measured(groups, seed, trained, untrained):
    def maps(share, offset):
        shown = planted(max(groups, 2), share if groups > 1 else 0.5, 10 * seed + offset)
        raw = planted(max(groups, 2), 1 / max(groups, 2), 10 * seed + offset)
        found = {"whitened": shown, "raw": raw, "pearson": raw, "linear": shown}
        if groups > 1:
            found["2a"] = planted(2 * groups, share, 10 * seed + offset)
            found["2b"] = planted(2 * groups, 1 / (2 * groups), 10 * seed + offset)
            found["3b"] = planted(groups, 1 / groups, 10 * seed + offset)
        return found

    after = maps(trained, 0)
    null = {g: filter_groups.permuted(after["whitened"], g, seed)
            for g in ((2, 4, 8, 16) if groups == 1 else (groups,))}  # fmt: skip
    others = {name: filter_groups.permuted(after[name], blocks_of(name, groups), seed)
              for name in (OTHERS if groups > 1 else ())}  # fmt: skip
    accuracy = 0.9 + 0.001 * seed
    return Measured(
        groups, seed, maps(untrained, 1), after, null, others, accuracy, accuracy + 0.05, 9, 99
    )


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """Figures are drawn in the smoke run of the whole command."""
    monkeypatch.setattr(groups_report, "figures", lambda *arguments: None)


def claims(trained, untrained, profile="standard", groups=(1, 2)):
    """The claims on two groups, of three seeds."""
    found = [measured(g, seed, trained, untrained) for g in groups for seed in range(3)]
    section = groups_report.section(Settings(profile), found, "Planted.")
    # rows that begin with "…" go on from the one before
    texts = [claim.claim for claim in section.claims]
    return dict(zip((f"{n}: {text}" for n, text in enumerate(texts)), section.claims, strict=True))


def row(found, words):
    (claim,) = [claim for text, claim in found.items() if words in text]
    return claim


def verdict(found, words):
    return row(found, words).verdict


def test_verdicts_follow_planted_maps():
    found = claims(trained=(1 + AUTHORS[2].N) / 2, untrained=0.68)
    for words in ("2 groups in conv3a: the map", "alone gives", "scored with 2 blocks",
                  "scored with 16 blocks", "the whitening", "accuracy of no groups",
                  "do not need the ReLU", "before the ReLU too", "conv2a and conv2b",
                  "conv3a and conv3b"):  # fmt: skip
        assert verdict(found, words) == "reproduced", words
    for words in ("… control: above", "… null: above"):  # of both pairs of layers
        verdicts = [claim.verdict for text, claim in found.items() if words in text]
        assert verdicts == ["reproduced"] * 2, words
    assert row(found, "conv1c and conv2a").paper == pytest.approx(0.501, abs=1e-3)
    numbers = [claim for text, claim in found.items() if "the map of the trained" in text]
    assert numbers[0].ours == pytest.approx(AUTHORS[2].N, abs=0.03)
    assert 0 < numbers[0].uncertainty < 0.1


def test_training_that_adds_nothing_is_said_to_add_nothing():
    control, pair = "1: … control: above the same", "5: … control: above the same"
    found = claims(trained=0.6, untrained=0.75, groups=(2,))
    for words in (control, pair, "0: 2 groups in conv3a", "before the ReLU too"):
        assert verdict(found, words) == "not reproduced", words
    assert verdict(found, "2: … null: above") == "reproduced"
    same = claims(trained=0.7, untrained=0.7, groups=(2,))
    assert verdict(same, control) == verdict(same, pair) == "undecided"
    smoke = claims(trained=0.9, untrained=0.6, profile="smoke", groups=(2,))
    assert verdict(smoke, control) == "undecided"


def test_the_level_outside_the_blocks():
    """Of planted maps it is sqrt((1 - share)/(share*(groups - 1))) of the entries inside."""
    assert scores.off_block(np.array([[4, -1], [2, -4]]), 2) == 1.5 / 4
    assert scores.panel_mean(np.array([[4, -1], [2, -4]])) == 2.75 / 4
    found = claims(trained=0.8, untrained=0.6, groups=(2, 8))
    level = row(found, "Outside the blocks")
    expected = (np.sqrt(0.25 / 7) - np.sqrt(0.25)) / 2
    assert level.verdict == "reproduced" and level.ours == pytest.approx(expected, rel=0.25)
    assert verdict(found, "falls more than before training") == "not reproduced"
    assert verdict(found, "so does the whole panel") == "reproduced"


def test_the_plain_covariance_stands_beside_the_authors():
    found = claims(trained=0.6, untrained=0.5, groups=(16,))
    e, r = row(found, "covariance of 16 groups: E"), row(found, "covariance of 16 groups: R")
    assert (e.paper, r.paper) == (0.188, 1.84)
    assert e.ours == pytest.approx(1 / 16, abs=0.01) and r.ours == pytest.approx(1, abs=0.05)
    assert (e.verdict, r.verdict) == ("not reproduced", "not reproduced")


def test_permutations_are_at_chance():
    draws = filter_groups.permuted(planted(8, 0.9, 0), 8, seed=1)
    assert draws.shape == (200,) and len(set(draws.tolist())) > 150
    assert abs(draws.mean()) < 0.02 and scores.n_score(planted(8, 0.9, 0), 8) > 0.8


def test_maps_of_responses():
    """Pearson is the covariance of standardised channels; singular values are at most 1."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(40, 3, 3, 4)).astype(np.float32)
    second = (first @ rng.normal(size=(4, 5)) + rng.normal(size=(40, 3, 3, 5))).astype(np.float32)
    second[..., 3] = 2.0  # a dead channel
    found = filter_groups.maps(first, second, relu=False)
    a, b = first.reshape(-1, 4), second.reshape(-1, 5)
    alive = [0, 1, 2, 4]
    expected = np.corrcoef(a, b[:, alive], rowvar=False)[:4, 4:]
    assert found["pearson"][:, alive] == pytest.approx(expected, abs=1e-4)
    assert not found["pearson"][:, 3].any() and np.abs(found["whitened"][:, 3]).max() < 1e-4
    assert np.linalg.svd(found["whitened"], compute_uv=False)[0] <= 1 + 1e-5
    rectified = filter_groups.maps(first, second)  # after ReLU is the default
    positive = filter_groups.maps(np.maximum(first, 0), np.maximum(second, 0), relu=False)
    assert rectified["raw"] == pytest.approx(positive["raw"], abs=1e-6)
    assert np.abs(rectified["raw"] - found["raw"]).max() > 0.1
    # one pixel of a smaller map stands for four of the larger
    small = second[:, :1, :1]
    enlarged = filter_groups.maps(first[:, :2, :2], np.repeat(np.repeat(small, 2, 1), 2, 2))
    assert filter_groups.maps(first[:, :2, :2], small)["raw"] == pytest.approx(enlarged["raw"])


def test_responses_are_those_of_the_layers():
    """Before ReLU; normalised by this batch; grouped as planned."""
    plan = filter_groups.PLANS["smoke"]
    network = Network(lambda rngs: filter_groups.network_in_network(plan.features, 2, rngs, 3, 10))
    params, model = hastily(network.initial)(jax.random.key(0))
    images = jnp.asarray(np.random.default_rng(0).normal(size=(6, 16, 16, 3)), jnp.float32)
    found = hastily(lambda *numbers: filter_groups.responses(network, *numbers))(
        params, model, images
    )
    extents = {name: response.shape[1] for name, response in found.items()}
    assert extents == {"1c": 16, "2a": 8, "2b": 8, "2c": 8, "3a": 4, "3b": 4}
    for response in found.values():
        assert response.shape[-1] == 8 and response.min() < 0
        assert np.asarray(response).mean((0, 1, 2)) == pytest.approx(0, abs=1e-5)
    module = network.merged(params, model, training=True)
    assert module.layers[3].conv.kernel.shape == (5, 5, 2, 8)  # 4 groups
    assert module.layers[6].conv.kernel.shape == (3, 3, 4, 8)  # 2 groups


def test_crops_and_mirrors_keep_pixels():
    images = jnp.arange(1, 1 + 5 * 8 * 8 * 1.0).reshape(5, 8, 8, 1)
    found = np.asarray(crop_and_mirror(images, jax.random.key(0), margin=2))
    assert found.shape == images.shape
    for old, new in zip(np.asarray(images), found, strict=True):
        kept = new[new > 0]
        assert len(kept) >= 36 and set(kept) <= set(old.flat)
    steps = np.diff(found[:, 4, 2:6, 0], axis=1)
    assert set(steps.flat) == {-1, 1}  # some are mirrored, some are not


# ---- checkerboards ---------------------------------------------------------------------------


def test_equalised_kernels_have_one_sum_and_are_closest():
    kernel = jax.random.normal(jax.random.key(0), (5, 5, 3, 2))
    even = checkerboard.equalised(kernel, 2)
    gains = phase_gains(even, 2)
    assert gains == pytest.approx(np.broadcast_to(gains[:1, :1], gains.shape), abs=1e-5)
    assert checkerboard.equalised(even, 2) == pytest.approx(np.asarray(even), abs=1e-6)
    # a projection: what was taken away is constant on every phase
    change = np.asarray(kernel - even)
    assert change[::2, ::2] == pytest.approx(
        np.broadcast_to(change[:1, :1], (3, 3, 3, 2)), abs=1e-5
    )


def test_the_uncorrected_fraction_is_the_definition():
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)) + np.arange(8)[:, None, None]
    found = generators.uncorrected(jnp.asarray(images), 2)
    phases = images.reshape(2, 4, 2, 4, 2, 3).mean((1, 3))
    assert found == pytest.approx(phases.var((1, 2)) / images.var((1, 2)), rel=1e-4)


def test_only_deconvolutions_draw_checkerboards():
    draw = hastily(generators.generator, static_argnums=(1, 2))
    choices = Choices()
    images = [draw(generators.numbers(0, 0, choices), n, choices) for n in (0, 2)]
    assert images[0].shape == (16, 32, 32, 3)
    none, two = (float(generators.uncorrected(x, 4).mean()) for x in images)
    assert none < 0.02 < 0.1 < two


@pytest.mark.parametrize("smoothed", [False, True])
def test_choices_of_a_generator(smoothed):
    """Linear, each picture by itself: a scaled input is no other, and one deconvolution is flat."""
    choices = Choices(4, slope=1.0, per_picture=True, smoothed=smoothed)
    noise, weights = generators.numbers(0, 3, choices)
    assert [w.shape[-2:] for w in weights] == (
        [(128, 64), (64, 32), (32, 32), (32, 3)] if smoothed else [(128, 64), (64, 32), (32, 3)]
    )
    draw = hastily(generators.generator, static_argnums=(1, 2))
    images = draw((noise, weights), 1, choices)
    assert images.shape == (16, 32, 32, 3)
    alone = draw((5 * noise[:1] + 1, weights), 1, choices)
    assert alone[0] == pytest.approx(np.asarray(images[0]), abs=1e-3)
    assert float(generators.uncorrected(images, 2).mean()) < 0.02


def test_a_printed_range_has_all_that_rounds_to_it():
    assert generators.printed((0.29, 0.35)) == pytest.approx((0.285, 0.355))
    assert generators.printed((0.004, 0.0065)) == pytest.approx((0.0035, 0.00655))
    assert generators.printed((0.008, 0.008)) == pytest.approx((0.0075, 0.0085))


MIDDLES = np.array([sum(authors) / 2 for *_, authors in search.RANGES])


def means(outside=(), wide=()):
    """Of 20 generators: the middles of the printed ranges, but for some columns."""
    noise = np.random.default_rng(0).normal(size=(20, 9)) * 1e-3 * MIDDLES
    noise[:, list(wide)] *= 1e3
    return MIDDLES * np.where(np.isin(range(9), outside), 2, 1) + noise


def test_means_are_judged_by_the_printed_ranges():
    section = Section("checkerboard", "Planted", "")
    search.judged(section, Settings("standard"), "any", means((1, 8), (2,)))
    verdicts = [claim.verdict for claim in section.claims]
    assert verdicts == [
        {1: "not reproduced", 8: "not reproduced", 2: "undecided"}.get(column, "reproduced")
        for column in range(9)
    ]
    assert section.claims[0].paper == [0.102, 0.113]


@pytest.mark.parametrize(
    ("planted_means", "most", "verdict"),
    [
        ([means((0,)), means()], 9, "reproduced"),
        ([means((0,)), means((0, 4))], 8, "not reproduced"),
        ([means((0,)), means(wide=(3,))], 9, "undecided"),
    ],
)
def test_the_search_says_what_it_found(planted_means, most, verdict):
    section = Section("checkerboard", "Planted", "")
    found = dict(zip(search.GRID, planted_means, strict=False))
    search.searched(section, Settings("standard"), found)
    (claim,) = section.claims
    assert (claim.paper, claim.ours, claim.verdict) == (9, most, verdict)
    outside = "Outside for all of them: the last two layers, phase-variance fraction at period 2."
    assert (outside in claim.why) == (verdict == "not reproduced")


def spreads(low, high, profile="standard"):
    """The verdict where 95 % of our pictures lie about within 0.1 to 0.3."""
    values = np.linspace(0.095, 0.305, 1000).reshape(2, 25, 20)
    section = Section("checkerboard", "Planted", "")
    generators.spread(section, Settings(profile), "A claim", (low, high), values, "Why.")
    (claim,) = section.claims
    assert claim.paper == [low, high] and claim.ours == pytest.approx([0.1, 0.3], abs=0.001)
    return claim.verdict


def test_published_pictures_are_compared_with_the_spread_of_ours():
    assert spreads(0.102, 0.113) == "reproduced"
    assert spreads(0.05, 0.113) == "undecided"  # some of them
    assert spreads(0.31, 0.35) == spreads(0.01, 0.09) == "not reproduced"
    assert spreads(0.102, 0.113, "smoke") == "undecided"


@pytest.mark.parametrize("hits, verdict", [(10, "reproduced"), (1, "undecided"), (0, "undecided")])
def test_pictures_that_have_all_published_values_at_once(hits, verdict):
    """Not those that have two of the three."""
    middle = [0.107, 0.32, 0.15]
    values = np.broadcast_to([middle[0], middle[1], 0.5], (3, 20, 4, 3)).copy()
    values.reshape(60, 4, 3)[:hits, 0] = middle
    section = Section("checkerboard", "Planted", "")
    where, published = next(iter(generators.PUBLISHED.items()))
    generators._at_once(section, Settings("standard"), where, published, values)
    (claim,) = section.claims
    assert claim.ours == pytest.approx(hits / 240) and claim.verdict == verdict
    assert f"{hits} of 240 pictures, by {hits} of 60 generators" in claim.why


def test_gradients_of_discriminators(monkeypatch):
    """Linear ones: flat without strides, of period 8 with three of them; borders left out."""
    monkeypatch.setattr(discriminators, "SLOPE", 1.0)
    weights, photo = discriminators.numbers(0, 0), jnp.zeros((1, 28, 28, 3))
    gradient = hastily(discriminators.gradient, static_argnums=2)
    plain, strided = (
        np.asarray(gradient(weights, photo, discriminators.ARMS[name]))[0]
        for name in ("plain", "strided")
    )
    inner = plain[4:-4, 4:-4]
    assert inner == pytest.approx(np.broadcast_to(inner[:1, :1], inner.shape), abs=1e-6)
    limit = float(np.abs(strided).max())
    assert strided[7:13, 7:21] == pytest.approx(strided[15:21, 7:21], abs=1e-5 * limit)
    assert np.ptp(strided[7:21, 7:21], axis=(0, 1)).min() > 0.1 * limit


def test_cosines_are_of_filters():
    one = np.array([[[1.0, 0.0]], [[0.0, 2.0]]])  # two filters of two taps
    other = np.array([[[2.0, 1.0]], [[0.0, 1.0]]])
    assert true_convolution.cosines(one, other) == pytest.approx([1, np.sqrt(0.5)])


@pytest.mark.parametrize("name", upscaling.ARMS)
def test_arms_enlarge_by_four_and_the_cures_keep_a_constant(name):
    task, network = upscaling.task_of(name, 4)
    params, model = beginning(task, 0)
    flat = jnp.broadcast_to(jnp.asarray([0.3, -0.2, 0.1]), (1, 16, 16, 3))
    made = hastily(network)(params, model, flat)
    assert made.shape == (1, 64, 64, 3)
    inner = np.asarray(made)[:, 24:-24, 24:-24]
    even = np.ptp(inner, axis=(1, 2)).max() < 1e-5
    assert even == (name in ("hold", "icnr", "nearest", "bilinear"))


def test_reduced_pictures_are_means():
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    assert upscaling.reduced(images)[1, 1, 0] == pytest.approx(images[1, 4:, :4].mean((0, 1)))
    assert upscaling.artifact(np.tile([[0.0, 1], [1, 0]], (32, 32))[None, :, :, None], 2) == 1
    assert convjax.resize(jnp.ones((1, 2, 2, 1)), 4).shape == (1, 8, 8, 1)
