"""The published recipe: an image whose crops leave the penultimate layer silent."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.baselines.learning.lesson import Images, Lesson, OnStep, State
from counterpoint.checks import check_range
from counterpoint.protocols import Baseline
from counterpoint.visualisation import Crops, MaCo, mean_spectrum, optimise
from counterpoint.visualisation.objectives import PENULTIMATE, mean_activation


@dataclass(frozen=True)
class PublishedRecipe:
    """Feature visualisation that silences the penultimate layer: mean |features| over random crops, made small.

    Phases and factors of the mean magnitude spectrum of the images are learned (MaCo with learned magnitude). As published it has
    2,048 steps of 32 crops of an image of 2,048 pixels; the defaults here are smaller.

    Parameters:
        steps: Of Nesterov-accelerated Adam.
        crops: In each step; sides 0.05 to 0.7 of the image's.
        size: Of the image, in pixels; it is brought to the model's size, antialiased, at the end.
        learning_rate: Of the optimiser.

    Reference: Picard et al. 2025, arXiv:2512.11433, from the public code; magnitudes start at 1, since at 0 their gradient is not a number.
    """

    name: ClassVar[str] = "published"
    least_images: ClassVar[int] = 1

    steps: int = 128
    crops: int = 8
    size: int = 512
    learning_rate: float = 1.0

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1)
        check_range("crops", self.crops, 1)
        check_range("size", self.size, 8)
        check_range("learning_rate", self.learning_rate, 0, open_low=True)

    def quick(self) -> "PublishedRecipe":
        """A quarter of the steps."""
        return replace(self, steps=max(1, self.steps // 4), crops=max(1, self.crops // 2))

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
        """The image whose crops leave the layer silent; of the images only the spectrum is read."""
        height, width = images.shape[2:]
        objective = mean_activation(module, PENULTIMATE if layer is None else layer)
        parametrisation = MaCo(
            mean_spectrum(images, size=self.size),
            size=self.size,
            learn_magnitude=True,
            contrast=0.5,
            as_published=True,
        )
        found = optimise(
            objective,
            parametrisation,
            size=(height, width),
            views=Crops(count=self.crops),
            steps=self.steps,
            learning_rate=self.learning_rate,
            seed=seed,
            state=state,
            keep=4,
            on_step=on_step,
            minimise=True,
            device=images.device,
        )
        with torch.no_grad():
            silence = float(objective(found.at((height, width))))
        facts = {
            "crops_activity": float(found.values[-1]),
            "activity": silence,
            "gradients": self.steps * self.crops,
        }
        return Lesson.of(found, (height, width), start="random phases", facts=facts, tensors={})
