"""Counterpoint explains vision models against an explicit baseline, and says how wrong each explanation is.

Public names are loaded on first use, so that `counterpoint --help` does not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterpoint import (
        baselines,
        bench,
        detectors,
        methods,
        metrics,
        progress,
        quadrature,
        visualisation,
    )
    from counterpoint.attribution import Attribution, load_attribution
    from counterpoint.audit import audit_baselines, audit_rankings
    from counterpoint.classifier import Classifier
    from counterpoint.comparison import Comparison, compare, compare_layers
    from counterpoint.detectors import Detector, detection
    from counterpoint.inspection import inspect_layers
    from counterpoint.layers import joint
    from counterpoint.models import load_model
    from counterpoint.report import plot
    from counterpoint.scores import (
        callable_score,
        contrast,
        label_probability,
        log_odds,
        log_probability,
        logit,
        output_value,
        probability,
        region,
        similarity,
    )
    from counterpoint.trusting.trust import trust

__version__ = "0.1.0"

_MODULES = (
    "baselines",
    "bench",
    "detectors",
    "methods",
    "metrics",
    "progress",
    "quadrature",
    "visualisation",
)
_NAMES = {
    "Attribution": "attribution",
    "Classifier": "classifier",
    "Comparison": "comparison",
    "Detector": "detectors",
    "audit_baselines": "audit",
    "audit_rankings": "audit",
    "callable_score": "scores",
    "compare": "comparison",
    "compare_layers": "comparison",
    "contrast": "scores",
    "detection": "detectors",
    "inspect_layers": "inspection",
    "joint": "layers",
    "label_probability": "scores",
    "load_attribution": "attribution",
    "load_model": "models",
    "log_odds": "scores",
    "log_probability": "scores",
    "logit": "scores",
    "output_value": "scores",
    "plot": "report",
    "probability": "scores",
    "region": "scores",
    "similarity": "scores",
    "trust": "trusting.trust",
}

__all__ = [
    "Attribution",
    "Classifier",
    "Comparison",
    "Detector",
    "__version__",
    "audit_baselines",
    "audit_rankings",
    "baselines",
    "bench",
    "callable_score",
    "compare",
    "compare_layers",
    "contrast",
    "detection",
    "detectors",
    "inspect_layers",
    "joint",
    "label_probability",
    "load_attribution",
    "load_model",
    "log_odds",
    "log_probability",
    "logit",
    "methods",
    "metrics",
    "output_value",
    "plot",
    "probability",
    "progress",
    "quadrature",
    "region",
    "similarity",
    "trust",
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
