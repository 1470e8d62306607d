"""Start the engine that a spec asks for."""

import os
from collections.abc import Sequence

from counterpoint.bench.engines.in_process import InProcess
from counterpoint.bench.engines.on_ray import OnRay
from counterpoint.bench.engines.pool import Pool
from counterpoint.bench.engines.protocol import Engine
from counterpoint.bench.jobs import Setup
from counterpoint.classifier import Classifier
from counterpoint.errors import InputError

ENGINES = ("in_process", "pool", "ray")


def start(setup: Setup, *, loaded: Sequence[Classifier] = ()) -> Engine:
    """The engine of a setup's spec.

    Args:
        setup: What workers need.
        loaded: The models, for work in this process; other workers load their own.

    Raises:
        InputError: a live model, which only works in process, or no such cluster.
        MissingPackageError: Ray is asked for and not installed.
    """
    run = setup.spec.run
    if setup.engine == "in_process":
        return InProcess(setup, loaded)
    if live := [part.name for part in setup.spec.model if part.name in setup.models]:
        raise InputError(
            f"model '{live[0]}' is a live object, which only the engine \"in_process\" takes; name it package.module:function for others."
        )
    if setup.engine == "pool":
        return Pool(setup, run.workers or max(1, (os.cpu_count() or 1) // run.threads))
    return OnRay(setup, run.workers, address=run.address, gpus=run.gpus)
