"""How a sequence of tokens lies on the image: as the model states it, else as square patches that tile the image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from counterpoint.layers import token_grid
from counterpoint.layouts import Tokens

# The parameters that hold tokens without a place: torchvision, timm, Hugging Face.
_EXTRA = {
    "cls_token", "class_token", "dist_token", "distillation_token", "reg_token", "register_tokens", "dist_embed",
}  # fmt: skip
_HALVINGS = 5


@dataclass(frozen=True)
class Stated:
    """What a model says of its own tokens."""

    before: int
    """Tokens without a place, at the start of the sequence."""
    rows: int
    columns: int

    def layout(self, tokens: int) -> Tokens | None:
        """The layout of so many tokens: on the grid, or on the grid halved some times (Swin merges four patches into one), with the
        tokens without a place before it or not yet."""
        rows, columns = self.rows, self.columns
        for _ in range(_HALVINGS + 1):
            for before in dict.fromkeys((self.before, 0)):
                if before + rows * columns == tokens:
                    return Tokens(before, rows, columns)
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
        return None


def tokens_layout(stated: Sequence[Stated], tokens: int, image_size: tuple[int, int]) -> Tokens | None:
    """The layout of a sequence of tokens, None where it lies on no grid.

    What the model states decides: the size of its patches or its grid, and the parameters that hold class, distillation and register
    tokens. Where it states nothing, the grid is that of square patches which tile the image, with the fewest tokens before it that
    fit, at most 16; where it states something that does not fit, such a grid without any token before it.

    Args:
        stated: What the model says, see `statements`.
        tokens: How many there are.
        image_size: (height, width) of the input.
    """
    for each in stated:
        if found := each.layout(tokens):
            return found
    tiled = token_grid(tokens, image_size)
    return None if tiled is None or (stated and tiled[0] > 0) else Tokens(*tiled)


def statements(module: nn.Module, image_size: tuple[int, int]) -> tuple[Stated, ...]:
    """What the modules of a network say of their grids of patches on an image of this (height, width), the outermost first."""
    return tuple(dict.fromkeys(_statements(module, image_size)))


def _statements(module: nn.Module, image_size: tuple[int, int]) -> Iterator[Stated]:
    for part in module.modules():
        extra = _extra_tokens(part)
        embedding = _first(part, "patch_embed", "patch_embeddings", "patch_embedding")
        fixed = _pair(getattr(embedding, "grid_size", None))
        if fixed is not None and _pair(getattr(embedding, "img_size", None)) == image_size:
            yield Stated(extra, *fixed)
        config = getattr(part, "config", None)
        patch = next(
            (p for p in (_pair(getattr(o, "patch_size", None)) for o in (embedding, part, config)) if p), None
        )
        if patch is None or min(patch) < 1:
            continue
        # Rounded down, as a convolution that steps by whole patches does, or up, where the image is padded first.
        for up in (0, 1):
            rows, columns = ((side + up * (p - 1)) // p for side, p in zip(image_size, patch, strict=True))
            if rows and columns:
                yield Stated(extra, rows, columns)


def _extra_tokens(part: nn.Module) -> int:
    """How many tokens without a place the module puts before those of the grid."""
    stated = getattr(part, "num_prefix_tokens", None)  # timm
    if type(stated) is int:
        return stated
    held = [p for name, p in part.named_parameters() if name.rpartition(".")[2] in _EXTRA]
    return sum(p.shape[-2] if p.ndim > 1 else 1 for p in held)


def _first(part: nn.Module, *names: str) -> Any:
    return next((found for name in names if isinstance(found := getattr(part, name, None), nn.Module)), None)


def _pair(value: Any) -> tuple[int, int] | None:
    """A side or two of them as whole numbers; None for anything else."""
    if type(value) is int:
        return value, value
    if isinstance(value, tuple | list) and len(value) == 2 and all(type(side) is int for side in value):
        return value[0], value[1]
    return None
