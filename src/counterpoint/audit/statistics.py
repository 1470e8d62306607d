"""Intervals over images: paired bootstrap, dominance, fronts. Every statement about a mean comes with how sure it is."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Resampling:
    """Bootstrap over images, the same resamples for everything that is asked: what is compared is compared on the same images."""

    counts: Float[Tensor, "resamples images"]
    """How often each image was drawn; each row sums to the number of images."""

    @classmethod
    def of(cls, images: int, *, resamples: int = 2000, seed: int = 0) -> "Resampling":
        """Draw as many images with replacement as there are, `resamples` times."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(images, (resamples, images), generator=generator)
        counts = torch.zeros(resamples, images, dtype=torch.float64)
        return cls(counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64)))

    def means(self, numbers: Float[Tensor, "*rows images"]) -> Float[Tensor, "resamples *rows"]:
        """The mean over the images of each resample; images whose number is NaN are left out of it."""
        flat = numbers.double().reshape(-1, numbers.shape[-1])
        known = flat.isfinite()
        sums = self.counts @ flat.where(known, 0.0).T
        weights = self.counts @ known.double().T
        return (sums / weights).reshape(len(self.counts), *numbers.shape[:-1])


def mean_over_images(numbers: Float[Tensor, "*rows images"]) -> Float[Tensor, "*rows"]:
    """The mean over images, those whose number is NaN left out."""
    return numbers.double().nanmean(-1)


def interval(resampled: Float[Tensor, "resamples *rows"]) -> Float[Tensor, "ends *rows"]:
    """The percentile interval that holds 95 % of the resamples; its two ends in front."""
    tail = (1 - CONFIDENCE) / 2
    return torch.quantile(resampled, torch.tensor([tail, 1 - tail], dtype=resampled.dtype), dim=0)


def dominates(goods: Float[Tensor, "goods resamples rows"]) -> Bool[Tensor, "rows rows"]:
    """Whether row i is better than row j in every good, each by a paired 95 % interval.

    Args:
        goods: Resampled means, all turned so that higher is better.
    """
    differences = goods.unsqueeze(3) - goods.unsqueeze(2)  # (goods, resamples, i, j)
    low = torch.stack([interval(each)[0] for each in differences])
    return (low > 0).all(0)


def on_front(goods: Float[Tensor, "goods *resamples_rows"]) -> Bool[Tensor, "*resamples_rows"]:
    """Whether no other row of the same resample is at least as good in every good and better in one."""
    one, other = goods.unsqueeze(-1), goods.unsqueeze(-2)
    beaten = (other >= one).all(0) & (other > one).any(0)
    return ~beaten.any(-1)


def correlation(
    one: Float[Tensor, "*resamples rows"], other: Float[Tensor, "*resamples rows"]
) -> Float[Tensor, "*resamples"]:
    """Pearson's correlation over the rows."""
    a, b = (each - each.mean(-1, keepdim=True) for each in (one, other))
    return (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt()


def line(
    x: Float[Tensor, "*resamples rows"], y: Float[Tensor, "*resamples rows"]
) -> tuple[Float[Tensor, "*resamples"], Float[Tensor, "*resamples"]]:
    """Slope and intercept of the least squares line through the rows."""
    a = x - x.mean(-1, keepdim=True)
    slope = (a * y).sum(-1) / a.square().sum(-1)
    return slope, y.mean(-1) - slope * x.mean(-1)
