"""Attention multiplied up through the blocks of a transformer: rollout, and its version weighted with gradients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.activations import Attending, AttentionCall
from counterpoint.checks import check_images, check_range, shape_text
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError, ModelError
from counterpoint.layouts import Tokens
from counterpoint.methods.coalitions import on_channels
from counterpoint.methods.modified import step_by_step
from counterpoint.protocols import Claim, Level, ModuleScore, Outcome
from counterpoint.token_grids import statements, tokens_layout

Heads = Literal["mean", "max", "min"]
HEADS: tuple[Heads, ...] = ("mean", "max", "min")


@dataclass(frozen=True)
class AttentionRollout:
    """How much of each patch the attention of all blocks mixes into the tokens that the score reads; the class does not matter.

    Formula: R = B_L ... B_1, B = residual I + (1 - residual) A, rows of B scaled to sum to 1, A the mean over heads; m = the row of R of
    the class token, or the mean of the rows that the score reads

    Values: (batch, channel, height, width), not negative: an importance. A token's amount is spread evenly over its patch and the channels;
    `extras["tokens"]`, (batch, rows, columns), has it as it is. What falls on class, distillation and register tokens is left out, so that
    the sum is below 1. Which tokens the score reads is where its gradient after the last attention is not 0: the class token; in a model
    with a mean over patches all of them.

    Parameters:
        residual: The part of the skip connection, as published 0.5.
        head: How heads are brought together: "mean" as published, "max" or "min".
        discard: The share of each block's smallest weights that count as 0; as published none. From public implementations.

    Raises:
        ModelError: the model has no self-attention over one sequence of all patches: no attention, in windows, with tokens that are merged
            or taken from elsewhere; its patches lie on no grid; dropout is active, or a part is compiled or scripted.
        ShapeError: the inputs are no images.

    Reference: Abnar and Zuidema 2020, arXiv:2005.00928; mean over the tokens read ours.
    """

    residual: float = 0.5
    head: Heads = "mean"
    discard: float = 0.0
    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range("residual", self.residual, 0.0, 1.0)
        check_range("discard", self.discard, 0.0, 0.999)
        if self.head not in HEADS:
            raise InputError(f"head must be one of {', '.join(HEADS)}, got {self.head!r}.")

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image, to see which tokens the score reads."""

        def fused(probabilities: Tensor, slope: Tensor) -> Tensor:
            together = _over_heads(probabilities, self.head)
            if self.discard:
                together = _without_smallest(together, self.discard)
            return together

        def multiplied(blocks: Sequence[Tensor]) -> Tensor:
            return reduce(
                lambda below, block: self._with_residual(block) @ below,
                blocks[1:],
                self._with_residual(blocks[0]),
            )

        return _outcome(comparison, "AttentionRollout", fused, multiplied)

    def _with_residual(
        self, attention: Float[Tensor, "rows tokens keys"]
    ) -> Float[Tensor, "rows tokens keys"]:
        mixed = (1 - self.residual) * attention
        mixed.diagonal(dim1=1, dim2=2).add_(self.residual)
        whole = mixed.sum(2, keepdim=True)
        return mixed / torch.where(whole == 0, 1.0, whole)


@dataclass(frozen=True)
class GAE:
    """Attention of all blocks weighted with the gradient of the score: what each patch contributes to the tokens that the score reads.

    Formula: R = I at first; for each block R = R + B R, B = mean over heads of ReLU(dA * A), dA the gradient of f with respect to the
    attention A; m = the row of R - I of the class token, or the mean of the rows that the score reads

    Values: (batch, channel, height, width), not negative: an importance. A token's amount is spread evenly over its patch and the channels;
    `extras["tokens"]`, (batch, rows, columns), has it as it is. Class, distillation and register tokens are left out. Which tokens the
    score reads is found as in `AttentionRollout`. The I that every token begins with is taken away: of the class token it is no patch's,
    and in a model with a mean over patches it is the same for all.

    Raises:
        ModelError: as for `AttentionRollout`.
        ShapeError: the inputs are no images.

    Reference: Chefer et al. 2021, arXiv:2103.15679 (self-attention); mean over the tokens read ours.
    """

    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "input"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image."""

        def fused(probabilities: Tensor, slope: Tensor) -> Tensor:
            return (slope * probabilities).relu().mean(1)

        def multiplied(blocks: Sequence[Tensor]) -> Tensor:
            # R - I, which begins at 0: R + B R - I = (R - I) + B (R - I) + B.
            return reduce(lambda below, block: below + block @ below + block, blocks[1:], blocks[0])

        return _outcome(comparison, "GAE", fused, multiplied)


def _over_heads(probabilities: Float[Tensor, "rows heads queries keys"], head: Heads) -> Tensor:
    if head == "mean":
        return probabilities.mean(1)
    return probabilities.amax(1) if head == "max" else probabilities.amin(1)


def _without_smallest(attention: Float[Tensor, "rows queries keys"], share: float) -> Tensor:
    flat = attention.flatten(1)
    smallest = flat.argsort(dim=1, stable=True)[:, : int(share * flat.shape[1])]
    return flat.scatter(1, smallest, 0.0).view_as(attention)


def _outcome(
    comparison: Comparison,
    who: str,
    fused: Callable[[Tensor, Tensor], Tensor],
    multiplied: Callable[[Sequence[Tensor]], Tensor],
) -> Outcome:
    """Bring the heads of every block together, multiply blocks up, and put the rows of the tokens that are read on the image."""
    check_images("inputs", comparison.inputs)
    runs: list[tuple[Int[Tensor, " rows"], Attending]] = []

    def under(image: Int[Tensor, " rows"]) -> Attending:
        runs.append((image, Attending(fused)))
        return runs[-1][1]

    step_by_step(comparison).gradients(comparison.end, under=under)
    maps: dict[int, Tensor] = {}
    for image, run in runs:
        _check_self_attention(run, len(image), who)
        reached = [call for call in run.calls if call.kept is not None]
        if reached:  # where memory ran out there is none, and the same images came again
            maps |= dict(zip(image.tolist(), _rows_read(reached, multiplied), strict=True))
    if not maps:
        raise ModelError(f"{who} looks at attention, but the score does not depend on any of it.")
    weights = torch.stack([maps[i] for i in range(len(comparison.inputs))])
    grid = _grid(comparison, weights.shape[1], who)
    tokens = weights[:, grid.before :].view(-1, grid.rows, grid.columns)
    return Outcome(
        values=on_channels(_on_pixels(tokens, comparison.inputs), comparison), extras={"tokens": tokens}
    )


def _grid(comparison: Comparison, tokens: int, who: str) -> Tokens:
    """How the tokens lie on the image.

    Raises:
        ModelError: on no grid.
    """
    size = (comparison.inputs.shape[2], comparison.inputs.shape[3])
    bound = comparison.bound
    stated = statements(bound.module, size) if isinstance(bound, ModuleScore) else ()
    grid = tokens_layout(stated, tokens, size)
    if grid is None:
        raise ModelError(
            f"{who} puts tokens on the image, but {tokens} tokens, some of them left out, fit no grid of patches on "
            f"{size[0]} x {size[1]} pixels."
        )
    return grid


def _on_pixels(
    tokens: Float[Tensor, "batch rows columns"], inputs: Float[Tensor, "batch channel height width"]
) -> Float[Tensor, "batch height width"]:
    """Each token's amount spread evenly over its pixels."""
    places, counts = [], []
    for cells, pixels in zip(tokens.shape[1:], inputs.shape[2:], strict=True):
        place = torch.arange(pixels, device=tokens.device) * cells // pixels
        places.append(place)
        counts.append(place.bincount(minlength=cells)[place])
    return tokens[:, places[0]][:, :, places[1]] / (counts[0][:, None] * counts[1])


def _rows_read(
    calls: Sequence[AttentionCall], multiplied: Callable[[Sequence[Tensor]], Tensor]
) -> Float[Tensor, "rows tokens"]:
    """The mean of the rows of the tokens that the score reads."""
    whole = multiplied([call.kept for call in calls if call.kept is not None])
    weight = torch.zeros_like(whole[:, 0]) if calls[-1].read is None else calls[-1].read.to(whole)
    # An image whose score has no gradient reads nothing, and gets zeros.
    return (weight[:, None] @ whole)[:, 0] / weight.sum(1, keepdim=True).clamp(min=1)


def _check_self_attention(run: Attending, rows: int, who: str) -> None:
    """Raise ModelError unless every attention is one over the same sequence of tokens, all of them."""
    if not run.calls:
        raise ModelError(
            f"{who} looks at attention, but the model has none: neither fused attention nor a softmax that is multiplied with values was "
            "seen; use another method, such as cp.methods.IntegratedGradients()."
        )
    reason = next(filter(None, (_reason(call.shape, rows) for call in run.calls)), None)
    counts = sorted({call.shape[-1] for call in run.calls})
    if reason is None and run.loose:
        reason = f"a softmax {shape_text(run.loose[0])} is mixed further before it meets its values"
    if reason is None and len(counts) > 1:
        reason = f"tokens are merged or dropped on the way: there are {', '.join(map(str, counts))}"
    if reason is None and run.token_counts and counts[0] not in run.token_counts:
        reason = f"attention runs over {counts[0]} places, which are no tokens, such as channels"
    if reason is not None:
        raise ModelError(
            f"{who} multiplies the attention of all blocks up, which needs self-attention over one sequence of tokens, but {reason}; "
            "use another method, such as cp.methods.AttnLRP()."
        )


def _reason(shape: tuple[int, ...], rows: int) -> str | None:
    """Why an attention of this shape is not over all tokens of each image."""
    if shape[-1] != shape[-2]:
        return f"{shape[-2]} queries look at {shape[-1]} keys: tokens are taken from elsewhere, or pooled"
    if shape[0] != rows or len(shape) > 4:
        return f"attention {shape_text(shape)} for {rows} images runs in windows or groups"
    return None
