"""Insertion and deletion curves as results: everything is kept per image, means come last."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.errors import InputError, UnknownNameError
from counterpoint.metrics.half_precision import PrecisionCheck
from counterpoint.metrics.ordering import Order
from counterpoint.protocols import Baseline

Kind = Literal["deletion", "insertion"]
KINDS: tuple[Kind, ...] = ("deletion", "insertion")

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """How each image's score changes while its pixels are replaced, or come back, in the order of one map."""

    kind: Literal["deletion", "insertion", "lerf"]
    """deletion: most relevant pixels are removed first (MoRF), lower is better. insertion: they come back first, higher is better.
    lerf: least relevant pixels are removed first, higher is better."""
    baseline: Baseline | None
    """What removed pixels become; None where whole patches were taken out of the sequence of tokens, and nothing takes their place."""
    fractions: Float[Tensor, " points"]
    """The share of pixels removed (deletion, lerf) or brought back (insertion) at each point: exact counts over the number of pixels; of
    patches where these were taken out.

    From 0 to 1; under a baseline that only fills, or where a model has no score without any patch, without the point at which nothing of
    the image is left."""
    scores: Float[Tensor, "batch points"]
    """In units of the score."""
    tied: Float[Tensor, " batch"]
    """The share of pixels whose place in the order was drawn, because another pixel has the same value."""

    @property
    def area(self) -> Float[Tensor, " batch"]:
        """The mean height of the curve, in units of the score: trapezoids over the true fractions, divided by the span of these."""
        return mean_height(self.scores, self.fractions)

    @property
    def area_error(self) -> Float[Tensor, " batch"]:
        """The discretisation error of `area`: |area from all points - area from every second point|; NaN for fewer than two steps.

        An estimate. For a curve that jumps it is of the size of the error; for a smooth one the error is a third of it (Richardson).
        """
        points = len(self.fractions)
        if points < 3:
            return torch.full_like(self.area, math.nan)
        # The last point stays, so that both areas have the same span.
        coarse = sorted({*range(0, points, 2), points - 1})
        return (self.area - mean_height(self.scores[:, coarse], self.fractions[coarse])).abs()


def mean_height(
    scores: Float[Tensor, "*curves points"], fractions: Float[Tensor, " points"]
) -> Float[Tensor, "*curves"]:
    """The area under each curve by trapezoids, divided by the span of the fractions."""
    return torch.trapezoid(scores, fractions.to(scores), dim=-1) / (fractions[-1] - fractions[0]).to(scores)


def points_of(kind: Kind, baseline: Baseline) -> slice:
    """The points that a curve has: all, or all but the one at which nothing of the image is left."""
    if not baseline.fill_only:
        return slice(None)
    return slice(None, -1) if kind == "deletion" else slice(1, None)


def check_kinds(kinds: Sequence[Kind], *, of: str) -> tuple[Kind, ...]:
    """The kinds asked for, each once.

    Args:
        kinds: "deletion", "insertion" or both.
        of: What they are kinds of, in messages.

    Raises:
        InputError: no list, or an empty one.
        UnknownNameError: no such kind.
    """
    if isinstance(kinds, str) or not kinds:
        raise InputError(f"kinds must be a list of 'deletion', 'insertion' or both, got {kinds!r}.")
    for kind in kinds:
        if kind not in KINDS:
            raise UnknownNameError.among(f"kind of {of}", str(kind), KINDS)
    return tuple(dict.fromkeys(kinds))


@dataclass(frozen=True, kw_only=True, eq=False)
class CurveTable:
    """The curves of every image under every map and baseline; made by `cp.metrics.curves`."""

    kinds: tuple[Kind, ...]
    maps: tuple[str, ...]
    """Names of the maps, in the order given."""
    baselines: tuple[Baseline, ...]
    """As they were used, settled for the model where they need that."""
    baseline_names: tuple[str, ...]
    """In the form that the command line takes: "black", "blur:sigma=10.0"."""
    order: Order
    seed: int
    counts: Int[Tensor, " points"]
    """How many pixels are removed, or brought back, at each point."""
    scores: Float[Tensor, "kinds baselines maps batch points"]
    """In units of the score; NaN at the point where nothing of the image is left, under a baseline that only fills."""
    tied: Float[Tensor, "maps batch"]
    """The share of pixels whose place in the order was drawn."""
    precision_check: PrecisionCheck | None
    """How well areas in bfloat16 agree with those in float32; None where the curves were not computed in bfloat16."""
    folded: bool
    """Whether an equal, faster copy of the model was run, checked to 1e-5."""
    forward_evaluations: Int[Tensor, " batch"]
    """How often the model ran for each image: 1 + B + 2 * B * maps * (steps - 1) for both kinds and B baselines, and once more in
    bfloat16; checks are not counted."""

    def curve(
        self, kind: str, *, baseline: str | Baseline | None = None, saliency: str | None = None
    ) -> Curve:
        """One curve for each image.

        Args:
            kind: "deletion" or "insertion".
            baseline: One of `baselines` or its name; may be left out where there is only one.
            saliency: The name of a map; may be left out where there is only one.

        Raises:
            UnknownNameError: no such kind, baseline or map in this table.
            InputError: left out where there are several.
        """
        k = _index("kind of curve", kind, self.kinds)
        b = self._baseline_index(baseline)
        m = _index("saliency", saliency, self.maps)
        here = points_of(self.kinds[k], self.baselines[b])
        return Curve(
            kind=self.kinds[k],
            baseline=self.baselines[b],
            fractions=self.fractions[here],
            scores=self.scores[k, b, m][:, here],
            tied=self.tied[m],
        )

    @property
    def precision(self) -> Precision:
        """In which type the model ran; "float32" stands for the type of the inputs."""
        return "float32" if self.precision_check is None else "bfloat16"

    @property
    def steps(self) -> int:
        """Steps from the first point to the last."""
        return len(self.counts) - 1

    @property
    def fractions(self) -> Float[Tensor, " points"]:
        """`counts` over the number of pixels, from 0 to 1."""
        return self.counts.to(self.scores) / self.counts[-1]

    def areas(self, kind: str) -> Float[Tensor, "baselines maps batch"]:
        """The area under every curve of a kind, in units of the score.

        Raises:
            UnknownNameError: no such kind in this table.
        """
        return self._each(kind, "area")

    def area_errors(self, kind: str) -> Float[Tensor, "baselines maps batch"]:
        """The discretisation error of every area; see `Curve.area_error`."""
        return self._each(kind, "area_error")

    def gains(self) -> Float[Tensor, "baselines maps batch"]:
        """Insertion area minus deletion area (SRG), higher is better.

        Raises:
            UnknownNameError: the table does not hold both kinds.
        """
        return self.areas("insertion") - self.areas("deletion")

    def to_records(self) -> list[dict[str, Any]]:
        """One plain dictionary for each image, kind, baseline and map, for data frames and tables."""
        records = []
        for kind in self.kinds:
            for name, baseline in zip(self.baseline_names, self.baselines, strict=True):
                for saliency in self.maps:
                    curve = self.curve(kind, baseline=baseline, saliency=saliency)
                    columns = {
                        "area": curve.area,
                        "area_error": curve.area_error,
                        "tied": curve.tied,
                        "first_score": curve.scores[:, 0],
                        "last_score": curve.scores[:, -1],
                    }
                    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
                    for image, row in enumerate(rows):
                        facts = {"image": image, "kind": kind, "baseline": name, "saliency": saliency}
                        records.append({**facts, **dict(zip(columns, row, strict=True))})
        return records

    def _each(self, kind: str, number: str) -> Float[Tensor, "baselines maps batch"]:
        curves = [
            [getattr(self.curve(kind, baseline=baseline, saliency=m), number) for m in self.maps]
            for baseline in self.baselines
        ]
        return torch.stack([torch.stack(of_one_baseline) for of_one_baseline in curves])

    def _baseline_index(self, baseline: str | Baseline | None) -> int:
        if baseline is None or isinstance(baseline, str):
            return _index("baseline", baseline, self.baseline_names)
        same = [i for i, each in enumerate(self.baselines) if each is baseline or each == baseline]
        if not same:
            raise UnknownNameError.among("baseline", repr(baseline), self.baseline_names)
        return same[0]


def _index(what: str, name: str | None, names: tuple[str, ...]) -> int:
    if name is None:
        if len(names) > 1:
            raise InputError(f"name the {what}, since this table has {len(names)}: {', '.join(names)}.")
        return 0
    if name not in names:
        raise UnknownNameError.among(what, str(name), names)
    return names.index(name)
