"""Smooth masks of given areas: what a threshold at a quantile becomes when it is to have a gradient."""

import torch
from jaxtyping import Float
from torch import Tensor

_HALVINGS = 40


def smooth_quantile(
    numbers: Float[Tensor, "rows pixels"], shares: Float[Tensor, "rows quantiles"], temperature: float
) -> Float[Tensor, "rows quantiles"]:
    """The threshold q above which a share p of the numbers lies, in the smooth sense: mean sigmoid((s - q) / t) = p.

    As t falls it becomes the empirical quantile of 1 - p. Differentiable by the implicit function theorem, dq/ds_i = w_i / sum w with
    w = sigmoid'((s - q) / t).

    Args:
        numbers: s, finite.
        shares: p, each in (0, 1).
        temperature: t, positive, in units of the numbers.

    Reference: our reconstruction of the smooth fractile of Zhang and McMillan 2025, arXiv:2509.04588, whose form is not published.
    """
    with torch.no_grad():
        exact = numbers.detach().double().unsqueeze(1)
        wanted = shares.double()
        # sigmoid(-40) is 4e-18: no more is ever needed on either side.
        low = exact.amin(2) - 40 * temperature
        high = exact.amax(2) + 40 * temperature
        low, high = low.expand_as(wanted).clone(), high.expand_as(wanted).clone()
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            above = torch.sigmoid((exact - middle.unsqueeze(2)) / temperature).mean(2) > wanted
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        found = (low + high) / 2
        soft = torch.sigmoid((exact - found.unsqueeze(2)) / temperature)
        slope = soft * (1 - soft)
        weights = slope / slope.sum(2, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    # The value found, with the gradient of the theorem.
    moved = torch.einsum("rqp,rp->rq", weights.to(numbers), numbers)
    return found.to(numbers) + moved - moved.detach()


def nested_masks(
    numbers: Float[Tensor, "rows pixels"], shares: Float[Tensor, "rows quantiles"], temperature: float
) -> Float[Tensor, "rows quantiles pixels"]:
    """sigmoid((s - q_p(s)) / t) for each share p: in [0, 1], of mean p, and nested, a larger share nowhere smaller.

    As t falls each becomes 1 on the top share p of the numbers and 0 elsewhere.

    Args:
        numbers, shares, temperature: As in `smooth_quantile`.
    """
    threshold = smooth_quantile(numbers, shares, temperature)
    return torch.sigmoid((numbers.unsqueeze(1) - threshold.unsqueeze(2)) / temperature)


def spread_shares(quantiles: int, generator: torch.Generator | None) -> Float[Tensor, " quantiles"]:
    """Shares (i + u) / quantiles, one in each equal part of (0, 1), rising; u = 1/2 without a generator, else drawn."""
    offset = 0.5
    if generator is not None:
        offset = 0.02 + 0.96 * float(torch.rand((), generator=generator, dtype=torch.float64))
    return (torch.arange(quantiles, dtype=torch.float64) + offset) / quantiles
