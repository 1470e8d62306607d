"""What all scores of a module share: the module that is read, its output at the clean inputs, and the numbers in it."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from counterpoint.adapting import adapted, check_takes_one_tensor, uncompiled
from counterpoint.batching import MicroBatch, in_micro_batches
from counterpoint.checks import check_batch, shape_text
from counterpoint.classifier import Classifier, Normalised, warn_of_training_mode
from counterpoint.errors import InputError, ModelError, NotFiniteError
from counterpoint.outputs import Output, only_tensor, ways_out
from counterpoint.protocols import BoundScore


def module_of(model: nn.Module | Classifier, output: Output | None) -> nn.Module:
    """The module that a score reads: the model's own, or one around it that picks a part of its output.

    Raises:
        InputError: no model, nothing that picks, or a model that was compiled in place.
    """
    if not isinstance(model, nn.Module | Classifier):
        raise InputError(
            f"model must be a torch.nn.Module or a Classifier, got {type(model).__name__}; a function is a score by itself: "
            "cp.callable_score(function)."
        )
    module = uncompiled(model.module if isinstance(model, Classifier) else model, stacklevel=5)
    if isinstance(module, Normalised):
        return module.reading(output)
    return adapted(module, output=output)


def clean_look(
    module: nn.Module,
    inputs: Float[Tensor, "batch *input"],
    read: Callable[[object, int], Tensor],
) -> tuple[nn.Module, Tensor]:
    """Run the module on the clean inputs, without gradients.

    Args:
        module: From `module_of`.
        inputs: Checked here.
        read: Takes an output and its number of rows, and returns the numbers that are wanted.

    Returns:
        The module to go on with, which leaves its inputs as they are, and what was read.

    Raises:
        ModelError: the module does not take one tensor, or not return what is read.
        InputError: the inputs have another type or device than the weights.
        NotFiniteError: NaN or infinity in the inputs or in what was read.
    """
    check_batch("inputs", inputs)
    check_pixels(module, "inputs", inputs)
    check_takes_one_tensor(module)
    warn_of_training_mode(module, stacklevel=5)
    changed = False

    def run(rows: Tensor) -> tuple[Tensor]:
        nonlocal changed
        given = rows.clone()
        found = read(module(given), len(rows))
        changed = changed or not torch.equal(given, rows)
        return (found,)

    with torch.no_grad(), mismatch_explained(module, inputs):
        (numbers,) = in_micro_batches(run, inputs, micro=MicroBatch.for_inputs(inputs))
    broken = (~torch.isfinite(numbers)).flatten(1).any(1).nonzero().flatten().tolist()
    if broken:
        raise NotFiniteError(
            f"the model must return finite scores, but returns NaN or infinity for images {broken}."
        )
    return adapted(module, copies=True) if changed else module, numbers


def tensor_in(output: object, rows: int, wanted: str) -> Float[Tensor, "rows ..."]:
    """The one tensor in an output, a row for each input, float32 at least.

    Args:
        output: What a module returned.
        rows: How many rows went in.
        wanted: What the module must return, in words and with a shape.

    Raises:
        ModelError: no tensor or several, another number of rows, or no real numbers.
    """
    found = only_tensor(output)
    if found is None or found.ndim == 0 or len(found) != rows:
        came = output if found is None else found
        raise ModelError(f"the model must return {wanted}, but returned {ways_out(came)}.")
    return at_least_float32(found)


def at_least_float32(tensor: Tensor) -> Tensor:
    """Numbers of half precision as float32; raises ModelError for whole or complex ones."""
    if not tensor.is_floating_point():
        raise ModelError(f"scores must be real floating-point numbers, got {tensor.dtype}.")
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def check_pixels(scored: object, name: str, inputs: Tensor) -> None:
    """Let a module that takes pixels check them; `scored` is the module, or a bound score that knows one."""
    module = scored if isinstance(scored, nn.Module) else getattr(scored, "module", None)
    check = getattr(module, "check_pixels", None)
    if check is not None:
        check(name, inputs)


def classes_of(bound: BoundScore) -> tuple[list[int] | None, tuple[str, ...] | None]:
    """Class index and label of each image, where the score has classes."""
    classes = getattr(bound, "classes", None)
    labels = getattr(bound, "labels", None)
    return classes.tolist() if isinstance(classes, Tensor) else classes, labels


# How torch says that shapes do not go together.
_OF_SHAPES = re.compile(
    r"cannot be multiplied|must match the size|expected input|to have \d+ channels|size mismatch|invalid for input of size"
)


@contextmanager
def mismatch_explained(module: nn.Module, inputs: Tensor) -> Iterator[None]:
    """Say so where a model fails on inputs of another type, device or shape than it takes."""
    try:
        yield
    except RuntimeError as error:
        weights = next((p for p in module.parameters() if p.is_floating_point()), None)
        if weights is None or (weights.dtype, weights.device) == (inputs.dtype, inputs.device):
            reason = str(error).strip().split("\n")[0]
            if _OF_SHAPES.search(reason) is None:  # the network's own affair, with its traceback
                raise
            raise ModelError(
                f"the model fails on inputs {shape_text(inputs)}: {reason}. Do they have the size and the channels that it takes?"
            ) from error
        raise InputError(
            f"inputs are {inputs.dtype} on {inputs.device}, but the model's weights are {weights.dtype} on {weights.device}; "
            "use inputs.to(device, dtype) of the weights, or move the model."
        ) from error
