"""Regions of an image that are removed or kept as a whole: a grid, square patches, superpixels.

Called on images they give labels, (batch, height, width): 0 to n - 1 within each image, where n may differ between images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.checks import check_images, check_places, check_range, shape_text
from counterpoint.errors import InputError, MissingPackageError, ShapeError

if TYPE_CHECKING:
    import numpy as np

Images = Float[Tensor, "batch channel *space"]
Labels = Int[Tensor, "batch *space"]


@dataclass(frozen=True)
class Grid:
    """`cells` x `cells` rectangles, as even as they can be; along a side with fewer pixels than cells, one cell a pixel.

    Signals are cut into `cells` pieces, volumes into `cells` along each axis.
    """

    cells: int = 7
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range("cells", self.cells, 1)

    def __call__(self, inputs: Images) -> Labels:
        """The same labels for each image."""
        check_places("inputs", inputs)
        return _product(
            [torch.arange(side) * min(self.cells, side) // side for side in inputs.shape[2:]], inputs
        )


@dataclass(frozen=True)
class Patches:
    """Squares of `size` pixels from the upper left corner on, as a vision transformer cuts them; what is left over is smaller."""

    size: int = 16
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range("size", self.size, 1)

    def __call__(self, inputs: Images) -> Labels:
        """The same labels for each image."""
        check_places("inputs", inputs)
        return _product([torch.arange(side) // self.size for side in inputs.shape[2:]], inputs)


@dataclass(frozen=True)
class Superpixels:
    """About `count` patches of like colour, by SLIC; each image has its own.

    Parameters:
        count: How many are aimed at.
        compactness: How much nearness counts beside colour: larger makes them more square.
        sigma: Standard deviation, in pixels, of a blur before.

    Raises:
        MissingPackageError: scikit-image is not installed.

    Reference: Achanta et al. 2012, doi:10.1109/TPAMI.2012.120, as scikit-image has it.
    """

    count: int = 50
    compactness: float = 10.0
    sigma: float = 1.0
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range("count", self.count, 1)
        check_range("compactness", self.compactness, 0.0, open_low=True)
        check_range("sigma", self.sigma, 0.0)

    def __call__(self, inputs: Images) -> Labels:
        """The labels of each image."""
        import numpy as np

        check_images("inputs", inputs)
        slic = segmentation("superpixels").slic
        labels = [
            slic(
                as_picture(image),
                n_segments=self.count,
                compactness=self.compactness,
                sigma=self.sigma,
                start_label=0,
            )
            for image in inputs
        ]
        # Numbered anew: labels that lost all their pixels leave gaps.
        dense = [np.unique(each, return_inverse=True)[1].reshape(each.shape) for each in labels]
        return torch.from_numpy(np.stack(dense)).to(inputs.device)


Regions = Grid | Patches | Superpixels

REGIONS: dict[str, Callable[..., Regions]] = {
    "grid": Grid,
    "patches": Patches,
    "superpixels": Superpixels,
}


def labels_of(regions: Callable[[Tensor], Tensor], inputs: Images) -> Labels:
    """The labels that `regions` gives, checked: one's own function may stand in the place of the classes here.

    Raises:
        InputError: no function, no whole numbers, or numbers of an image that are not 0 to n - 1.
        ShapeError: not (batch, height, width).
    """
    check_places("inputs", inputs)
    if not callable(regions) or isinstance(regions, type):
        raise InputError(f"regions must be one of cp.methods.Grid(7) and its like, got {regions!r}.")
    labels = regions(inputs)
    expected = (inputs.shape[0], *inputs.shape[2:])
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(
            f"regions must give a tensor of whole numbers, got {getattr(labels, 'dtype', labels)}."
        )
    if labels.shape != expected:
        raise ShapeError(
            f"regions must give (batch, height, width) {shape_text(expected)}, got {shape_text(labels)}."
        )
    for image, each in enumerate(labels):
        found = each.unique()
        if int(found[0]) != 0 or int(found[-1]) != len(found) - 1:
            raise InputError(
                f"regions must be numbered from 0 without gaps, got {len(found)} from {int(found[0])} to {int(found[-1])} in image {image}."
            )
    return labels.long()


def segmentation(who: str) -> Any:
    """scikit-image's segmentation.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        from skimage import segmentation as module
    except ImportError as error:
        raise MissingPackageError(
            f'{who} needs scikit-image: pip install "counterpoint[segments]".'
        ) from error
    return module


def as_picture(image: Float[Tensor, "channel height width"]) -> "np.ndarray":
    """(height, width, channel) in float64, as scikit-image takes it; of more than three channels their mean."""
    pixels = image.detach().cpu().double()
    if len(pixels) > 3:
        pixels = pixels.mean(0, keepdim=True)
    return pixels.permute(1, 2, 0).contiguous().numpy()


def _product(cells: Sequence[Int[Tensor, " side"]], inputs: Images) -> Labels:
    """Labels of rectangles, row by row, from the number of each pixel's cell along each axis."""
    labels = torch.zeros((), dtype=torch.int64)
    for along in cells:
        labels = labels[..., None] * (int(along[-1]) + 1) + along
    return labels.to(inputs.device).expand(len(inputs), *labels.shape)
