"""Several processes as one run, by JAX's own `jax.distributed`."""

import os

ADDRESS, COUNT, OWN = VARIABLES = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def start() -> bool:
    """Join the other processes, if the environment names them; whether it does.

    Raises:
        ValueError: some of the variables are set and others are not, or are no numbers.
    """
    values = {name: os.environ.get(name, "") for name in VARIABLES}
    if not any(values.values()):
        return False
    if not values[ADDRESS] or not (values[COUNT].isdecimal() and values[OWN].isdecimal()):
        shown = ", ".join(f"{name}={value}" for name, value in values.items())
        raise ValueError(
            f"several processes need {', '.join(VARIABLES)}: an address host:port, and two "
            f"numbers; found {shown}."
        )
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(values[ADDRESS], int(values[COUNT]), int(values[OWN]))
    return True


def agreed(first: bool) -> bool:
    """What the first process says, in all of them."""
    import jax

    if jax.process_count() == 1:
        return first
    import numpy as np
    from jax.experimental.multihost_utils import broadcast_one_to_all

    return bool(broadcast_one_to_all(np.array(first)))
