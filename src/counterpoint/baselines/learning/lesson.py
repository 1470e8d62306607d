"""What a recipe takes, and what it hands back: a lesson."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.protocols import Baseline
from counterpoint.visualisation import Moment, Visualisation

Images = Float[Tensor, "images channel height width"]
State = Mapping[str, Tensor]
OnStep = Callable[[Moment], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Lesson:
    """What a recipe learned."""

    image: Float[Tensor, "channel height width"]
    """At the model's size, pixels in [0, 1]."""
    losses: Float[Tensor, " steps"]
    start: str
    """What the optimisation started from."""
    facts: Mapping[str, Any]
    """What else is worth keeping, JSON-ready."""
    tensors: Mapping[str, Tensor]
    """What the variant for single images needs: the bank's features, the mean prediction, units."""
    intermediate: Float[Tensor, "kept channel height width"]
    """Images on the way, the last one included."""

    @classmethod
    def of(
        cls,
        found: Visualisation,
        size: tuple[int, int],
        *,
        start: str,
        facts: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
    ) -> "Lesson":
        """What an optimisation found, at the model's size."""
        return cls(
            image=found.at(size)[0].detach().clamp(0, 1),
            losses=found.losses.detach(),
            start=start,
            facts=facts,
            tensors={name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            intermediate=found.intermediate.detach(),
        )


class Recipe(Protocol):
    """A frozen dataclass of settings that can be carried out."""

    name: ClassVar[str]
    least_images: ClassVar[int]

    def learn(
        self,
        module: nn.Module,
        images: Images,
        saliency: Float[Tensor, "images height width"] | None,
        *,
        layer: str | None,
        rivals: Sequence[tuple[str, Baseline]],
        seed: int,
        state: State | None,
        on_step: OnStep | None,
    ) -> Lesson:
        """Carry it out."""
        ...
