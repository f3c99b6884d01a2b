"""One process of a training run, for tests: `python training_worker.py '{"steps": 20, ...}'`.

Prints the final numbers as one line of JSON: a digest of every bit, the norms, and the log.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import compilation

if __name__ == "__main__":  # one device for each process
    os.environ["XLA_FLAGS"] = compilation.flags(compilation.HASTY)
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

import convjax  # noqa: E402
from experiments.run.training import Keeping, Schedule, Task, train  # noqa: E402

DATA = {
    "images": np.random.default_rng(0).normal(size=(60, 8, 8, 3)).astype(np.float32),
    "labels": np.arange(60, dtype=np.int32) % 4,
}
OPTIMIZER = optax.sgd(optax.cosine_decay_schedule(0.1, 100), momentum=0.9)


def initial(key):
    first, second, last = jax.random.split(key, 3)
    params = {
        "first": jax.random.normal(first, (3, 3, 3, 8)) * 0.2,
        "grouped": jax.random.normal(second, (3, 3, 2, 8)) * 0.2,
        "last": jax.random.normal(last, (8, 4)) * 0.3,
    }
    return params, jnp.zeros(8)


def loss(params, mean, batch, key):
    """A little network with the statistics of the batch, noise from the key, and a running mean."""
    y = convjax.conv(batch["images"], params["first"], strides=2)
    y = y + 0.1 * jax.random.normal(key, y.shape)
    center = y.mean((0, 1, 2))
    y = jax.nn.relu((y - center) / jnp.sqrt(y.var((0, 1, 2)) + 1e-5))
    y = convjax.grouped_conv(y, params["grouped"], 4).mean((1, 2)) @ params["last"]
    losses = optax.softmax_cross_entropy_with_integer_labels(y, batch["labels"])
    return losses.mean(), 0.9 * mean + 0.1 * center


TASK = Task(initial, loss)


def measure(params, mean):
    return {"norm": jnp.linalg.norm(params["first"])}


def run(steps, folder=None, resume=False, seed=0, save_every=5, measure=measure, about=None, **_):
    schedule = Schedule(steps, 16, measure_every=5, save_every=save_every)
    return train(
        TASK,
        DATA,
        OPTIMIZER,
        schedule,
        seed=seed,
        measure=measure,
        keeping=Keeping(folder and Path(folder), resume, about={"rate": about}),
    )


def numbers(found):
    """All that must be equal: no times."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves((found.params, found.model))]
    lines = [{k: v for k, v in line.items() if "second" not in k} for line in found.lines]
    return {
        "digest": hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest(),
        "values": [leaf.ravel().astype(float).tolist() for leaf in leaves],
        "lines": lines,
    }


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    if "processes" in options:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        address = f"localhost:{options['port']}"
        jax.distributed.initialize(address, options["processes"], options["process"])
    print(json.dumps(numbers(run(**options))), flush=True)
