"""What every kind of detector is to the rest: pixels in, candidates out."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.detectors.candidates import Candidates, Reported
from counterpoint.errors import LayerError
from counterpoint.layers import Seen, unwrapped, watching


@runtime_checkable
class Network(Protocol):
    """A torch module from pixels (rows, 3, height, width) in [0, 1] to `Candidates`; wraps the user's own network."""

    background: frozenset[int]
    """Classes that stand for no object."""

    def __call__(self, pixels: Float[Tensor, "rows 3 height width"]) -> Candidates:
        """Every candidate of each row."""
        ...

    def report(self, pixels: Float[Tensor, "rows 3 height width"]) -> tuple[Candidates, list[Reported]]:
        """The candidates, and for each row what the detector's own threshold and suppression leave of them."""
        ...

    def holding(self, regions: Float[Tensor, "held 4"]) -> "Network":
        """A network, with the same parts, whose last stage looks into these regions whatever the pixels.

        Candidate k is then region k. A detector of one stage, whose candidates have fixed places, is its own.
        """
        ...

    def levels(self, pixels: Float[Tensor, "rows 3 height width"]) -> tuple[str, ...]:
        """The layer of each feature map that candidates are read from, by their `level`."""
        ...

    def check_pixels(self, name: str, pixels: Tensor) -> None:
        """Raise unless these are images that the detector takes."""
        ...


def layers_of_maps(module: nn.Module, run: Callable[[], Sequence[Tensor]]) -> tuple[str, ...]:
    """The layer that returned each of some feature maps.

    Of several that returned it (a block and its last part) the outermost. A map that no layer returned, since it was scaled afterwards,
    has the last layer whose output has its shape.

    Args:
        module: The detector.
        run: Computes the maps, with the detector's layers.

    Raises:
        LayerError: no layer returned such a map.
    """
    names = {layer: name for name, layer in unwrapped(module)[1].named_modules() if name}
    seen: list[Seen] = []

    def keep(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and layer in names:
            seen.append(Seen(names[layer], layer, output))

    with torch.no_grad(), watching(module, keep):
        maps = run()
    return tuple(_layer_of(module, each, seen) for each in maps)


def last_maps(module: nn.Module, pixels: Float[Tensor, "rows 3 height width"]) -> str:
    """The last layer that returns maps of the pixels, (rows, channel, height > 1, width > 1), the outermost of those that return the same.

    Raises:
        LayerError: there is none.
    """
    seen: list[Seen] = []

    def maps() -> list[Tensor]:
        point = pixels.detach().clone().requires_grad_()
        with torch.enable_grad(), watching(module, keep):
            module(point)
            for each in reversed(seen):
                # Maps that no gradient ties to the pixels, such as those of positions, say nothing of the image.
                if each.output.requires_grad and _reaches(each.output, point):
                    return [each.output]
        raise LayerError("no layer returns maps (rows, channel, height > 1, width > 1); name the layer.")

    def keep(layer: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            seen.append(Seen("", layer, output))

    return layers_of_maps(module, maps)[0]


def _reaches(output: Tensor, point: Tensor) -> bool:
    (gradient,) = torch.autograd.grad(output.sum(), point, retain_graph=True, allow_unused=True)
    return gradient is not None


def _layer_of(module: nn.Module, feature_map: Tensor, seen: Sequence[Seen]) -> str:
    same = [each.name for each in seen if each.output is feature_map]
    alike = [each.name for each in seen if each.output.shape == feature_map.shape]
    if not (same or alike):
        raise LayerError(
            f"no layer of this {type(module).__name__} returns the feature map {tuple(feature_map.shape)} that a detection is read from."
        )
    return (same or alike)[-1]


def scaled_boxes(boxes: Tensor, scale: tuple[float, float]) -> Tensor:
    """Boxes (..., 4) from pixels of the network to pixels of the input; `scale` is (across, down)."""
    across, down = scale
    return boxes * torch.tensor([across, down, across, down], device=boxes.device, dtype=boxes.dtype)
