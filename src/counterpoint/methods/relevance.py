"""Layer-wise relevance propagation and excitation backpropagation: the score handed back, each step dividing it among its inputs."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError, NoGradientError
from counterpoint.methods.arithmetic import as_column, exact
from counterpoint.methods.attention_rules import CONSERVATIVE, WRITTEN_OUT
from counterpoint.methods.modified import step_by_step
from counterpoint.methods.propagation import Propagation, Rule, Rules
from counterpoint.protocols import Claim, Level, Outcome

Composite = Literal["epsilon", "epsilon_plus", "epsilon_plus_flat", "epsilon_gamma", "epsilon_gamma_box"]

# The rule of convolutions, and that of the first layer.
_COMPOSITES: dict[str, tuple[Rule, Rule | None]] = {
    "epsilon": ("epsilon", None),
    "epsilon_plus": ("plus", None),
    "epsilon_plus_flat": ("plus", "flat"),
    "epsilon_gamma": ("gamma", None),
    "epsilon_gamma_box": ("gamma", "box"),
}

NOT_LINEAR = ("probability", "log_odds", "cosine_similarity")
"""How kinds of score end whose last step is no sum of the model's outputs."""


@dataclass(frozen=True)
class LRP:
    """Layer-wise relevance propagation: the score handed back step by step, divided by what each input of a step contributed.

    Formula: R_j = sum over k of a_j w_jk / (sum over i of a_i w_ik + b_k) R_k, from R = f(x) at the output; the rules change w, see below

    Values: (batch, *features), signed, in units of the score, shares of f(x) - 0: relevance is compared with zero activations, not with the
    comparison's baseline. What biases and stabilisers take on the way is the conservation gap, `attribution.own_error`; in deep networks
    it can be almost all of the score.

    Rules of convolutions, each dividing by the sum of what it names:

    - epsilon: a w, with epsilon added to the sum.
    - plus: a w where both are positive or both negative, and positive biases.
    - gamma: a (w + gamma w+) where the output is positive, a (w + gamma w-) where it is negative; for negative a the other one.

    Linear layers take epsilon. At the first layer "epsilon_plus_flat" divides evenly and "epsilon_gamma_box" takes
    a w - low w+ - high w-, with the least and greatest value of a pixel in [0, 1]; at a layer's features there is no first layer.

    Sums of activations and averages divide in proportion, max pooling hands all to the maximum. Activations that are 0 at 0 hand
    relevance through as it is, and so do shifts and scales by constants. Batch norm is folded into the layer before it, and is a shift and
    a scale elsewhere. What decides how much of a signal passes counts as a constant, so that all goes to the signal: attention weights
    (softmax), the gates sigmoid and hard sigmoid, and the normalisers of layer, group, instance and root-mean-square norms (conservative
    propagation). `AttnLRP` divides with attention weights and gates instead. All else is refused.

    Parameters:
        composite: "epsilon", "epsilon_plus", "epsilon_plus_flat", "epsilon_gamma" or "epsilon_gamma_box".
        epsilon: Of the epsilon rule.
        gamma: Of the gamma rule.

    Raises:
        ModelError: an operation without a rule (products of two activations number by number, exp, cumsum), or one that cannot be seen; a
            network whose only way to the score leads through gates.
        InputError: a probability, its logarithm, log-odds or a cosine, not linear in the outputs; pixels outside of [0, 1] for the box.

    Reference: Bach et al. 2015, doi:10.1371/journal.pone.0130140; rules and composites after Montavon et al. 2019,
    doi:10.1007/978-3-030-28954-6_10; gamma for negative activations after Andéol et al. 2021, arXiv:2106.04923; gates as constants after
    Arras et al. 2017, arXiv:1706.07206, attention weights and normalisers after Ali et al. 2022, arXiv:2202.07304.
    """

    composite: Composite = "epsilon_plus"
    epsilon: float = 1e-6
    gamma: float = 0.25
    claim: ClassVar[Claim] = "shares"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.composite not in _COMPOSITES:
            raise InputError(f"composite must be one of {', '.join(_COMPOSITES)}, got {self.composite!r}.")
        check_range("epsilon", self.epsilon, 0.0, open_low=True)
        check_range("gamma", self.gamma, 0.0)

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image, in which each convolution is run again, up to five times."""
        check_outputs(comparison, "LRP", NOT_LINEAR, "cp.logit or cp.contrast")
        convolution, first = _COMPOSITES[self.composite]
        pixels = comparison.inputs
        if first == "box" and not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise InputError(
                f"composite='{self.composite}' needs inputs in [0, 1], got {float(pixels.min()):g} to {float(pixels.max()):g}."
            )
        rules = Rules(
            convolution=convolution,
            linear="epsilon",
            first=first,
            epsilon=self.epsilon,
            gamma=self.gamma,
            further=CONSERVATIVE,
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


@dataclass(frozen=True)
class ExcitationBackprop:
    """The probability that a walk from the class down, along excitatory connections only, ends at a feature.

    Formula: P_j = sum over k of a_j w+_jk / (sum over i of a_i w+_ik) P_k, from P = 1 at the class

    Values: (batch, *features), not negative; an importance: probabilities that sum to at most 1, and no shares of the score.

    In the paper no activation is negative. Where one is, such as a normalised pixel, it excites through negative weights (our
    reconstruction). Biases take no part; sums and averages divide among positive activations; the rest is as in `LRP`.

    Raises:
        ModelError: as for `LRP`.
        InputError: another score than a logit.

    Reference: Zhang et al. 2016, arXiv:1608.00507.
    """

    claim: ClassVar[Claim] = "importance"
    level: ClassVar[Level] = "any"
    version: ClassVar[int] = 1

    def __call__(self, comparison: Comparison) -> Outcome:
        """One gradient for each image, in which each convolution is run again, up to twice."""
        check_outputs(comparison, "ExcitationBackprop", (*NOT_LINEAR, "contrast"), "cp.logit")
        rules = Rules(
            convolution="plus",
            linear="plus",
            bias=False,
            excitation=True,
            further=CONSERVATIVE,
            written_out=WRITTEN_OUT,
        )
        return Outcome(values=relevance_of(comparison, rules))


def check_outputs(comparison: Comparison, who: str, refused: tuple[str, ...], wanted: str) -> None:
    """Raise InputError unless the score is the outputs themselves, or a sum of them where `refused` lets it pass."""
    kind = getattr(comparison.bound, "kind", "")
    if kind.endswith(refused):
        raise InputError(
            f"{who} starts from the model's outputs themselves: score must be {wanted}, got {kind}."
        )


def relevance_of(comparison: Comparison, rules: Rules) -> Float[Tensor, "batch *features"]:
    """The relevance of each feature, from 1 at the score."""
    comparison = step_by_step(comparison)
    if comparison.cut is not None:
        rules = replace(rules, first=None)
    try:
        return exact(comparison.gradients(comparison.end, under=lambda image: Propagation(rules)))
    except NoGradientError as error:
        raise NoGradientError(
            "no relevance reaches the features: the score has no gradient, or its only way leads through gates (softmax, sigmoid), which "
            "count as constants. Explain what comes before them, or use cp.methods.AttnLRP() or cp.methods.IntegratedGradients()."
        ) from error
