"""Which operations of a network are activations, and which of these are meant."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from torch import nn

from counterpoint.activations.operations import RECTIFIERS, Operation
from counterpoint.errors import InputError, LayerError, UnknownNameError
from counterpoint.layers import layer_names

ACTIVATIONS = RECTIFIERS | frozenset("celu elu hardtanh mish prelu selu".split())
"""Functions of one number each that are 0 at 0, so that 0 means "says nothing". A ReLU6 as a module is a `hardtanh` from 0."""

SATURATING = frozenset("gelu hardswish hardtanh mish relu6 silu".split())
"""Those of them whose output does not tell what went in, beside the 0 of a ReLU: flat above, or falling below 0."""

Layers = Collection[str] | int | None
"""Which activations: None for all; names of modules, each standing for all activations that run inside it, or of single activations, as
`Pathway.names` has them; a whole number n for the last n to run."""


def is_activation(operation: Operation) -> bool:
    """Whether an operation of one of the names of ACTIVATIONS is one: a `hardtanh` may cut numbers to any interval."""
    if operation.name != "hardtanh":
        return True
    low, high = operation.option("min_val", 1, -1.0), operation.option("max_val", 2, 1.0)
    return bool(low <= 0.0 <= high)


@dataclass(frozen=True, eq=False)
class Activation:
    """One activation in a run of a network."""

    name: str
    """Of the module that it runs in, "layer1.0.relu"; where it is functional code of the whole network, of its function, "relu". Where
    several have one name: "layer1.0.relu (1)", "layer1.0.relu (2)"."""
    function: str
    shape: tuple[int, ...]
    """Of one row; its first number is 1, unless the network folds other axes into the first."""
    within: frozenset[str]
    """All modules that it runs inside of, and its name without a number."""


def numbered_where_needed(activations: Sequence[Activation]) -> tuple[Activation, ...]:
    """The same, with the number left out of names that need none."""
    names = {each.name for each in activations}
    short = [each.name.removesuffix(" (1)") for each in activations]
    return tuple(
        each if f"{name} (2)" in names else replace(each, name=name)
        for each, name in zip(activations, short, strict=True)
    )


@dataclass(frozen=True, eq=False)
class Chosen:
    """`Layers`, checked."""

    names: frozenset[str] | None
    last: int | None

    @classmethod
    def of(cls, layers: Layers) -> "Chosen":
        if layers is None:
            return cls(None, None)
        if isinstance(layers, int) and not isinstance(layers, bool) and layers >= 1:
            return cls(None, layers)
        if isinstance(layers, Collection) and not isinstance(layers, str) and layers:
            if all(isinstance(name, str) for name in layers):
                return cls(frozenset(layers), None)
        raise InputError(
            f"layers must be None for all activations, a list of names, or how many of the last, at least 1; got {layers!r}."
        )

    def keeps(self, activation: Activation) -> bool:
        """Whether it is among the chosen, or may turn out to be one of the last; its name has its number here."""
        return self.names is None or activation.name in self.names or bool(self.names & activation.within)

    def check(self, seen: tuple[Activation, ...], module: nn.Module | None) -> None:
        """Raise unless each name stands for an activation, and there are as many as are asked for."""
        if self.last is not None and self.last > len(seen):
            raise InputError(f"layers asks for the last {self.last} activations, but only {len(seen)} run.")
        found = {name for each in seen for name in (each.name, f"{each.name} (1)", *each.within)}
        known = [] if module is None else layer_names(module)
        for name in sorted(self.names or ()):
            if name in known and name not in found:
                raise LayerError(f"no activation runs inside '{name}'.")
            if name not in found:
                raise UnknownNameError.among("layer", name, [*(each.name for each in seen), *known])
