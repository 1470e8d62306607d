"""Audits of photographs: files in, tables, figures and words out. Used by the command."""

from counterpoint.auditing.baselines import audit_photographs, baseline_table
from counterpoint.auditing.evidence import evidence_photographs, evidence_table
from counterpoint.auditing.rankings import contenders_of, rank_photographs
from counterpoint.auditing.written import Written

__all__ = [
    "Written",
    "audit_photographs",
    "baseline_table",
    "contenders_of",
    "evidence_photographs",
    "evidence_table",
    "rank_photographs",
]
