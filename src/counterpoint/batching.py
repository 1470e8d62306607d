"""Micro-batches: how many rows go through the model at once, what happens when memory runs out, and what it cost."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from counterpoint.errors import InputError, ModelError

# Numbers in a micro-batch of inputs. On a CPU a few images at a time are several times faster than fifty, since their
# activations stay in the cache; an accelerator wants enough rows to fill it.
_CPU_NUMBERS = 5 * 3 * 224 * 224
_ACCELERATOR_NUMBERS = 64 * 3 * 224 * 224
_MOST_ROWS = 1024


@dataclass
class MicroBatch:
    """The number of rows that go through the model at once; it halves itself when memory runs out, and stays so."""

    rows: int

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise InputError(f"micro_batch must be at least 1 row, got {self.rows}.")

    @classmethod
    def for_inputs(cls, inputs: Tensor) -> "MicroBatch":
        """The usual number of rows for inputs of this size on this device."""
        numbers = _CPU_NUMBERS if inputs.device.type == "cpu" else _ACCELERATOR_NUMBERS
        return cls(max(1, min(_MOST_ROWS, numbers // max(1, inputs[0].numel()))))

    def halve(self) -> None:
        """Go on with half the rows.

        Raises:
            ModelError: there is only one row left.
        """
        if self.rows == 1:
            raise ModelError(
                "out of memory with a single row; use smaller inputs or a device with more memory."
            )
        self.rows //= 2


@dataclass
class Tally:
    """How often the model ran for each image."""

    batch: int
    gradients: Int[Tensor, " batch"] = field(init=False)
    forwards: Int[Tensor, " batch"] = field(init=False)
    prefixes: Int[Tensor, " batch"] = field(init=False)
    """Runs of the part before a layer."""

    def __post_init__(self) -> None:
        self.gradients = torch.zeros(self.batch, dtype=torch.int64)
        self.forwards = torch.zeros(self.batch, dtype=torch.int64)
        self.prefixes = torch.zeros(self.batch, dtype=torch.int64)

    def add_gradients(self, image: Int[Tensor, " rows"]) -> None:
        """Count one gradient (a forward and a backward) for each row."""
        self.gradients += torch.bincount(image.cpu(), minlength=self.batch)

    def add_forwards(self, image: Int[Tensor, " rows"]) -> None:
        """Count one forward for each row."""
        self.forwards += torch.bincount(image.cpu(), minlength=self.batch)

    def add_prefixes(self, image: Int[Tensor, " rows"]) -> None:
        """Count one run of the part before the layer for each row."""
        self.prefixes += torch.bincount(image.cpu(), minlength=self.batch)


def in_micro_batches(
    function: Callable[..., tuple[Tensor, ...]], *rows: Tensor, micro: MicroBatch
) -> tuple[Tensor, ...]:
    """Call `function` on a few rows at a time and join what it returns.

    Args:
        function: Takes a slice of each of `rows`, returns tensors with as many rows.
        rows: Tensors of one length.
        micro: How many rows at a time; halved, for good, when memory runs out.

    Raises:
        ModelError: out of memory with a single row.
    """
    total, start, results = rows[0].shape[0], 0, []
    while start < total:
        stop = min(start + micro.rows, total)
        result = _attempt(function, [tensor[start:stop] for tensor in rows])
        if result is None:
            micro.halve()
        else:
            results.append(result)
            start = stop
    return tuple(torch.cat(parts) for parts in zip(*results, strict=True))


def _attempt(function: Callable[..., tuple[Tensor, ...]], rows: list[Tensor]) -> tuple[Tensor, ...] | None:
    """The result, or None when memory ran out; the exception is gone by then, and with it the tensors in its frames."""
    try:
        return function(*rows)
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error)
    return "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
