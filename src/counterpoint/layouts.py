"""Layouts: how the features of a layer lie on the image.

A layout turns features into maps (rows, channel, height, width) and maps into features. Everything that asks where a feature is goes
through it: class activation maps, heat maps, figures. `counterpoint.layout_finding` says which layout a layer has.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.errors import InputError

MapStack = tuple[Tensor, ...]
"""One (rows, channel, height, width) for a usual layer; one for each part of a joint cut."""


@runtime_checkable
class Layout(Protocol):
    """How features lie on the image."""

    def maps(self, z: Float[Tensor, "rows *features"]) -> MapStack:
        """The features as maps (rows, channel, height, width), one for each part; what lies nowhere, such as a class token, is in none."""
        ...

    def features(self, maps: MapStack) -> Float[Tensor, "rows *features"]:
        """Maps put back into the shape of the features; what lies in no map is zero."""
        ...

    def as_dict(self) -> dict[str, Any]:
        """For files; `layout_from` reads it."""
        ...

    def text(self, shape: Sequence[int]) -> str:
        """In words, for features of this shape without their first axis: "maps 7 x 7"."""
        ...


@dataclass(frozen=True)
class Maps:
    """(rows, channel, height, width), as convolutions return them."""

    def maps(self, z: Float[Tensor, "rows channel height width"]) -> MapStack:
        """The features themselves."""
        return (z,)

    def features(self, maps: MapStack) -> Float[Tensor, "rows channel height width"]:
        """The map itself."""
        return maps[0]

    def as_dict(self) -> dict[str, Any]:
        """For files."""
        return {"kind": "maps"}

    def text(self, shape: Sequence[int]) -> str:
        """Such as "maps 7 x 7"."""
        return f"maps {shape[1]} x {shape[2]}"


@dataclass(frozen=True)
class ChannelsLast:
    """(rows, height, width, channel), as in Swin, and inside the blocks of ConvNeXt and MaxViT."""

    def maps(self, z: Float[Tensor, "rows height width channel"]) -> MapStack:
        """The channels moved to the front."""
        return (z.movedim(-1, 1),)

    def features(self, maps: MapStack) -> Float[Tensor, "rows height width channel"]:
        """The channels moved back to the end."""
        return maps[0].movedim(1, -1)

    def as_dict(self) -> dict[str, Any]:
        """For files."""
        return {"kind": "channels_last"}

    def text(self, shape: Sequence[int]) -> str:
        """Such as "maps 7 x 7, channels last"."""
        return f"maps {shape[0]} x {shape[1]}, channels last"


@dataclass(frozen=True)
class Tokens:
    """(rows, tokens, channel): some tokens without a place, then those of a grid, row by row."""

    before: int
    """Class, distillation and register tokens."""
    rows: int
    columns: int

    def __post_init__(self) -> None:
        if min(self.before, self.rows - 1, self.columns - 1) < 0:
            raise InputError(f"a grid of tokens has a row and a column at least, got {self}.")

    def maps(self, z: Float[Tensor, "rows tokens channel"]) -> MapStack:
        """The tokens of the grid."""
        grid = z[:, self.before : self.before + self.rows * self.columns]
        return (grid.transpose(1, 2).reshape(len(z), -1, self.rows, self.columns),)

    def features(self, maps: MapStack) -> Float[Tensor, "rows tokens channel"]:
        """Zeros for the tokens without a place, then the grid."""
        grid = maps[0].flatten(2).transpose(1, 2)
        return torch.cat([grid.new_zeros(len(grid), self.before, grid.shape[2]), grid], 1)

    def as_dict(self) -> dict[str, Any]:
        """For files."""
        return {"kind": "tokens", "before": self.before, "rows": self.rows, "columns": self.columns}

    def text(self, shape: Sequence[int]) -> str:
        """Such as "tokens 1 + 14 x 14"."""
        return f"tokens {f'{self.before} + ' if self.before else ''}{self.rows} x {self.columns}"


@dataclass(frozen=True)
class Part:
    """One layer of a joint cut."""

    layer: str
    layout: Layout
    shape: tuple[int, ...]
    """Of its features, without their first axis."""


@dataclass(frozen=True)
class Joint:
    """(rows, numbers): the features of several layers, each flattened, one after the other."""

    parts: tuple[Part, ...]

    def split(self, z: Float[Tensor, "rows numbers"]) -> tuple[Tensor, ...]:
        """The features of each layer, in its own shape."""
        pieces = torch.split(z, [math.prod(part.shape) for part in self.parts], 1)
        return tuple(
            piece.reshape(len(z), *part.shape) for piece, part in zip(pieces, self.parts, strict=True)
        )

    def maps(self, z: Float[Tensor, "rows numbers"]) -> MapStack:
        """The maps of all layers."""
        pairs = zip(self.parts, self.split(z), strict=True)
        return tuple(one for part, piece in pairs for one in part.layout.maps(piece))

    def features(self, maps: MapStack) -> Float[Tensor, "rows numbers"]:
        """The features of each layer, flattened, one after the other."""
        pairs = zip(self.parts, maps, strict=True)
        return torch.cat([part.layout.features((one,)).flatten(1) for part, one in pairs], 1)

    def as_dict(self) -> dict[str, Any]:
        """For files."""
        parts = [
            {"layer": part.layer, "layout": part.layout.as_dict(), "shape": list(part.shape)}
            for part in self.parts
        ]
        return {"kind": "joint", "parts": parts}

    def text(self, shape: Sequence[int]) -> str:
        """The layers one by one, such as "maps 8 x 8; maps 4 x 4"."""
        return "; ".join(part.layout.text(part.shape) for part in self.parts)


def layout_from(facts: Mapping[str, Any]) -> Layout:
    """What `as_dict` of a layout described.

    Raises:
        InputError: no such kind.
    """
    kind = facts.get("kind")
    if kind == "maps":
        return Maps()
    if kind == "channels_last":
        return ChannelsLast()
    if kind == "tokens":
        return Tokens(facts["before"], facts["rows"], facts["columns"])
    if kind == "joint":
        parts = [
            Part(one["layer"], layout_from(one["layout"]), tuple(one["shape"])) for one in facts["parts"]
        ]
        return Joint(tuple(parts))
    raise InputError(f"unknown layout {kind!r}; known: maps, channels_last, tokens, joint.")


def on_maps(
    layout: Layout, work: Callable[..., Tensor], *features: Float[Tensor, "rows *features"]
) -> Float[Tensor, "rows *features"]:
    """Do `work` on the maps of features, part by part, and put what it returns back into their shape.

    Args:
        layout: Of all the features.
        work: Takes one map (rows, channel, height, width) of each of `features`, and returns one, which may leave channel, height or
            width 1 wide where all are equal.
        features: All of one shape. What lies in no map becomes zero.
    """
    stacks = [layout.maps(each) for each in features]
    return layout.features(tuple(work(*maps).expand_as(maps[0]) for maps in zip(*stacks, strict=True)))
