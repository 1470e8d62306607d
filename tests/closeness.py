"""How tests compare maps with those of another library: by the largest value, as small values are differences of large ones."""

import torch
from torch import Tensor


def assert_equal_within(ours: Tensor, theirs: Tensor, tolerance: float) -> None:
    """No value differs by more than `tolerance` times the largest of theirs; a map of zeros would prove nothing."""
    largest = theirs.abs().max().item()
    assert largest > 0
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * largest)


def largest_difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, as a share of the largest of their values."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
