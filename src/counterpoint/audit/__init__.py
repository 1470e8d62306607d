"""Which baseline for this model and these images, and which conclusions survive another one?"""

from counterpoint.audit.baselines import MEASURES, REMOVALS, BaselineAudit, Measure, audit_baselines
from counterpoint.audit.rankings import METRICS, Contender, RankingAudit, audit_rankings

__all__ = [
    "MEASURES",
    "METRICS",
    "REMOVALS",
    "BaselineAudit",
    "Contender",
    "Measure",
    "RankingAudit",
    "audit_baselines",
    "audit_rankings",
]
