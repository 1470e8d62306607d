"""Benchmarks: methods x baselines x measures x images, at any size, never losing work."""

from counterpoint.bench.metrics import METRICS
from counterpoint.bench.results import Results
from counterpoint.bench.run import Summary, run
from counterpoint.bench.spec import BenchSpec, checked, read_spec

__all__ = ["METRICS", "BenchSpec", "Results", "Summary", "checked", "read_spec", "run"]
