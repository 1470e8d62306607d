"""Fills: removed pixels imputed from the known ones around them. They have no image of their own."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, NoReturn

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from counterpoint.baselines.multigrid import exact_type, solve
from counterpoint.checks import check_images, check_range, shape_text
from counterpoint.errors import InputError, ShapeError
from counterpoint.protocols import Baseline, BoundScore

Images = Float[Tensor, "batch channel height width"]
Removed = Bool[Tensor, "batch height width"]

# Estimated largest error of the imputed pixels, before noise; a hundredth of what 8 bits can tell apart is 4e-5.
_TOLERANCE, _TOLERANCE_FLOAT64 = 1e-6, 1e-9
# Beyond exp(-30) from one pixel to the next nothing is left that numbers could hold.
_STEEPEST = 30.0


@dataclass(frozen=True)
class ROAD(Baseline):
    """Noisy linear imputation: every removed pixel is the weighted mean of its eight neighbours, plus noise.

    Direct neighbours weigh 1/6, diagonal ones 1/12; those outside the image are dropped and the rest is renormalised. All removed pixels
    of an image are one sparse linear system with the known pixels on its right-hand side; many systems are solved at once, on the device.
    The noise hides from the model how smooth the imputed places are. Nothing is cut off at black and white.

    Parameters:
        noise: Standard deviation of the Gaussian noise added to removed pixels, in pixel units: 0.005 is the published 0.01 of [-1, 1].
        seed: Which noise; the same field for every image.

    Reference: Rong et al. 2022, arXiv:2202.00449; baseline "ROAD" of Picard et al. 2025, arXiv:2512.11433.
    """

    fill_only: ClassVar[bool] = True
    noise: float = 0.005
    seed: int = 0

    def __post_init__(self) -> None:
        check_range("noise", self.noise, 0.0)

    def __call__(self, inputs: Images) -> Images:
        """Never: there is nothing to impute from where everything is removed.

        Raises:
            InputError: always.
        """
        _no_image_of_its_own(self)

    def fill(self, inputs: Images, removed: Removed) -> Images:
        """The inputs with their removed pixels imputed.

        Raises:
            ShapeError: the inputs are no images, or `removed` is of another size.
            InputError: all pixels of an image are removed.
        """
        _check_some_left(inputs, removed)
        # Imputed in float32 at least, so that noise and imputed value are rounded once.
        filled = _imputed(inputs.to(torch.promote_types(inputs.dtype, torch.float32)), removed)
        if self.noise:
            generator = torch.Generator().manual_seed(self.seed)
            # Drawn on the CPU, once for the batch: one seed means one field on every device, alone or in company.
            noise = torch.randn(inputs.shape[1:], generator=generator, dtype=torch.float64)
            filled = filled + (self.noise * noise).to(filled)
        return filled.to(inputs.dtype).where(removed.unsqueeze(1), inputs)


@dataclass(frozen=True)
class Seamless(Baseline):
    """Another baseline's image where pixels are removed, shifted smoothly so that it joins what is left without a seam.

        filled = b + w,    w = x - b at known pixels, and at removed ones c times the weighted mean of its eight neighbours

    With c = 3 / (1 + 2 cosh(1 / l)) the shift w falls by a factor e within l pixels of a straight edge: near what is left, the colours
    are those around; further away they are those of b. Without a reach c = 1, and only what b changes from pixel to pixel is taken from
    it: of a plain b nothing is left, and the fill is ROAD's without noise. Nothing is cut off at black and white.

    Parameters:
        picture: The baseline b: one image for each input.
        reach: l, as a share of the image's shorter side; none: the shift does not fade.

    Reference: our own definition: the gradients of b are kept, as in Perez et al. 2003, doi:10.1145/882262.882269, by the equations of
    Rong et al. 2022, arXiv:2202.00449.
    """

    fill_only: ClassVar[bool] = True
    picture: Baseline
    reach: float | None = 0.06

    def __post_init__(self) -> None:
        if self.reach is not None:
            check_range("reach", self.reach, 0.0, open_low=True)
        if not isinstance(self.picture, Baseline):
            raise InputError(
                f"picture must be a baseline, such as cp.baselines.Blur(), got {self.picture!r}."
            )
        if self.picture.fill_only or self.picture.draws > 1:
            has = "it only fills" if self.picture.fill_only else f"it has {self.picture.draws}"
            raise InputError(f"picture must be a baseline with one image, got {self.picture!r}: {has}.")

    def __call__(self, inputs: Images) -> Images:
        """Never: where everything is removed there is nothing to join.

        Raises:
            InputError: always.
        """
        _no_image_of_its_own(self)

    def prepare(self, bound: BoundScore, inputs: Images) -> "Seamless":
        """The same with its picture prepared.

        Raises:
            CounterpointError: what the picture's `prepare` raises.
        """
        return replace(self, picture=self.picture.prepare(bound, inputs))

    def fill(self, inputs: Images, removed: Removed) -> Images:
        """The inputs with their removed pixels replaced.

        Raises:
            ShapeError: the inputs are no images, or `removed` is of another size.
            InputError: all pixels of an image are removed, or what the picture raises.
        """
        _check_some_left(inputs, removed)
        wide = torch.promote_types(inputs.dtype, torch.float32)
        filled = join(self.picture(inputs).to(wide), inputs.to(wide), removed, self.reach)
        return filled.to(inputs.dtype).where(removed.unsqueeze(1), inputs)


@dataclass(frozen=True)
class NeighbourMean(Baseline):
    """Every removed pixel is the mean of the known pixels nearest to it.

    Nearest are those at the smallest number of king's moves: the known pixels in the smallest square around the pixel that holds any.
    Every pixel is imputed from known ones alone, so the order does not matter.

    Reference: our own definition, a fill without noise and without a system to solve beside Rong et al. 2022, arXiv:2202.00449.
    """

    fill_only: ClassVar[bool] = True

    def __call__(self, inputs: Images) -> Images:
        """Never: there is nothing to impute from where everything is removed.

        Raises:
            InputError: always.
        """
        _no_image_of_its_own(self)

    def fill(self, inputs: Images, removed: Removed) -> Images:
        """The inputs with their removed pixels imputed.

        Raises:
            ShapeError: the inputs are no images, or `removed` is of another size.
            InputError: all pixels of an image are removed.
        """
        _check_some_left(inputs, removed)
        known = (~removed).unsqueeze(1)
        values = inputs.to(exact_type(inputs)).where(known, 0.0)
        # (batch, 1 + channel, ...): how many pixels are known, and the sums of their colours, above and left of each corner.
        sums = torch.cat([known.to(values), values], 1).cumsum(2).cumsum(3)
        sums = torch.nn.functional.pad(sums, (1, 0, 1, 0))
        low = torch.zeros_like(removed, dtype=torch.int64)
        high = torch.full_like(low, max(inputs.shape[2:]) - 1)
        for _ in range(
            max(inputs.shape[2:]).bit_length()
        ):  # halve the interval that the smallest square lies in
            middle = (low + high) // 2
            found = _in_square(sums[:, :1], middle)[:, 0] > 0.5
            low, high = torch.where(found, low, middle + 1), torch.where(found, middle, high)
            low = torch.minimum(low, high)
        square = _in_square(sums, high)
        return (square[:, 1:] / square[:, :1]).to(inputs.dtype).where(removed.unsqueeze(1), inputs)


def join(picture: Images, inputs: Images, removed: Removed, reach: float | None) -> Images:
    """The picture, shifted as `Seamless` says; a gradient reaches the picture as if the shift were fixed.

    Args:
        picture: float32 or float64.
        inputs: Of the same shape and type.
        removed: Not all pixels of an image.
        reach: As in `Seamless`.
    """
    share = 1.0 if reach is None else _share_for(reach * min(inputs.shape[2:]))
    with torch.no_grad():
        shift = _imputed(inputs - picture, removed, share)
    return picture + shift


def _in_square(
    sums: Float[Tensor, "batch channel height_1 width_1"], reach: Tensor
) -> Float[Tensor, "batch channel height width"]:
    """The sum over the square of 2 `reach` + 1 pixels a side around each pixel, by its four corners."""
    height, width = reach.shape[1:]
    y = torch.arange(height, device=reach.device)[:, None]
    x = torch.arange(width, device=reach.device)
    top, bottom = (y - reach).clamp(min=0), (y + reach + 1).clamp(max=height)
    left, right = (x - reach).clamp(min=0), (x + reach + 1).clamp(max=width)

    def corner(row: Tensor, column: Tensor) -> Tensor:
        place = (row * (width + 1) + column).flatten(1).unsqueeze(1)
        taken = sums.flatten(2).gather(2, place.expand(-1, sums.shape[1], -1))
        return taken.view(*sums.shape[:2], height, width)

    return corner(bottom, right) - corner(top, right) - corner(bottom, left) + corner(top, left)


def _imputed(values: Images, removed: Removed, share: float = 1.0) -> Images:
    """With every removed pixel the weighted mean of its neighbours, or a share of it; float32 or float64."""
    exact = values.dtype == torch.float64
    return solve(values, removed, tolerance=_TOLERANCE_FLOAT64 if exact else _TOLERANCE, share=share)


def _share_for(pixels: float) -> float:
    """Of the weighted mean, so that the solution beside a straight edge falls by a factor e within so many pixels."""
    return 3.0 / (1.0 + 2.0 * math.cosh(min(1.0 / pixels, _STEEPEST)))


def _check_some_left(inputs: Images, removed: Removed) -> None:
    check_images("inputs", inputs)
    if removed.shape != (len(inputs), *inputs.shape[2:]) or removed.dtype != torch.bool:
        raise ShapeError(
            f"removed must be bool (batch, height, width) of inputs {shape_text(inputs)}, got {removed.dtype} {shape_text(removed)}."
        )
    empty = removed.flatten(1).all(1).nonzero().flatten().tolist()
    if empty:
        raise InputError(
            f"all pixels of images {empty} are removed, and nothing is left to impute from; remove fewer, or use a baseline with an image "
            "of its own, such as cp.baselines.Mean()."
        )


def _no_image_of_its_own(baseline: Baseline) -> NoReturn:
    raise InputError(
        f"{baseline!r} has no image of its own, it only fills removed pixels: use baseline.fill(inputs, removed)."
    )
