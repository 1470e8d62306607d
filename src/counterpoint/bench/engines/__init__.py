"""Where the work of a benchmark is done: in this process, in a pool of processes on this machine, or on a Ray cluster."""

from counterpoint.bench.engines.protocol import Engine, Finished, Lost
from counterpoint.bench.engines.starting import ENGINES, start

__all__ = ["ENGINES", "Engine", "Finished", "Lost", "start"]
