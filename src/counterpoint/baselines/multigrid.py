"""Solve "every removed pixel is the weighted mean of its eight neighbours", or a share of it, for many images and masks at once.

Neighbours weigh 1/6 (direct) and 1/12 (diagonal); those outside the image are dropped and the rest is renormalised. With each row
multiplied by the weights that it has left, the system is symmetric and positive definite. Twelve times it is

    N u - B u = 0 at every removed pixel,    B = [1 2 1] x [1 2 1], zero outside the image, N = B 1,

since B's centre, 4, stands on both sides; with a share c of the mean N becomes (N - 4) / c + 4. Conjugate gradients solve it, with one
multigrid V-cycle as preconditioner: large holes then take about as many steps as small ones. A V-cycle of the residual is also an
estimate of the error in pixel units; it says when to stop. Coarser levels are Galerkin products P' A P, where P interpolates bilinearly
and is 0 at known pixels.

Everything works in place, in buffers that a solver keeps: fresh memory would cost several times as much as the arithmetic.

References: the equations, Rong et al. 2022, arXiv:2202.00449; multigrid as a preconditioner, Tatebe 1993; Galerkin coarsening, Briggs et
al. 2000, "A Multigrid Tutorial".
"""

from dataclasses import dataclass, field
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from counterpoint.batching import MicroBatch, in_micro_batches

Field = Float[Tensor, "rows channel height width"]
Wide = Float[Tensor, "rows channel height_2 width_2"]
"""A field with a border of zeros."""
Coarse = Float[Tensor, "rows channel coarse_height coarse_width"]
Mask = Bool[Tensor, "rows 1 height width"]

# A grid of this many nodes a side is small enough to be solved by its inverse.
_COARSEST = 14
# Added to its diagonal, relative to the largest entry.
_REGULAR = 1e-6
# Weight of a Jacobi step on coarser levels, relative to the sum of the absolute values of a row: below 2 it always converges.
_DAMPING = 1.8
# A round of conjugate gradients in float32 ends when its estimated error has become this much smaller.
_REDUCTION = 1e-6
# Two or three rounds of about ten steps together are usual; the bounds only end what cannot end, such as NaN among the known pixels.
_MOST_ROUNDS, _MOST_STEPS = 20, 100


def solve(
    values: Field, removed: Bool[Tensor, "rows height width"], *, tolerance: float, share: float = 1.0
) -> Field:
    """The values with every removed pixel replaced by the solution, in the type of `values`.

    Args:
        values: Any channels; what stands at removed pixels is not read.
        removed: True where a pixel is unknown; at least one pixel of every row must be known.
        tolerance: Estimated largest error, in units of the values.
        share: Of the weighted mean that a removed pixel becomes, above 0 and at most 1.
    """

    def some(values: Tensor, removed: Tensor) -> tuple[Tensor]:
        return (_solve(values, removed.unsqueeze(1), tolerance, share),)

    return in_micro_batches(some, values, removed, micro=MicroBatch.for_inputs(values))[0]


def exact_type(tensor: Tensor) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _solve(values: Field, free: Mask, tolerance: float, share: float) -> Field:
    known = values.to(exact_type(values)).masked_fill(free, 0.0)
    exact, cycle = (
        _Finest.of(free.to(known), channels=known.shape[1], share=share),
        _VCycle.of(free, channels=known.shape[1], share=share),
    )
    # Begin with the mean of the known pixels: an even picture is then done.
    mean = known.sum((2, 3), keepdim=True) / (~free).sum((2, 3), keepdim=True)
    u = exact.buffers.u
    _inner(u).copy_(torch.where(free, mean, known))
    # The system is solved in float32 for what the exact residual still asks for, until that is nothing.
    for _ in range(_MOST_ROUNDS):
        correction = _corrected(cycle, exact.rest(None).float(), tolerance)
        if correction is None:
            break
        u += correction
    return torch.where(free, _inner(u).to(values.dtype), values)


def _corrected(cycle: "_VCycle", residual: Wide, tolerance: float) -> Wide | None:
    """Preconditioned conjugate gradients from 0; None where nothing is left to correct."""
    finest = _Finest.of(cycle.active[0], channels=residual.shape[1], share=cycle.share)
    u, direction = torch.zeros_like(residual), finest.buffers.u
    before = torch.ones_like(residual[:, :, :1, :1])
    wanted = 0.0
    for step in range(_MOST_STEPS):
        guess = cycle(residual)
        error = float(torch.stack(torch.aminmax(guess)).abs().max())
        if step == 0:
            if not error > tolerance:
                return None
            wanted = max(_REDUCTION * error, 0.5 * tolerance)
        if not error > wanted:
            break
        now = _dot(residual, guess)
        direction.mul_(_ratio(now, before)).add_(guess)
        before = now
        image = finest.rest(None)  # -A direction
        length = _ratio(now, -_dot(direction, image))
        u.addcmul_(length, direction)
        residual.addcmul_(length, image)
    return u


def _dot(a: Wide, b: Wide) -> Float[Tensor, "rows channel 1 1"]:
    products: Tensor = torch.linalg.vecdot(a.flatten(2), b.flatten(2))
    return products[..., None, None]


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """a / b, and 0 where b is 0: a row that is done stays as it is."""
    return torch.where(b == 0, 0.0, a / b)


def _inner(wide: Wide) -> Field:
    """The field without its border."""
    return wide[..., 1:-1, 1:-1]


class _Buffers:
    """Memory for one level."""

    u: Wide
    rest: Wide

    def __init__(self, like: Float[Tensor, "rows 1 height width"], channels: int) -> None:
        rows, _, height, width = like.shape
        # With a border of zeros, which nothing ever changes.
        self.u, self.rest = like.new_zeros(2, rows, channels, height + 2, width + 2)
        self.lines = like.new_empty(rows, channels, height, width + 2)
        self.half = like.new_empty(rows, channels, (height + 1) // 2, width)


@dataclass(frozen=True, eq=False)
class _Finest:
    """The system on the pixels themselves."""

    minus_total: Float[Tensor, "1 1 height width"]
    """-N, or with a share c of the mean -((N - 4) / c + 4)."""
    step: Float[Tensor, "rows 1 height width"]
    """A full Jacobi step: the eigenvalues of the rough part lie evenly about 1, between 2/3 and 4/3. 0 at known pixels."""
    buffers: _Buffers = field(repr=False)

    @classmethod
    def of(cls, free: Float[Tensor, "rows 1 height width"], *, channels: int, share: float) -> "_Finest":
        down, across = (_line(n, free) for n in free.shape[2:])
        neighbours = ((down[:, None] * across)[None, None] - 4.0) / share
        # A picture of one pixel has no neighbours at all.
        step = free / neighbours.clamp(min=1.0)
        return cls(minus_total=-(neighbours + 4.0), step=step, buffers=_Buffers(free, channels))

    def rest(self, residual: Wide | None, buffers: _Buffers | None = None) -> Wide:
        """residual - A u, without the residual where there is none, for the u in the buffers; at known pixels it means nothing."""
        to = self.buffers if buffers is None else buffers
        rest = _inner(to.rest)
        torch.add(to.u[..., :-2, :], to.u[..., 2:, :], out=to.lines)
        to.lines.add_(to.u[..., 1:-1, :], alpha=2.0)
        if residual is None:
            torch.mul(self.minus_total, _inner(to.u), out=rest)
        else:
            torch.addcmul(_inner(residual), self.minus_total, _inner(to.u), out=rest)
        rest.add_(to.lines[..., :-2]).add_(to.lines[..., 2:]).add_(to.lines[..., 1:-1], alpha=2.0)
        return to.rest


@dataclass(frozen=True, eq=False)
class _Coarse:
    """A coarser level: nine weights at each node, in the order of rows."""

    stencil: Float[Tensor, "rows 9 height width"]
    step: Float[Tensor, "rows 1 height width"]
    residual: Wide
    """A buffer for what the finer level hands down."""
    buffers: _Buffers = field(repr=False)

    @classmethod
    def below(cls, finer: "_Finest | _Coarse", *, channels: int) -> "_Coarse":
        """P' A P, read off by applying it to nine combs, of which a node sees one tooth each."""
        like = finer.step
        active = (like > 0).to(like)
        y, x = (torch.arange((n + 1) // 2, device=like.device) % 3 for n in like.shape[2:])
        comb = 3 * y[:, None] + x  # which comb a node belongs to
        combs = (comb == torch.arange(9, device=like.device)[:, None, None]).to(like)
        nine = _Buffers(like, 9)
        fine = _interpolated(combs.unsqueeze(0), like.new_empty(1, 9, *like.shape[2:]))
        torch.mul(fine, active, out=_inner(nine.u))
        seen = combs.new_empty(len(like), *combs.shape)
        _restricted(_inner(finer.rest(None, nine)).mul_(active), nine.half, seen)
        shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        which = torch.stack([3 * ((y[:, None] + dy) % 3) + (x + dx) % 3 for dy, dx in shifts])
        stencil = -seen.gather(1, which.expand(len(like), -1, -1, -1))
        bound = stencil.abs().sum(1, keepdim=True)
        # Nodes that no removed pixel depends on have no equation.
        step = torch.where(bound > 0, _DAMPING / bound, 0.0)
        buffers = _Buffers(step, channels)
        return cls(stencil=stencil, step=step, residual=torch.zeros_like(buffers.u), buffers=buffers)

    def rest(self, residual: Wide | None, buffers: _Buffers | None = None) -> Wide:
        """residual - A u, without the residual where there is none, for the u in the buffers."""
        to = self.buffers if buffers is None else buffers
        rest, (height, width) = _inner(to.rest), self.step.shape[2:]
        if residual is None:
            rest.zero_()
        else:
            rest.copy_(_inner(residual))
        for k in range(9):
            part = to.u[..., k // 3 : k // 3 + height, k % 3 : k % 3 + width]
            rest.addcmul_(self.stencil[:, k : k + 1], part, value=-1.0)
        return to.rest


@dataclass(frozen=True, eq=False)
class _VCycle:
    """One Jacobi step on the way down and one on the way up, the coarsest level solved exactly: symmetric, as CG needs it."""

    levels: tuple[_Finest | _Coarse, ...]
    active: tuple[Float[Tensor, "rows 1 height width"], ...]
    """1 at nodes that have an equation, 0 elsewhere."""
    inverse: Float[Tensor, "rows nodes nodes"]
    share: float

    @classmethod
    def of(cls, free: Mask, *, channels: int, share: float) -> "_VCycle":
        levels: list[_Finest | _Coarse] = [_Finest.of(free.float(), channels=channels, share=share)]
        while max(levels[-1].step.shape[2:]) > _COARSEST:
            levels.append(_Coarse.below(levels[-1], channels=channels))
        active = tuple((level.step > 0).float() for level in levels)
        height, width = active[-1].shape[2:]
        each = _Buffers(active[-1], height * width)
        one = torch.eye(height * width, device=free.device).view(1, -1, height, width)
        torch.mul(one, active[-1], out=_inner(each.u))
        matrix = -(_inner(levels[-1].rest(None, each)) * active[-1]).flatten(2).double()
        diagonal = matrix.diagonal(dim1=1, dim2=2)
        # A lone removed pixel between four nodes gives them one equation; a little more on the diagonal makes it four.
        diagonal.add_(_REGULAR * diagonal.amax(1, keepdim=True) + (diagonal == 0))
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix)).float()
        return cls(levels=tuple(levels), active=active, inverse=inverse, share=share)

    def __call__(self, residual: Wide, level: int = 0) -> Wide:
        """About A^-1 residual, in a buffer that the next call overwrites."""
        here, active = self.levels[level], self.active[level]
        to, u = here.buffers, _inner(here.buffers.u)
        if level == len(self.levels) - 1:
            solution = _inner(residual).flatten(2) @ self.inverse
            torch.mul(solution.view_as(u), active, out=u)
            return to.u
        torch.mul(_inner(residual), here.step, out=u)
        rest = _inner(here.rest(residual)).mul_(active)
        coarser = cast(_Coarse, self.levels[level + 1])
        _restricted(rest, to.half, _inner(coarser.residual))
        below = self(coarser.residual, level + 1)
        u.addcmul_(_interpolated(_inner(below), rest), active)
        u.addcmul_(_inner(here.rest(residual)), here.step)
        return to.u


def _line(size: int, like: Tensor) -> Float[Tensor, " size"]:
    """[1 2 1] over a line of ones, 0 outside it."""
    line = torch.full((size,), 4.0, dtype=like.dtype, device=like.device)
    line[0] -= 1.0
    line[-1] -= 1.0
    return line


def _interpolated(coarse: Coarse, out: Field) -> Field:
    """Bilinear; beyond the last coarse node, its value."""
    half = coarse.new_empty(*coarse.shape[:2], out.shape[2], coarse.shape[3])
    _interpolate_rows(coarse, half)
    _interpolate_rows(half.mT, out.mT)
    return out


def _interpolate_rows(
    coarse: Float[Tensor, "rows channel few across"], out: Float[Tensor, "rows channel many across"]
) -> None:
    out[:, :, ::2].copy_(coarse)
    odd, between = out[:, :, 1::2], coarse.shape[2] - 1
    torch.lerp(coarse[:, :, :-1], coarse[:, :, 1:], 0.5, out=odd[:, :, :between])
    odd[:, :, between:].copy_(coarse[:, :, between : odd.shape[2]])


def _restricted(fine: Field, half: Float[Tensor, "rows channel coarse_height width"], out: Coarse) -> Coarse:
    """The transpose of interpolation."""
    _restrict_rows(fine, half)
    _restrict_rows(half.mT, out.mT)
    return out


def _restrict_rows(
    fine: Float[Tensor, "rows channel many across"], out: Float[Tensor, "rows channel few across"]
) -> None:
    odd, between = fine[:, :, 1::2], out.shape[2] - 1
    out.copy_(fine[:, :, ::2])
    out[:, :, :between].add_(odd[:, :, :between], alpha=0.5)
    out[:, :, 1:].add_(odd[:, :, :between], alpha=0.5)
    # The last node of an even number hangs on one coarse node alone.
    out[:, :, between : odd.shape[2]].add_(odd[:, :, between:])
