"""AttnLRP: relevance propagation through transformers."""

from dataclasses import dataclass
from typing import ClassVar

from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.methods.arithmetic import as_column
from counterpoint.methods.attention_rules import FURTHER, WRITTEN_OUT
from counterpoint.methods.propagation import Rules
from counterpoint.methods.relevance import NOT_LINEAR, check_outputs, relevance_of
from counterpoint.protocols import Claim, Level, Outcome


@dataclass(frozen=True)
class AttnLRP:
    """Layer-wise relevance propagation with rules for attention, so that a transformer's score can be handed back to its pixels.

    Formula: softmax R_i = x_i (R'_i - s_i sum of R'_j); product O = A V: R(A_ji) = sum over p of A_ji V_ip R'_jp / (2 O_jp + epsilon), and
    the same for V; the others as in `LRP` with the epsilon rule

    Values: (batch, *features), signed, in units of the score, shares of f(x) - 0: relevance is compared with zero activations, not with the
    comparison's baseline. The conservation gap, `attribution.own_error`, is what stays on the way: with the class token and other constants
    that are joined to activations, biases of linear layers, and in every softmax, whose expansion has a remainder.

    Beside those of `LRP` these steps have rules:

    - softmax, and sums of products of two activations (Q K^T, A V; matmul, einsum): above. A product number by number gives half to each.
    - layer, group, instance and root-mean-square norms hand relevance through as it is: the normaliser counts as a constant, and so do
      divisors and reciprocal square roots.
    - GELU, SiLU, the gates sigmoid and hard sigmoid: as it is.
    - fused attention and `nn.MultiheadAttention`: as the operations that they hide. Values of the run stay the model's own.

    Moves such as the windows and shifts of a Swin need no rule. Position embeddings are shifts, and hand all through.

    Parameters:
        epsilon: Added to every denominator, with its own sign.
        gamma: Of the gamma rule of linear layers; 0 for the epsilon rule.
        convolution_gamma: The same for convolutions.

    Raises:
        ModelError: an operation without a rule, or one that cannot be seen; dropout in training mode.
        InputError: a probability, its logarithm, log-odds or a cosine, not linear in the outputs.

    Reference: Achtibat et al. 2024, arXiv:2402.05602; gates without a paper's rule and divisors as constants are ours.
    """

    epsilon: float = 1e-6
    gamma: float = 0.0
    convolution_gamma: float = 0.0
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range("epsilon", self.epsilon, 0.0, open_low=True)
        check_range("gamma", self.gamma, 0.0)
        check_range("convolution_gamma", self.convolution_gamma, 0.0)

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image, in which each linear layer is run again, with gamma up to five times."""
        check_outputs(comparison, "AttnLRP", NOT_LINEAR, "cp.logit or cp.contrast")
        rules = Rules(
            convolution="gamma" if self.convolution_gamma else "epsilon",
            linear="gamma" if self.gamma else "epsilon",
            epsilon=self.epsilon,
            stabiliser=self.epsilon,
            gamma=self.convolution_gamma,
            linear_gamma=self.gamma,
            further=FURTHER,
            written_out=WRITTEN_OUT,
        )
        # Every rule is linear in the relevance: it starts at 1, and gets its unit here.
        relevance = relevance_of(comparison, rules)
        values = as_column(comparison.score, relevance) * relevance
        return Outcome(
            values=values,
            reference="zero activations",
            own_target=comparison.score,
            stages={"operator": values.flatten(1).sum(1)},
        )
