"""One number of a model's output as it is: of a regression, or of any model whose numbers have units of their own."""

import math
from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint.checks import shape_text
from counterpoint.classifier import Classifier
from counterpoint.errors import InputError
from counterpoint.outputs import Output
from counterpoint.scores.reading import clean_look, module_of, tensor_in

Index = int | tuple[int, ...]
"""Which number of a row: one index for each further axis of the output; a single one stands for (index,)."""


def output_value(
    model: nn.Module | Classifier, index: Index = 0, *, output: Output | None = None
) -> "OutputValue":
    """One number of the model's output, in the output's own units: an age, a steering angle, a coordinate, a depth.

    Args:
        model: A Classifier, or a module (rows, ...) -> (rows,), (rows, n) or (rows, n, m, ...).
        index: Which of the numbers of a row; `(k, y, x)` for outputs of more axes. A model that returns (rows,) has only index 0.
        output: Which part of the model's output is read, where that holds several tensors: a key, a field, an index, or a function.

    Raises:
        InputError: no such index.
    """
    return OutputValue(model, index, output=output)


class OutputValue:
    """One number of a model's output; made by `output_value`."""

    def __init__(self, model: nn.Module | Classifier, index: Index, *, output: Output | None = None) -> None:
        self.module = module_of(model, output)
        self.index = index if isinstance(index, tuple) else (index,)
        if not self.index or not all(type(i) is int and i >= 0 for i in self.index):
            raise InputError(
                f"index must be a whole number of at least 0, or a tuple of such, got {index!r}."
            )

    def bind(self, inputs: Float[Tensor, "batch *input"]) -> "BoundOutputValue":
        """Run the clean inputs once.

        Raises:
            ModelError: the model does not return one row for each image.
            InputError: the rows have no such index.
            NotFiniteError: the model returns NaN or infinity for an input.
        """
        module, found = clean_look(self.module, inputs, self._read)
        return BoundOutputValue(module=module, index=self.index, at_inputs=found[:, 0])

    def _read(self, output: object, rows: int) -> Float[Tensor, "rows 1"]:
        return value_in(output, rows, self.index)[:, None]


@dataclass(frozen=True, kw_only=True, eq=False)
class BoundOutputValue:
    """One number of a model's output, settled at its inputs."""

    module: nn.Module
    index: tuple[int, ...]
    at_inputs: Float[Tensor, " batch"]
    """f(x)."""

    @property
    def kind(self) -> str:
        """What is read, for cards."""
        return f"output_value[{', '.join(map(str, self.index))}]"

    def __call__(
        self, points: Float[Tensor, "rows *input"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """The number of each row."""
        return self.read(self.module(points), image)

    def on(self, module: nn.Module) -> "BoundOutputValue":
        """The same score, read from another module: an equal, faster copy."""
        return replace(self, module=module)

    def read(self, output: object, image: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """The numbers in an output of the module, float32 at least.

        Raises:
            ModelError: the output has not one row for each input.
        """
        return value_in(output, len(image), self.index)


def value_in(output: object, rows: int, index: tuple[int, ...]) -> Float[Tensor, " rows"]:
    """One number of each row of an output.

    Raises:
        ModelError: not one row for each input.
        InputError: no such index.
    """
    found = tensor_in(output, rows, f"one row of numbers per image, ({rows}, ...)")
    if found.ndim == 1 or math.prod(found.shape[1:]) == 1:
        if any(index):
            raise InputError(
                f"index must be 0, as the model returns one number per image, {shape_text(found)}, got {_text(index)}."
            )
        return found.reshape(rows)
    sides = found.shape[1:]
    if len(index) != len(sides) or not all(i < side for i, side in zip(index, sides, strict=True)):
        raise InputError(
            f"index must lie within {shape_text(sides)}, the numbers that the model returns for an image, got {_text(index)}."
        )
    for i in index:
        found = found[:, i]
    return found


def _text(index: tuple[int, ...]) -> str:
    return str(index[0]) if len(index) == 1 else str(index)
