"""What a baseline is learned from: features and class scores of a network, with their gradients, from one run."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.batching import MicroBatch, in_micro_batches
from counterpoint.errors import ModelError
from counterpoint.folding import fold
from counterpoint.layers import eager, find_layer, watching
from counterpoint.metrics.readout import Readout, Side, class_scores

Images = Float[Tensor, "rows channel height width"]


@dataclass(frozen=True, eq=False)
class Network:
    """A network that tells what its penultimate layer sees, what it says of the classes, and how active some layers are."""

    module: nn.Module
    layer: str
    """Read on `side`, flattened."""
    side: Side
    watched: tuple[str, ...]
    """Layers whose activity is asked for, early ones first."""

    @classmethod
    def of(
        cls, module: nn.Module, example: Images, *, layer: str | None = None, watched: Sequence[str] = ()
    ) -> "Network":
        """The same network, run on an equal, faster copy where there is one.

        Args:
            module: In eval mode.
            example: Images of the size that it takes.
            layer: Whose output counts as features; by default what the last linear layer reads.
            watched: Layers whose activity is asked for.

        Raises:
            UnknownNameError: no such layer.
            LayerError: no layer is named, and the network has no linear layer on (batch, features).
        """
        read = Readout.of(module, example, layer)
        name = read.layer or ""  # `of` always names one
        keep = (name, *watched)
        return cls(fold(read.module, example[:2], keep=keep).module, name, read.side, tuple(watched))

    def read(
        self, images: Images
    ) -> tuple[Float[Tensor, "rows features"], Float[Tensor, "rows classes"], tuple[Tensor, ...]]:
        """Features, class scores and the outputs of the watched layers; with gradients where they are on.

        Raises:
            ModelError: the network does not return (rows, classes), or the layer does not run.
        """
        seen: dict[str, Tensor] = {}
        names = {find_layer(eager(self.module), name): name for name in (self.layer, *self.watched)}

        def keep(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            name = names[layer]
            seen[name] = arguments[0] if name == self.layer and self.side == "input" else output

        with watching(self.module, keep, *names):
            scores = class_scores(self.module(images), len(images))
        if len(seen) < len(names):
            lost = ", ".join(sorted(set(names.values()) - set(seen)))
            raise ModelError(f"the model must run each of the layers that are read, but {lost} did not run.")
        return seen[self.layer].flatten(1), scores, tuple(seen[name] for name in self.watched)

    def measured(
        self, images: Images, *, micro: MicroBatch | None = None
    ) -> tuple[Float[Tensor, "rows features"], Float[Tensor, "rows classes"]]:
        """Features and class scores of many images, without gradients."""

        def forward(some: Tensor) -> tuple[Tensor, Tensor]:
            features, scores, _ = self.read(some)
            return features.clone(), scores.clone()

        with torch.no_grad():
            features, scores = in_micro_batches(
                forward, images, micro=MicroBatch.for_inputs(images) if micro is None else micro
            )
        return features, scores
