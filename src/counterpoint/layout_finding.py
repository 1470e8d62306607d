"""Which layout the features of a layer have, by what the layers around it read and return.

Three axes behind the first are (channel, height, width) or (height, width, channel). This is decided by, in this order:

1. the layer itself, if its kind says where its channels are: convolutions, pooling and norms for images have them first; linear layers,
   and norms over the last axis, have them last;
2. a layer that reads the very tensor, then the next layer that reads a tensor of this shape, then the last before it that returned one,
   as far as their kinds say;
3. the image: the order whose height and width have its proportions; where both have, PyTorch's own, channels first.

Channels last are believed only where height and width have the image's proportions: within windows of attention the two axes before the
channels are windows and tokens. Numbers that sum to 1 along the last axis are attention weights, and have no layout. Two axes behind the
first are tokens, see `counterpoint.token_grids`.
"""

from collections.abc import Collection, Sequence
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from counterpoint import layers
from counterpoint.checks import shape_text
from counterpoint.layers import Seen
from counterpoint.layouts import ChannelsLast, Joint, Layout, Maps, Part
from counterpoint.state import left_as_found
from counterpoint.token_grids import Stated, statements, tokens_layout

Channels = Literal["first", "last"]

# torchvision's attention within windows: from its first module to its last but one, axes are (batch, windows, tokens, channel) or a
# permutation of these, with nothing in their shapes to tell them from maps.
_WINDOWED, _END_OF_WINDOWS = "PartitionAttentionLayer", "WindowDepartition"


class NoLayout(str):
    """Why features lie nowhere on the image, as the end of a sentence."""

    __slots__ = ()


_found: WeakKeyDictionary[nn.Module, dict[tuple[str, tuple[int, ...]], Layout | NoLayout]] = (
    WeakKeyDictionary()
)


def find_layout(module: nn.Module, layer: str, example: Tensor) -> Layout | NoLayout:
    """The layout of a layer, or of several joined by "+"; found by one run of the network, and kept for as long as the module lives.

    Args:
        module: The network, with its wrappers.
        layer: The layer's name.
        example: Images (batch, channel, height, width); the first is run.
    """
    key = (layer, tuple(example.shape[1:]))
    known = _found.setdefault(module, {})
    if key not in known:
        names = layers.layer_parts(module, layer)
        with torch.inference_mode(False), left_as_found(module):
            seen = layers.run_once(module, example[:1].detach().clone())
        own = [layers.own_name(module, layers.find_layer(module, name)) for name in names]
        found = layouts_of(module, seen, (int(example.shape[2]), int(example.shape[3])), own)
        known[key] = found[own[0]] if len(own) == 1 else _joined(own, found, seen)
    return known[key]


def layouts_of(
    module: nn.Module, seen: Sequence[Seen], image_size: tuple[int, int], names: Collection[str]
) -> dict[str, Layout | NoLayout]:
    """The layouts of these layers, by one run of the network.

    Args:
        module: The network, with its wrappers.
        seen: What `layers.run_once` returned for one image.
        image_size: (height, width) of the images.
        names: Which layers; the last run of each counts.
    """
    stated = statements(module, image_size)
    network = layers.unwrapped(module)[1]
    place = {each.name: k for k, each in enumerate(seen)}
    found: dict[str, Layout | NoLayout] = {}
    for name in names:
        if name not in place:
            found[name] = NoLayout("which returns no tensor")
        elif _within_windows(network, name):
            found[name] = NoLayout("whose axes are windows and their tokens")
        else:
            found[name] = _layout(seen, place[name], image_size, stated)
    return found


def _joined(names: list[str], found: dict[str, Layout | NoLayout], seen: Sequence[Seen]) -> Layout | NoLayout:
    outputs = {each.name: each.output for each in seen}
    parts = []
    for name in names:
        layout = found[name]
        if isinstance(layout, NoLayout):
            return NoLayout(f"of which '{name}' has none: {layout}")
        parts.append(Part(name, layout, tuple(outputs[name].shape[1:])))
    return Joint(tuple(parts))


def _layout(
    seen: Sequence[Seen], k: int, image_size: tuple[int, int], stated: Sequence[Stated]
) -> Layout | NoLayout:
    z = seen[k].output
    shape = shape_text(z)
    if not z.is_floating_point():
        return NoLayout(f"which returns {z.dtype}")
    if z.ndim and len(z) != 1:
        return NoLayout(f"which gives {shape} for one image: its first axis is no batch")
    if z.ndim == 3:
        if channels_of(seen[k].module, z.shape) == "first":
            return NoLayout(f"whose features {shape} are no tokens with the channels last")
        tokens = tokens_layout(stated, z.shape[1], image_size)
        return tokens or NoLayout(
            f"whose {z.shape[1]} tokens fit no grid of patches on {image_size[0]} x {image_size[1]} pixels, with or without up to 16 "
            "tokens before it"
        )
    if z.ndim != 4:
        return NoLayout(f"which gives {shape}")
    first = _fits((z.shape[2], z.shape[3]), image_size)
    last = _fits((z.shape[1], z.shape[2]), image_size)
    said = _said(seen, k)
    if said == "first":
        return Maps()
    if said == "last":
        return ChannelsLast() if last else _no_proportions(z, image_size)
    if _sums_to_one(z):
        return NoLayout(f"whose features {shape} are weights of attention")
    if z.shape[1] == z.shape[2] == 1:  # a single place has any proportions, and says nothing
        return Maps()
    if not (first or last):
        return _no_proportions(z, image_size)
    return Maps() if first else ChannelsLast()


def _no_proportions(z: Tensor, image_size: tuple[int, int]) -> NoLayout:
    return NoLayout(
        f"whose features {shape_text(z)} have no height and width in the proportions of {image_size[0]} x {image_size[1]} pixels"
    )


def _said(seen: Sequence[Seen], k: int) -> Channels | None:
    """Where the channels are, as the layers around say."""
    here = seen[k]
    shape = here.output.shape
    if (own := channels_of(here.module, shape)) is not None:
        return own
    readers = [each for each in seen[k + 1 :] if each.read is not None and each.read.shape == shape]
    very = [each for each in readers if each.read is not None and _same_tensor(each.read, here.output)]
    makers = [each for each in reversed(seen[:k]) if each.output.shape == shape]
    for each in (*very, *readers, *makers):
        if (said := channels_of(each.module, shape)) is not None:
            return said
    return None


def channels_of(module: nn.Module, shape: Sequence[int]) -> Channels | None:
    """Where a layer that reads or returns this shape has its channels, as far as its kind says."""
    kind = type(module).__name__
    if isinstance(module, nn.Linear):
        return "last"
    over = getattr(module, "normalized_shape", None)
    if isinstance(over, tuple | list) and len(over) == 1:
        # Of a norm for images, which turns the axes itself, the name says so; else its size does, where only one axis has it.
        if kind.endswith("2d"):
            return "first"
        if type(module).forward is nn.LayerNorm.forward:
            return "last"
        at = [axis for axis in (1, len(shape) - 1) if shape[axis] == over[0]]
        return None if len(at) != 1 else "first" if at == [1] else "last"
    kinds = {name for each in type(module).__mro__ for name in (each.__name__,)}
    # PyTorch's and timm's names: Conv2d, BatchNormAct2d, AdaptiveAvgPool1d.
    return (
        "first" if any(name.endswith(("1d", "2d", "3d")) for name in kinds) or "GroupNorm" in kinds else None
    )


def _same_tensor(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.stride() == other.stride()


def _within_windows(network: nn.Module, name: str) -> bool:
    parts = name.split(".")
    enclosing = [network.get_submodule(".".join(parts[:k])) for k in range(1, len(parts))]
    here = type(network.get_submodule(name)).__name__
    return here != _END_OF_WINDOWS and any(type(each).__name__ == _WINDOWED for each in enclosing)


def _fits(grid: tuple[int, int], image_size: tuple[int, int]) -> bool:
    """Whether a grid has the proportions of the image, to one cell, or to a quarter of few."""
    step = (image_size[0] * image_size[1] / (grid[0] * grid[1])) ** 0.5
    wanted = [side / step for side in image_size]
    return all(abs(cells - want) <= min(1.0, want / 4) for cells, want in zip(grid, wanted, strict=True))


def _sums_to_one(z: Tensor) -> bool:
    return z.shape[-1] > 1 and bool((z >= 0).all()) and bool(((z.sum(-1) - 1).abs() < 1e-3).all())
