"""Integrated gradients gathered into regions of the image."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint import progress
from counterpoint.baselines import Black, White
from counterpoint.checks import check_images, check_range
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.methods.coalitions import on_channels
from counterpoint.methods.path import IntegratedGradients
from counterpoint.methods.regions import as_picture, segmentation
from counterpoint.protocols import Baseline, Claim, Level, Outcome

if TYPE_CHECKING:
    import numpy as np

# The published settings are for 224 x 224 pixels, and scaled to other sizes: regions of at least 150 pixels, 50 of them new, grown by 5.
_SMALLEST, _NEW, _GROWN = 150 / 224**2, 50 / 224**2, 5 / 224


@dataclass(frozen=True)
class XRAI:
    """Integrated gradients summed in overlapping regions, the densest region first.

    Formula: until all pixels are taken: r = the region whose pixels not yet taken have the largest mean a; m = that mean on them;
    a = integrated gradients, channels summed

    Values: (batch, channel, height, width), signed, score units a pixel, shared by the channels: an importance. A region has one value,
    the mean of its pixels' shares when it was taken, so channels and pixels sum to what integrated gradients sum to. Regions
    are Felzenszwalb's at several scales, grown a little so that they hold their edges. They are found at the size of the image;
    at 224 x 224 with the published settings. The published code takes the largest channel where we take their sum.

    Parameters:
        reference: "comparison" for the comparison's baseline, "black_and_white" for the mean of integrated gradients from black and
            from white, as published.
        scales: Of the segmentations; larger ones have larger regions.
        tolerance: Of the integrated gradients.

    Raises:
        ShapeError: the inputs are no images.
        MissingPackageError: scikit-image is not installed.

    Reference: Kapishnikov et al. 2019, arXiv:1906.02825; segments: Felzenszwalb and Huttenlocher 2004,
    doi:10.1023/B:VISI.0000022288.19776.77.
    """

    reference: Literal["comparison", "black_and_white"] = "comparison"
    scales: tuple[float, ...] = (50.0, 100.0, 150.0, 250.0, 500.0, 1200.0)
    tolerance: float = 0.01
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.reference not in ("comparison", "black_and_white"):
            raise InputError(f"reference must be 'comparison' or 'black_and_white', got {self.reference!r}.")
        check_range("tolerance", self.tolerance, 0.0, open_low=True)
        if not self.scales:
            raise InputError("scales must hold at least one number, got none.")
        for scale in self.scales:
            check_range("scales", scale, 0.0, open_low=True)

    def __call__(self, comparison: Comparison) -> Outcome:
        """The gradients of one run of integrated gradients, or two; no forwards beside but for the two references."""
        check_images("inputs", comparison.inputs)
        segmentation("xrai")
        path = IntegratedGradients(tolerance=self.tolerance)
        if self.reference == "comparison":
            shares = path(comparison).values
        else:
            each = [path(_against(comparison, baseline)).values for baseline in (Black(), White())]
            shares = (each[0] + each[1]) / 2
        maps = []
        for image, share in zip(comparison.inputs, shares.sum(1), strict=True):
            taken = _greedy(share.cpu().double().numpy(), self._regions(image))
            maps.append(torch.from_numpy(taken).to(shares))
            progress.advance(len(maps), len(shares), "xrai")
        return Outcome(
            values=on_channels(torch.stack(maps), comparison),
            reference=None if self.reference == "comparison" else "black and white",
        )

    def _regions(self, image: Float[Tensor, "channel height width"]) -> "np.ndarray":
        """All regions of all scales, grown, as masks (regions, pixels)."""
        import numpy as np
        from scipy.ndimage import binary_dilation

        picture = as_picture(image)
        height, width = picture.shape[:2]
        smallest, grown = round(_SMALLEST * height * width), round(_GROWN * min(height, width))
        reach = np.arange(-grown, grown + 1)
        disc = reach[:, None] ** 2 + reach**2 <= grown**2
        masks = []
        for scale in self.scales:
            # Twice the pixels in [0, 1]: the scales are meant for a range of 2.
            labels = segmentation("xrai").felzenszwalb(
                2 * picture, scale=scale, sigma=0.8, min_size=max(1, smallest)
            )
            for label in range(int(labels.max()) + 1):
                masks.append(binary_dilation(labels == label, disc).ravel())
        return np.stack(masks)


def _against(comparison: Comparison, baseline: Baseline) -> Comparison:
    """The same comparison with another baseline."""
    start = baseline(comparison.inputs)
    score = comparison.scores(start)
    return replace(
        comparison,
        baseline=baseline,
        baseline_inputs=start,
        start=start,
        baseline_score=score,
        input_baseline_score=score,
    )


def _greedy(share: "np.ndarray", masks: "np.ndarray") -> "np.ndarray":
    """Each pixel's mean share within the region by which it was taken."""
    import numpy as np

    flat = share.ravel()
    new = max(1, round(_NEW * flat.size))
    left = np.ones(flat.size, dtype=bool)
    found = np.zeros_like(flat)
    sums, sizes = masks @ flat, masks.sum(1)
    while True:
        open_regions = sizes >= new
        if not open_regions.any():
            break
        density = np.where(open_regions, sums / np.maximum(sizes, 1), -np.inf)
        taken = left & masks[int(density.argmax())]
        found[taken] = flat[taken].mean()
        left &= ~taken
        # Only the pixels just taken change the other regions: in all, each is visited once.
        sums -= masks[:, taken] @ flat[taken]
        sizes -= masks[:, taken].sum(1)
    if left.any():
        found[left] = flat[left].mean()
    return found.reshape(share.shape)
