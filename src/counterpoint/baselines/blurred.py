"""The image itself, blurred."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.checks import check_places, check_range
from counterpoint.protocols import Baseline


@dataclass(frozen=True)
class Blur(Baseline):
    """The image under a Gaussian blur: colours and light stay, detail goes. Signals and volumes are blurred along all their axes.

    Parameters:
        sigma: Standard deviation of the blur in pixels; it is cut off at 4 sigma, and the image is mirrored at its edges.

    Reference: Fong and Vedaldi 2017, arXiv:1704.03296; Sturmfels et al. 2020, doi:10.23915/distill.00022.
    """

    sigma: float = 10.0

    def __post_init__(self) -> None:
        check_range("sigma", self.sigma, 0.0, 1000.0, open_low=True)

    def __call__(
        self, inputs: Float[Tensor, "batch channel *space"]
    ) -> Float[Tensor, "batch channel *space"]:
        """Each image blurred.

        Raises:
            ShapeError: the inputs have no places.
        """
        check_places("inputs", inputs)
        exact = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
        matrices = [_blur_matrix(side, self.sigma).to(exact) for side in inputs.shape[2:]]
        if len(matrices) == 2:
            rows, columns = matrices
            return (rows @ exact @ columns.T).to(inputs.dtype)
        for axis, matrix in enumerate(matrices, start=2):
            exact = (exact.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
        return exact.to(inputs.dtype)


def _blur_matrix(size: int, sigma: float) -> Float[Tensor, "size size"]:
    """Row i holds what each pixel of a line gives to its blurred pixel i; every row sums to 1.

    A matrix, not a convolution: the mirror may then be wider than the image.
    """
    reach = int(4.0 * sigma + 0.5)
    steps = torch.arange(-reach, reach + 1)
    kernel = torch.exp(-0.5 * (steps.double() / sigma) ** 2)
    kernel = kernel / kernel.sum()
    place = torch.arange(size)[:, None] + steps  # (size, 2 reach + 1)
    place = place.remainder(2 * size)
    mirrored = torch.minimum(place, 2 * size - 1 - place)
    return torch.zeros(size, size, dtype=torch.float64).scatter_add_(1, mirrored, kernel.expand(size, -1))
