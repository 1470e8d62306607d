"""Which baseline for this model and these images, and which conclusions survive another one?"""

from counterpoint.audit.baseline_audit import BaselineAudit
from counterpoint.audit.baselines import audit_baselines
from counterpoint.audit.circularity import Circularity
from counterpoint.audit.evidence import EvidenceAudit, audit_evidence
from counterpoint.audit.measures import MEASURES, REMOVALS, Measure
from counterpoint.audit.rankings import METRICS, Contender, RankingAudit, audit_rankings
from counterpoint.audit.witness import as_seen_by

__all__ = [
    "MEASURES",
    "METRICS",
    "REMOVALS",
    "BaselineAudit",
    "Circularity",
    "Contender",
    "EvidenceAudit",
    "Measure",
    "RankingAudit",
    "as_seen_by",
    "audit_baselines",
    "audit_evidence",
    "audit_rankings",
]
