"""Which method is best, how sure, and under which baselines: everything that is asked of a benchmark's results."""

from counterpoint.bench.contenders import Contender
from counterpoint.bench.friedman import Friedman, friedman
from counterpoint.bench.pairs import Pair, pairs
from counterpoint.bench.stability import Dependence, Stability, dependence, stability
from counterpoint.bench.standings import Standing, ranking
from counterpoint.bench.values import measured
from counterpoint.bench.words import verdict

__all__ = [
    "Contender",
    "Dependence",
    "Friedman",
    "Pair",
    "Stability",
    "Standing",
    "dependence",
    "friedman",
    "measured",
    "pairs",
    "ranking",
    "stability",
    "verdict",
]
