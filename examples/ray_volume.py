"""Run `examples.volume` on the workers of a Ray cluster, by Ray Train's JaxTrainer.

python -m examples.ray_volume --workers 2 --gpus 4 -- --out /shared/volume --size 128 --resume
python -m examples.ray_volume --workers 2 -- --out /tmp/volume       two processes on CPUs

What follows `--` is for `examples.volume`; its DIR must be one that all workers share.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def loop(config: dict[str, Any]) -> None:
    """What each worker runs, once Ray has joined them by `jax.distributed`."""
    from examples import volume

    if volume.main(config["arguments"]):
        raise RuntimeError(f"python -m examples.volume {' '.join(config['arguments'])} failed")


def trainer(
    arguments: Sequence[str], workers: int, gpus: int = 0, variables: dict[str, str] | None = None
) -> Any:
    """The `JaxTrainer` that runs `loop` on `workers` processes, with `gpus` GPUs each.

    `variables` are added to the environment of the workers.
    """
    from ray.train import RunConfig, ScalingConfig
    from ray.train.v2.jax import JaxConfig, JaxTrainer

    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"PYTHONPATH": os.pathsep.join(paths), **(variables or {})}
    environment["JAX_PLATFORMS"] = "cuda" if gpus else "cpu"
    resources = {"GPU": gpus} if gpus else {"CPU": 1}
    return JaxTrainer(
        loop,
        train_loop_config={"arguments": list(arguments)},
        # Ray joins the workers where a kind of accelerator is asked for; by JAX_PLATFORMS it then
        # knows that these have CPUs only.
        jax_config=JaxConfig(use_gpu=True),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=gpus > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(worker_runtime_env={"env_vars": environment}),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    parser = argparse.ArgumentParser(
        prog="python -m examples.ray_volume",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes")
    parser.add_argument("--gpus", type=int, default=0, metavar="N", help="of each process")
    options = parser.parse_args(given[:end])
    trainer(given[end + 1 :], options.workers, options.gpus).fit()
    return 0


if __name__ == "__main__":
    sys.exit(main())
