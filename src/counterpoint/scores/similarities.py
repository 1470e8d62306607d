"""The likeness of an image's embedding to a reference: "why are these two alike?"."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from counterpoint.checks import check_batch, shape_text
from counterpoint.classifier import Classifier
from counterpoint.errors import InputError, NotFiniteError, ShapeError
from counterpoint.outputs import Output
from counterpoint.scores.reading import at_least_float32, check_pixels, clean_look, module_of, tensor_in

Likeness = Literal["cosine", "dot"]


def similarity(
    model: nn.Module | Classifier,
    reference: Float[Tensor, "references *input"],
    *,
    kind: Likeness = "cosine",
    output: Output | None = None,
) -> "Similarity":
    """How alike the embedding of an image is to that of a reference: "why are these two alike?".

    It explains the inputs, the reference held still. What of the reference makes the two alike is the other question: swap them.

    Args:
        model: A Classifier, or a module whose output (rows, ...) is the embedding, flattened.
        reference: Images, which are embedded once, when the score meets its inputs; or embeddings (references, n) or (n,). One for all
            inputs, or one for each.
        kind: "cosine", in [-1, 1], or "dot", the sum of products, in squared units of the embedding.
        output: Which part of the model's output is read, where that holds several tensors: a key, a field, an index, or a function.

    Raises:
        InputError: an unknown kind, or a reference that is no tensor of real numbers.
    """
    return Similarity(model, reference, kind=kind, output=output)


class Similarity:
    """The likeness to a reference; made by `similarity`."""

    def __init__(
        self,
        model: nn.Module | Classifier,
        reference: Float[Tensor, "references *input"],
        *,
        kind: Likeness = "cosine",
        output: Output | None = None,
    ) -> None:
        if kind not in get_args(Likeness):
            raise InputError(f"kind must be 'cosine' or 'dot', got {kind!r}.")
        self.module = module_of(model, output)
        self.kind: Likeness = kind
        check_batch("reference", reference if not _is_vector(reference) else reference[None])
        self.reference = reference.detach()

    def bind(self, inputs: Float[Tensor, "batch *input"]) -> "BoundSimilarity":
        """Embed inputs and reference once.

        Raises:
            ModelError: the model does not return one row for each image.
            ShapeError: a reference that is neither like an input nor like an embedding, or another number of references than inputs.
            NotFiniteError: an embedding with NaN or infinity, or, for the cosine, one of length 0.
        """
        module, embedded = clean_look(self.module, inputs, _embedding)
        reference = self._embedded_reference(module, inputs, embedded)
        if len(reference) not in (1, len(inputs)):
            raise ShapeError(
                f"reference must be one, or one for each of {len(inputs)} inputs, got {len(reference)}."
            )
        if self.kind == "cosine":
            for name, vectors in (("inputs", embedded), ("reference", reference)):
                empty = (vectors == 0).all(1).nonzero().flatten().tolist()
                if empty:
                    raise NotFiniteError(
                        f"the cosine needs embeddings other than 0, but those of {name} {empty} are 0; use kind='dot'."
                    )
        bound = BoundSimilarity(
            module=module,
            likeness=self.kind,
            reference=reference.expand(len(inputs), -1),
            at_inputs=torch.empty(0),
        )
        image = torch.arange(len(inputs), device=embedded.device)
        object.__setattr__(bound, "at_inputs", bound.read(embedded, image))
        return bound

    def _embedded_reference(
        self, module: nn.Module, inputs: Tensor, embedded: Float[Tensor, "batch n"]
    ) -> Float[Tensor, "references n"]:
        """The embeddings of the reference."""
        given = self.reference
        if given.shape[1:] == inputs.shape[1:] and given.ndim == inputs.ndim:
            check_pixels(module, "reference", given)
            return clean_look(module, given.to(inputs), _embedding)[1]
        vectors = given[None] if given.ndim == 1 else given
        if vectors.ndim == 2 and vectors.shape[1] == embedded.shape[1]:
            return at_least_float32(vectors).to(embedded)
        raise ShapeError(
            f"reference must be images (references, {', '.join(map(str, inputs.shape[1:]))}) like the inputs, or embeddings (references, "
            f"{embedded.shape[1]}), got {shape_text(given)}."
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class BoundSimilarity:
    """The likeness to a reference, settled at its inputs."""

    module: nn.Module
    likeness: Likeness
    reference: Float[Tensor, "batch n"]
    """The embedding that each input is held against."""
    at_inputs: Float[Tensor, " ..."]
    """f(x), known from embedding the inputs."""

    @property
    def kind(self) -> str:
        """What is read, for cards."""
        return f"{self.likeness}_similarity"

    def __call__(
        self, points: Float[Tensor, "rows *input"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """The likeness of each row; `image` says which of the references it is held against."""
        return self.read(self.module(points), image)

    def on(self, module: nn.Module) -> "BoundSimilarity":
        """The same score, settled the same way, read from another module: an equal, faster copy."""
        return replace(self, module=module)

    def read(self, output: object, image: Int[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """The likeness of the embeddings in an output of the module, float32 at least; the cosine of an embedding of length 0 is 0.

        Raises:
            ModelError: the output has not one row for each input.
        """
        embedded = _embedding(output, len(image))
        reference = self.reference[image]
        if self.likeness == "cosine":
            return nn.functional.cosine_similarity(embedded, reference, dim=1, eps=_LEAST_LENGTH)
        return (embedded * reference).sum(1)


# Below any length that an embedding has, and far enough above the least float32 for its square root to have a gradient.
_LEAST_LENGTH = 1e-12


def _embedding(output: object, rows: int) -> Float[Tensor, "rows n"]:
    found = tensor_in(output, rows, f"one embedding per image, ({rows}, n)")
    return found.reshape(rows, -1)


def _is_vector(reference: object) -> bool:
    return isinstance(reference, Tensor) and reference.ndim == 1
