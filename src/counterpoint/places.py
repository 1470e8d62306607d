"""Which methods work at which layers."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from counterpoint import spec
from counterpoint.cut import open_cut
from counterpoint.errors import InputError, LayerError
from counterpoint.layers import default_cam_layer, run_once
from counterpoint.protocols import Method


@dataclass(frozen=True)
class Places:
    """Every method at every layer where it is to explain."""

    pairs: tuple[tuple[Method, str], ...]
    """Method and layer; "" for the model's default layer for maps, which is known once the model has run."""

    @classmethod
    def of(cls, methods: Sequence[Method], layers: Sequence[str]) -> "Places":
        """Put every method at each of the layers where it can work.

        A method for layers gets the model's default where none is given; any other gets the input.

        Raises:
            InputError: a method that works at none of the layers.
        """
        pairs: list[tuple[Method, str]] = []
        for method in methods:
            name = spec.describe(method).name
            if method.level == "input":
                places = ["input"] if not layers or "input" in layers else []
                reason = f"explains the input only, but layers are {', '.join(layers)}; leave --layer out or add --layer input"
            elif method.level == "layer":
                places = [layer for layer in layers if layer != "input"] if layers else [""]
                reason = "explains the features of a layer, but the only layer is the input; name another --layer or none"
            else:
                places, reason = list(layers) or ["input"], ""
            if not places:
                raise InputError(f"method '{name}' {reason}.")
            pairs += [(method, place) for place in places]
        return cls(tuple(pairs))

    def settled(self, default: str) -> "Places":
        """The same, with the default layer named."""
        return Places(tuple((method, layer or default) for method, layer in self.pairs))


def default_map_layer(module: nn.Module, inputs: Tensor) -> str:
    """The usual layer for class activation maps or, where the model cannot be cut there, the last before it where it can.

    Raises:
        LayerError: there is none.
    """
    usual = default_cam_layer(module, inputs)
    maps = [s.name for s in run_once(module, inputs) if s.output.ndim == 4 and min(s.output.shape[2:]) > 1]
    refusal: LayerError | None = None
    for name in (usual, *reversed(maps)):
        try:
            open_cut(module, name, inputs)
            return name
        except LayerError as error:
            refusal = refusal or error
    raise refusal or LayerError("no layer for class activation maps; name one with --layer.")
