"""What all searches for a mask share: claim, baselines, the loop, progress, the best map on the way, and images without a gradient."""

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint import progress
from counterpoint.checks import check_range
from counterpoint.errors import InputError
from counterpoint.methods.masks.blending import Blend, Fill
from counterpoint.methods.masks.keep_best import Best
from counterpoint.protocols import Claim, Level, Outcome

Game = Literal["delete", "preserve"]
"""delete looks for the part whose removal lowers the score, preserve for the part that alone keeps it up."""

Step = Callable[[int], tuple[Tensor, Tensor]]
"""Takes the number of a step, does it, and returns (batch,) the loss before it and the largest absolute gradient of the score."""


class MaskSearch:
    """What all searches for a mask claim, and which baselines they take."""

    fill: Fill
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1

    @property
    def fills(self) -> bool:
        """Whether a baseline that only fills will do: it is then not blended with."""
        return self.fill == "published"

    @property
    def many_draws(self) -> bool:
        """Whether a baseline with several draws will do."""
        return self.fill == "published"


def searched(
    name: str,
    step: Step,
    values: Callable[[], Float[Tensor, "batch channel height width"]],
    blend: Blend,
    *,
    steps: int,
    keep_best: int,
    start: Float[Tensor, "batch channel height width"] | None,
) -> Outcome:
    """Do all steps, and hand back the last map or the best.

    An image whose score never had a gradient gets a map of zeros: what the regularisers alone would paint says nothing of the model.

    Args:
        name: Of the method, for the progress.
        step: One step.
        values: The map as it is now.
        blend: What is optimised over.
        steps: How many steps.
        keep_best: How often the map is measured on the way, the last time at the end; 0 hands back the last map unmeasured.
        start: The map that the search began with, to be measured too.
    """
    comparison = blend.comparison
    best = Best(comparison)
    losses, largest = [], torch.zeros_like(comparison.score)
    if keep_best and start is not None:
        with progress.stage(0, 0, steps, name):
            best.offer(start)
    measured_after = {round((k + 1) * steps / keep_best) for k in range(keep_best)}
    for number in range(steps):
        loss, slope = step(number)
        losses.append(loss)
        largest = torch.maximum(largest, slope.to(largest))
        if number + 1 in measured_after:
            with progress.stage(number, number + 1, steps, name):
                best.offer(values())
        progress.advance(number + 1, steps, name)
    found = values() if best.values is None else best.values
    # NaN is kept: only a gradient that was 0 throughout is silent.
    silent = (largest == 0).view(-1, 1, 1, 1)
    extras = {"loss": torch.stack(losses, 1), "largest_gradient": largest}
    if best.areas:
        extras["measured"] = torch.stack(best.areas, 1)
    return Outcome(
        values=found.masked_fill(silent, 0.0),
        reference=blend.reference,
        own_target=blend.own_target(),
        extras=extras,
    )


def check_search(fill: str, steps: int, keep_best: int) -> None:
    """Raise InputError unless what all searches are given makes sense."""
    if fill not in ("baseline", "published"):
        raise InputError(f"fill must be 'baseline' or 'published', got {fill!r}.")
    check_range("steps", steps, 1)
    check_range("keep_best", keep_best, 0, steps)


def largest_by_image(gradient: Float[Tensor, "batch *mask"]) -> Float[Tensor, " batch"]:
    """The largest absolute value of each image's gradient."""
    return gradient.abs().flatten(1).amax(1)
