"""The rule "keep the best map": measured by what it is wanted for, its hard insertion and deletion curves."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.comparison import Comparison
from counterpoint.methods.measured import Judge


@dataclass
class Best:
    """The best map of each image so far."""

    comparison: Comparison
    values: Tensor | None = None
    """(batch, *features), the best of those offered."""
    areas: list[Float[Tensor, " batch"]] = field(default_factory=list)
    """Of every map offered, in their order."""

    def offer(self, values: Float[Tensor, "batch channel height width"]) -> None:
        """Measure these, and keep each that is better than what was kept for its image."""
        area = Judge.of(self.comparison).curves(values.sum(1)).area
        if self.values is None:
            self.values = values.clone()
        else:
            better = area > torch.stack(self.areas).amax(0)
            self.values = values.where(better.view(-1, 1, 1, 1), self.values)
        self.areas.append(area)
