"""What the texts of a command line stand for."""

import re
from collections.abc import Sequence
from dataclasses import replace

import torch

from counterpoint import spec
from counterpoint.errors import InputError
from counterpoint.methods import IntegratedGradients
from counterpoint.protocols import Baseline, Method


def as_baselines(texts: Sequence[str]) -> list[Baseline]:
    """The baselines that some texts stand for."""
    return [spec.build("baseline", text) for text in texts]


def as_methods(texts: Sequence[str], tolerance: float | None) -> list[Method]:
    """The methods that some texts stand for, with `--tolerance` where they take it and state none of their own.

    Raises:
        InputError: a tolerance that no method takes.
    """
    built: list[Method] = [spec.build("method", text) for text in texts]
    if tolerance is None:
        return built
    takes = [
        isinstance(method, IntegratedGradients)
        and method.rule is None
        and re.search(r"[:,]\s*tolerance\s*=", text) is None
        for text, method in zip(texts, built, strict=True)
    ]
    if not any(takes):
        raise InputError(
            "--tolerance is for integrated_gradients without a rule or a tolerance of its own; no --method is one."
        )
    return [replace(m, tolerance=tolerance) if t else m for m, t in zip(built, takes, strict=True)]  # type: ignore[type-var]


def as_target(text: str) -> int | str:
    """An index where it is a whole number; otherwise a label or "top1"."""
    try:
        return int(text)
    except ValueError:
        return text


def as_device(name: str | None) -> str:
    """A device that works here, after a trial; without a name the GPU where there is one.

    Raises:
        InputError: it cannot be used.
    """
    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"--device '{name}' cannot be used here: {reason}") from error
    return name
