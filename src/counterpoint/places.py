"""Which methods work at which layers."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from counterpoint import spec
from counterpoint.default_layers import default_map_layer as default_map_layer
from counterpoint.errors import InputError
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


class FirstSettles:
    """Places whose default layer is found on the first images that come, and is the same for all that follow."""

    def __init__(self, places: Places, module: nn.Module) -> None:
        self._places, self._module = places, module

    def __call__(self, inputs: Float[Tensor, "batch *input"]) -> Places:
        """The places, every layer named.

        Raises:
            LayerError: a default is asked for, and the network has no layer with maps.
        """
        if any(layer == "" for _, layer in self._places.pairs):
            self._places = self._places.settled(default_map_layer(self._module, inputs))
        return self._places
