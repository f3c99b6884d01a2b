"""Networks compared on the same pictures: every arm of a comparison, trained with every seed."""

import dataclasses
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx

from convjax.models import Counts, counts_of
from experiments.run import data
from experiments.run.data import Dataset
from experiments.run.networks import Classifier, Network
from experiments.run.settings import Settings
from experiments.run.training import Keeping, Schedule, beginning, train

Build = Callable[[nnx.Rngs, int, int], nnx.Module]  # streams, channels in, classes


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much is trained.

    Attributes:
        seeds: how many networks of every arm.
        size: of the pictures.
        train, test: how many of them.
        epochs, batch_size, rate: of training: gradient descent with momentum .9 and weight decay
            5e-4, whose rate is divided by ten after half and three quarters of the steps.
    """

    seeds: int
    size: int
    train: int
    test: int
    epochs: int
    batch_size: int
    rate: float

    @property
    def steps(self) -> int:
        return max(1, self.train // self.batch_size * self.epochs)

    def schedule(self) -> Schedule:
        steps = self.steps
        return Schedule(steps, self.batch_size, max(1, steps // 10), max(1, steps // 5))

    def optimizer(self) -> optax.GradientTransformation:
        steps = self.steps
        falling = {steps // 2: 0.1, steps * 3 // 4: 0.1} if steps > 3 else {}
        rate = optax.piecewise_constant_schedule(self.rate, falling)
        return optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(rate, momentum=0.9))

    def words(self, settings: Settings) -> str:
        """The conditions, for a report."""
        seeds = ", ".join(map(str, settings.seeds(self.seeds)))
        return (
            f"{data.data_name(settings.data)} ({self.size}×{self.size}; {self.train:,} training "
            f"and {self.test:,} test pictures), {self.epochs} epochs in batches of "
            f"{self.batch_size}; seeds {seeds}."
        )


class Trained(NamedTuple):
    """A trained network of one arm, with what it was trained on."""

    seed: int
    network: Network
    params: Any
    model: Any
    dataset: Dataset
    classifier: Classifier

    def beginning(self) -> tuple[Any, Any]:
        """``(params, model)`` before training: the control."""
        return beginning(self.classifier.task, self.seed)

    def accuracy(self) -> float:
        """On the test pictures."""
        return self.classifier.accuracy(self.params, self.model, self.dataset.test)

    def train_accuracy(self) -> float:
        """On the training pictures."""
        return self.classifier.accuracy(self.params, self.model, self.dataset.train)

    def counts(self) -> Counts:
        """Parameters and multiply-accumulates for one picture."""
        shape = (1, *self.dataset.train.images.shape[1:])
        return counts_of(self.network.abstract(), shape)


def pictures(settings: Settings, budget: Budget, seed: int, grey: bool = False) -> Dataset:
    """The pictures of a run, standardised; every arm with this seed has the same ones.

    Without colour (`grey`) a network must look at shapes.
    """
    found = data.load(
        settings.data, size=budget.size, train=budget.train, test=budget.test, seed=seed
    )
    return data.standardised(data.without_colour(found) if grey else found)


def shown(grey: bool) -> str:
    """What a report says of pictures without colour."""
    return "Pictures are grey, so that networks must look at shapes. " if grey else ""


def trained(
    settings: Settings,
    experiment: str,
    arm: str,
    build: Build,
    budget: Budget,
    *,
    load: Callable[[Settings, Budget, int], Dataset] = pictures,
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> Iterator[Trained]:
    """One arm's networks, a seed after the other; all of them run one compiled program.

    Args:
        settings: of the command.
        experiment: its name.
        arm: what tells this arm's runs from the others': their folders are named after it.
        build: ``build(rngs, channels, classes)``: the network.
        budget: how much is trained.
        load: ``load(settings, budget, seed)``: the pictures.
        augment: of a training batch, by a key.
    """
    classifier: Classifier | None = None
    optimizer = budget.optimizer()
    for seed in settings.seeds(budget.seeds):
        dataset = load(settings, budget, seed)
        if classifier is None:
            channels, classes = dataset.train.images.shape[-1], dataset.classes
            network = Network(lambda rngs: build(rngs, channels, classes))  # noqa: B023
            classifier = Classifier(network, augment)
        end = train(
            classifier.task,
            dataset.train,
            optimizer,
            budget.schedule(),
            seed=seed,
            name=f"{experiment}, {arm}, seed {seed}",
            keeping=keeping(settings, experiment, f"{arm}-seed{seed}", budget),
        )
        yield Trained(seed, network, end.params, end.model, dataset, classifier)


def keeping(settings: Settings, experiment: str, run: str, about: Any) -> Keeping:
    """Where the command keeps a training run of an experiment; `about` is a dataclass."""
    folder = settings.runs and settings.runs / experiment / folder_name(run)
    return Keeping(folder, settings.resume, settings.bars, dataclasses.asdict(about))


def folder_name(run: str) -> str:
    """`run` in letters, digits and ``- _ = .``; if it has others, a number tells it apart."""
    plain = re.sub(r"[^A-Za-z0-9_=.-]+", "-", run)
    return run if run == plain else f"{plain}-{zlib.crc32(run.encode()):08x}"
