"""Counterpoint explains vision models against an explicit baseline, and says how wrong each explanation is.

Public names are loaded on first use, so that `counterpoint --help` does not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterpoint import baselines, bench, methods, metrics, progress, quadrature, visualisation
    from counterpoint.attribution import Attribution, load_attribution
    from counterpoint.audit import audit_baselines, audit_rankings
    from counterpoint.classifier import Classifier
    from counterpoint.comparison import Comparison, compare, compare_layers
    from counterpoint.models import load_model
    from counterpoint.report import plot
    from counterpoint.scores import contrast, log_odds, log_probability, logit, probability

__version__ = "0.1.0"

_MODULES = ("baselines", "bench", "methods", "metrics", "progress", "quadrature", "visualisation")
_NAMES = {
    "Attribution": "attribution",
    "Classifier": "classifier",
    "Comparison": "comparison",
    "audit_baselines": "audit",
    "audit_rankings": "audit",
    "compare": "comparison",
    "compare_layers": "comparison",
    "contrast": "scores",
    "load_attribution": "attribution",
    "load_model": "models",
    "log_odds": "scores",
    "log_probability": "scores",
    "logit": "scores",
    "plot": "report",
    "probability": "scores",
}

__all__ = [
    "Attribution",
    "Classifier",
    "Comparison",
    "__version__",
    "audit_baselines",
    "audit_rankings",
    "baselines",
    "bench",
    "compare",
    "compare_layers",
    "contrast",
    "load_attribution",
    "load_model",
    "log_odds",
    "log_probability",
    "logit",
    "methods",
    "metrics",
    "plot",
    "probability",
    "progress",
    "quadrature",
    "visualisation",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"counterpoint.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"counterpoint.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'counterpoint' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
