"""Micro-batches change nothing but memory."""

import pytest
import torch

from counterpoint.batching import MicroBatch, Tally, in_micro_batches
from counterpoint.errors import InputError, ModelError


def test_rows_come_back_in_order_whatever_the_micro_batch():
    rows = torch.arange(10.0)
    for size in (1, 3, 10, 99):
        doubled, squared = in_micro_batches(lambda r: (2 * r, r * r), rows, micro=MicroBatch(size))
        torch.testing.assert_close(doubled, 2 * rows)
        torch.testing.assert_close(squared, rows * rows)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_it_halves_for_good_when_memory_runs_out(error):
    micro = MicroBatch(8)
    seen = []

    def greedy(rows):
        seen.append(len(rows))
        if len(rows) > 2:
            raise error
        return (rows,)

    (rows,) = in_micro_batches(greedy, torch.arange(5.0), micro=micro)
    torch.testing.assert_close(rows, torch.arange(5.0))
    assert micro.rows == 2
    assert seen == [5, 4, 2, 2, 1]


def test_a_single_row_that_does_not_fit_is_an_error_in_words():
    def full(rows):
        raise MemoryError

    with pytest.raises(ModelError, match="out of memory with a single row"):
        in_micro_batches(full, torch.ones(3), micro=MicroBatch(2))


def test_other_errors_pass_untouched():
    def broken(rows):
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="multiplied"):
        in_micro_batches(broken, torch.ones(3), micro=MicroBatch(2))


def test_photographs_go_a_few_at_a_time_and_small_inputs_many():
    assert MicroBatch.for_inputs(torch.ones(50, 3, 224, 224)).rows == 5
    assert MicroBatch.for_inputs(torch.ones(1, 3, 2000, 2000)).rows == 1
    assert MicroBatch.for_inputs(torch.ones(4, 10)).rows == 1024
    with pytest.raises(InputError, match="at least 1"):
        MicroBatch(0)


def test_the_tally_counts_per_image():
    tally = Tally(3)
    tally.add_gradients(torch.tensor([0, 0, 2]))
    tally.add_forwards(torch.tensor([1]))
    assert tally.gradients.tolist() == [2, 0, 1]
    assert tally.forwards.tolist() == [0, 1, 0]
