"""Perturbed images, made inside the micro-batch that scores them: all points of all curves of a batch."""

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint import progress
from counterpoint.batching import MicroBatch, Tally, in_micro_batches
from counterpoint.checks import check_finite, check_same_shape
from counterpoint.metrics.curve_table import Kind
from counterpoint.metrics.ordering import Order, ordering
from counterpoint.protocols import Baseline, BoundScore, ModuleScore
from counterpoint.state import left_as_found

# So many micro-batches are planned at once: enough for the last one to matter little, few enough for orders and baselines to fit in memory.
_PLANNED = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class Replacement:
    """What removed pixels become, under one baseline."""

    baseline: Baseline
    whole: Float[Tensor, "batch channel *space"] | None
    """The baseline of all inputs, of kinds that were settled for these; other kinds are asked for a few images at a time."""

    @classmethod
    def settled_for(
        cls, baseline: Baseline, bound: BoundScore, inputs: Float[Tensor, "batch channel *space"]
    ) -> "Replacement":
        """Let the baseline see model and inputs, and try it before the long work.

        Raises:
            ShapeError: its image has another shape than the input.
            NotFiniteError: its image holds NaN or infinity.
        """
        settled = baseline.prepare(bound, inputs)
        whole = None
        with torch.no_grad():
            if settled.fill_only:
                removed = torch.zeros_like(inputs[:1, 0], dtype=torch.bool)
                removed.view(-1)[0] = True
                tried, like = settled.fill(inputs[:1], removed), inputs[:1]
            elif settled is baseline:
                tried, like = settled(inputs[:1]), inputs[:1]
            else:
                tried = whole = settled(inputs)
                like = inputs
        _check_image(settled, tried, like)
        return cls(baseline=settled, whole=whole)

    def of(
        self, inputs: Float[Tensor, "batch channel *space"], images: Int[Tensor, " images"]
    ) -> Float[Tensor, "images channel *space"] | None:
        """The baselines of these images; None for a kind that only fills."""
        if self.baseline.fill_only:
            return None
        if self.whole is not None:
            return self.whole[images]
        found = self.baseline(inputs[images])
        _check_image(self.baseline, found, inputs[images])
        return found


def _check_image(baseline: Baseline, image: Tensor, like: Tensor) -> None:
    name = f"baseline {type(baseline).__name__}"
    check_same_shape(name, image, "inputs", like)
    check_finite(name, image)


@dataclass(frozen=True, kw_only=True, eq=False)
class Perturbation:
    """Everything that settles the points of all curves, and how to score them."""

    runner: BoundScore
    inputs: Float[Tensor, "batch channel *space"]
    clean: Float[Tensor, " batch"]
    """f(x)."""
    maps: Mapping[str, Float[Tensor, "batch *space"]]
    replacements: tuple[Replacement, ...]
    counts: Int[Tensor, " points"]
    """How many pixels are removed (deletion) or brought back (insertion) at each point: from none to all."""
    kinds: tuple[Kind, ...]
    order: Order
    seed: int
    micro: MicroBatch
    numbers: torch.dtype
    """The type in which images go through the model."""
    images: Int[Tensor, " images"]
    """Which of the inputs are looked at."""

    @property
    def rows(self) -> int:
        """Forwards in all, beside those of the inputs themselves."""
        return len(self.images) * self._rows_of_an_image

    @property
    def _rows_of_an_image(self) -> int:
        whole = sum(not each.baseline.fill_only for each in self.replacements)
        curves = len(self.kinds) * len(self.replacements) * len(self.maps)
        return whole + curves * (len(self.counts) - 2)

    def run(
        self, tally: Tally
    ) -> tuple[Float[Tensor, "kinds baselines maps images points"], Float[Tensor, "maps images"]]:
        """The scores at every point of every curve, and the share of tied pixels of each map.

        Raises:
            ModelError: out of memory with a single image, or the model does not return what the score reads.
            Cancelled: the listener of the progress wants the work to stop.
        """
        module = self.runner.module if isinstance(self.runner, ModuleScore) else None
        size = math.ceil(_PLANNED * self.micro.rows / max(1, self._rows_of_an_image))
        scores, tied, done = [], [], 0

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            progress.advance(done, self.rows, "curves")

        with nullcontext() if module is None else left_as_found(module):
            for start in range(0, len(self.images), size):
                group = self.images[start : start + size]
                with torch.inference_mode():
                    of_group, tied_in_group = self._run_group(group, tally, advance)
                scores.append(of_group)
                tied.append(tied_in_group)
        # Joined outside: what inference mode makes cannot be changed in place afterwards.
        return torch.cat(scores, 3), torch.cat(tied, 1)

    def _run_group(
        self, images: Int[Tensor, " images"], tally: Tally, advance: Callable[[int], None]
    ) -> tuple[Float[Tensor, "kinds baselines maps images points"], Float[Tensor, "maps images"]]:
        """`run` for some of the images."""
        orders = [ordering(each[images], order=self.order, seed=self.seed) for each in self.maps.values()]
        rank = torch.stack([each.rank for each in orders])  # (maps, images, *space)
        fills = [each.of(self.inputs, images) for each in self.replacements]
        rows = torch.cat([self._whole_rows(len(images)), self._inner_rows(len(images))])
        rows = rows.to(self.inputs.device)

        def forward(rows: Tensor) -> tuple[Tensor]:
            points = self._points(rows, images, rank, fills)
            found = self.runner(points.to(self.numbers), images[rows[:, _IMAGE]])
            advance(len(rows))
            return (found,)

        shape = (len(self.kinds), len(self.replacements), len(self.maps), len(images), len(self.counts))
        scores = torch.full(shape, math.nan, dtype=self.clean.dtype, device=self.inputs.device)
        for k, kind in enumerate(self.kinds):
            scores[k, ..., self._end(kind, removed=False)] = self.clean[images]
        if len(rows) == 0:
            return scores, torch.stack([each.tied for each in orders])
        found = in_micro_batches(forward, rows, micro=self.micro)[0].to(scores)
        tally.add_forwards(images[rows[:, _IMAGE]])
        whole = rows[:, _POINT] == self._end(self.kinds[0], removed=True)
        baseline, image = rows[whole][:, _BASELINE], rows[whole][:, _IMAGE]
        for k, kind in enumerate(self.kinds):
            # With all pixels removed no order matters: one score for all maps, and for both kinds.
            scores[k, baseline, :, image, self._end(kind, removed=True)] = found[whole][:, None]
        scores[tuple(rows[~whole].T)] = found[~whole]
        return scores, torch.stack([each.tied for each in orders])

    def _points(
        self,
        rows: Int[Tensor, "rows 5"],
        images: Int[Tensor, " images"],
        rank: Int[Tensor, "maps images *space"],
        fills: list[Tensor | None],
    ) -> Float[Tensor, "rows channel *space"]:
        """The perturbed image of each row."""
        kind, baseline, saliency, image, point = rows.T
        ranks = rank[saliency, image]
        one_each = (-1, *[1] * (ranks.ndim - 1))
        deletes = torch.tensor([each == "deletion" for each in self.kinds], device=rows.device)
        removed = (ranks < self.counts[point].view(one_each)) == deletes[kind].view(one_each)
        points = torch.empty(len(rows), *self.inputs.shape[1:], dtype=self.inputs.dtype, device=rows.device)
        for b in baseline.unique().tolist():
            here = baseline == b
            clean, fill = self.inputs[images[image[here]]], fills[b]
            if fill is None:
                points[here] = self.replacements[b].baseline.fill(clean, removed[here])
            else:
                points[here] = fill[image[here]].where(removed[here].unsqueeze(1), clean)
        return points

    def _end(self, kind: Kind, *, removed: bool) -> int:
        """The number of the point at which all, or none, of the image is removed."""
        return len(self.counts) - 1 if (kind == "deletion") == removed else 0

    def _whole_rows(self, images: int) -> Int[Tensor, "rows 5"]:
        """All pixels removed: one row for each image and baseline, but for kinds that only fill."""
        baselines = [b for b, each in enumerate(self.replacements) if not each.baseline.fill_only]
        point = self._end(self.kinds[0], removed=True)
        rows = [(0, b, 0, image, point) for b in baselines for image in range(images)]
        return torch.tensor(rows, dtype=torch.int64).view(-1, 5)

    def _inner_rows(self, images: int) -> Int[Tensor, "rows 5"]:
        """One row for each point of each curve, but for both ends; those of a baseline next to each other."""
        sizes = (len(self.replacements), len(self.maps), images, len(self.kinds))
        points = torch.arange(1, len(self.counts) - 1)
        b, m, i, k, point = torch.meshgrid(*map(torch.arange, sizes), points, indexing="ij")
        return torch.stack([k, b, m, i, point], -1).view(-1, 5)


# The columns of a row, in the order of the axes of the scores: kind, baseline, map, image of the group, point.
_BASELINE, _IMAGE, _POINT = 1, 3, 4
