"""Any function as a score: of rows alone, or of rows and of which image each belongs to."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from counterpoint.errors import InputError, ModelError
from counterpoint.outputs import described
from counterpoint.protocols import Score
from counterpoint.scores.reading import at_least_float32


@dataclass(frozen=True)
class CallableScore:
    """Any function (rows, ...) -> (rows,) as a score; it ignores which image a row belongs to."""

    function: Callable[[Tensor], Tensor]

    def bind(self, inputs: Float[Tensor, "batch *input"]) -> "CallableScore":
        """Nothing to settle."""
        return self

    def __call__(
        self, points: Float[Tensor, "rows *input"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """The function's numbers, float32 at least.

        Raises:
            ModelError: the function does not return a tensor (rows,).
        """
        return _numbers(self.function(points), len(points))


@dataclass(frozen=True)
class ImageScore:
    """A function of rows and of which image each belongs to, as a score; made by `callable_score`."""

    function: Callable[[Tensor, Tensor], Tensor]

    def bind(self, inputs: Float[Tensor, "batch *input"]) -> "ImageScore":
        """Nothing to settle."""
        return self

    def __call__(
        self, points: Float[Tensor, "rows *input"], image: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """The function's numbers, float32 at least.

        Raises:
            ModelError: the function does not return a tensor (rows,).
        """
        return _numbers(self.function(points, image), len(points))


def callable_score(function: Callable[[Tensor, Tensor], Tensor]) -> ImageScore:
    """A score by a function that is told which image each row belongs to: for models with inputs beside the images.

    A method scores many points for each image, in any order and number: `other[image]` is what goes with each. A function of the rows
    alone needs no wrapping; it is a score as it is. A function has no layers: those need a module.

    Args:
        function: (rows, ...), image (rows,) -> (rows,); `image` holds numbers of inputs, from 0.

    Raises:
        InputError: not callable.

    Example:
        `cp.callable_score(lambda rows, image: model(rows, metadata[image])[:, 3])`
    """
    if not callable(function):
        raise InputError(
            f"function must take rows and the image of each, function(rows, image), got {type(function).__name__}."
        )
    return ImageScore(function)


def as_score(score: object) -> Score:
    """A Score as it is, a callable wrapped.

    Raises:
        InputError: neither.
    """
    if isinstance(score, Score):
        return score
    if callable(score):
        return CallableScore(score)
    raise InputError(
        f"score must be a score such as cp.logit(...) or a callable, got {type(score).__name__}."
    )


def _numbers(scores: object, rows: int) -> Float[Tensor, " rows"]:
    if not isinstance(scores, Tensor) or scores.shape != (rows,):
        raise ModelError(
            f"score must return one number per row, ({rows},), but returned {described(scores)}; "
            "for a classifier use cp.logit(module, target=...)."
        )
    return at_least_float32(scores)
