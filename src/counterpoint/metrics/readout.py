"""Features and class scores of many images, both from one forward."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.batching import MicroBatch, in_micro_batches
from counterpoint.checks import shape_text
from counterpoint.errors import ModelError
from counterpoint.folding import fold as folded_copy
from counterpoint.layers import eager, find_layer, last_linear, own_name, watching
from counterpoint.outputs import only_tensor, ways_out

Side = Literal["input", "output"]
"""Which side of a layer is read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Readout:
    """What is read off a network; results are on the CPU, in float64, where everything after the network is computed."""

    module: nn.Module
    """Run as it is: no wrapper of `torch.compile` or data parallelism, within which hooks are not seen."""
    layer: str | None
    """Whose features are read, without the prefix of wrappers; None for none."""
    side: Side
    class_scores: bool
    """Whether the module's own output is read."""

    @classmethod
    def of(cls, module: nn.Module, example: Float[Tensor, "batch *input"], layer: str | None) -> "Readout":
        """What a layer returns, or by default what the last linear layer reads (the penultimate layer), and the class scores.

        Raises:
            UnknownNameError: no such layer.
            LayerError: none is named, and no linear layer runs on (batch, features).
        """
        if layer is not None:
            name = own_name(module, find_layer(module, layer))
            return cls(module=eager(module), layer=name, side="output", class_scores=True)
        name = last_linear(eager(module), example[:1])[0]
        return cls(module=eager(module), layer=name, side="input", class_scores=True)

    def on_folded_copy(self, example: Float[Tensor, "batch *input"]) -> "Readout":
        """The same, run on an equal, faster copy of the network, checked to 1e-5 on these inputs; as it is where there is none."""
        keep = () if self.layer is None else (self.layer,)
        return replace(self, module=folded_copy(self.module, example[:2], keep=keep).module)

    def __call__(
        self, rows: int, images: Callable[[int, int], Float[Tensor, "some *input"]], *, micro: MicroBatch
    ) -> tuple[Float[Tensor, "rows features"], Float[Tensor, "rows classes"]]:
        """The features and the class scores of each image; (rows, 0) of what is not read.

        Args:
            rows: How many images there are.
            images: Makes those from a first number up to a second, only when they are needed.
            micro: How many go through the network at once.

        Raises:
            ModelError: the module does not return (rows, classes), or the layer not one row for each image.
        """

        def forward(numbers: Tensor) -> tuple[Tensor, Tensor]:
            return self._forward(images(int(numbers[0]), int(numbers[-1]) + 1))

        features, logits = in_micro_batches(forward, torch.arange(rows), micro=micro)
        return features, logits

    def _forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []

        def keep(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            # Copied at once: what follows may change it in place.
            found = arguments[0] if self.side == "input" else output
            seen.append(found.detach().clone())

        rows = len(images)
        if self.layer is None:
            output, features = self.module(images), images.new_empty(rows, 0)
        else:
            with watching(self.module, keep, find_layer(self.module, self.layer)):
                output = self.module(images)
            features = self._one_row_each(seen, rows)
        logits = class_scores(output, rows) if self.class_scores else images.new_empty(rows, 0)
        return features.cpu().double(), logits.cpu().double()

    def _one_row_each(self, seen: list[Tensor], rows: int) -> Float[Tensor, "rows features"]:
        if not seen or len(seen[-1]) != rows:
            came = shape_text(seen[-1]) if seen else "nothing"
            raise ModelError(
                f"the {self.side} of layer '{self.layer}' must have one row for each of {rows} images, got {came}."
            )
        return seen[-1].flatten(1)


def class_scores(output: object, rows: int) -> Float[Tensor, "rows classes"]:
    """The output of a classifier.

    Raises:
        ModelError: no tensor (rows, classes), or several tensors.
    """
    scores = only_tensor(output)
    if scores is None or scores.ndim != 2 or len(scores) != rows or scores.shape[1] == 0:
        came = output if scores is None else scores
        raise ModelError(f"the model must return class scores ({rows}, classes), got {ways_out(came)}.")
    return scores
