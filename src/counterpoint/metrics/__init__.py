"""Is a map faithful to the model? Curves of removed and restored pixels under explicit baselines, and how far rankings agree."""

from counterpoint.metrics.agreement import (
    SensitivityN,
    faithfulness_correlation,
    infidelity,
    mu_fidelity,
    sensitivity_n,
)
from counterpoint.metrics.bank import Bank
from counterpoint.metrics.capped import CappedForward, CappedScores, capped_forward
from counterpoint.metrics.complexity import complexity, effective_complexity, sparseness
from counterpoint.metrics.curve_table import Curve, CurveTable
from counterpoint.metrics.curves import curves
from counterpoint.metrics.deviation import ActivationDeviation, Deviations
from counterpoint.metrics.distribution import OutOfDistribution
from counterpoint.metrics.disturbances import max_sensitivity, noise_infidelity
from counterpoint.metrics.half_precision import PrecisionCheck
from counterpoint.metrics.information import InformationRemoved
from counterpoint.metrics.localisation import (
    auc_in_mask,
    mass_in_mask,
    pointing_game,
    rank_in_mask,
    top_k_intersection,
)
from counterpoint.metrics.masked import average_drop, average_increase
from counterpoint.metrics.pathway import activation_deviation
from counterpoint.metrics.pixel_sets import GivenSets, PixelSets, RandomCells, RandomPixels, RandomSquares
from counterpoint.metrics.random_occlusion import RandomOcclusion, r_oms, random_occlusions
from counterpoint.metrics.ranking import RankStability, rank_stability
from counterpoint.metrics.removal_scores import TradeOff, information_removed, out_of_distribution, trade_off
from counterpoint.metrics.removals import Removals, removals
from counterpoint.metrics.sanity import RandomisedWeights, RandomLogit, random_logit, randomised_weights
from counterpoint.metrics.similarity import Similarity, map_similarity
from counterpoint.metrics.single_curves import (
    aopc,
    deletion_curve,
    insertion_curve,
    lerf_curve,
    morf_curve,
    relevance_gain,
)
from counterpoint.metrics.token_curves import token_deletion_curve, token_insertion_curve

__all__ = [
    "ActivationDeviation",
    "Bank",
    "CappedForward",
    "CappedScores",
    "Curve",
    "CurveTable",
    "Deviations",
    "GivenSets",
    "InformationRemoved",
    "OutOfDistribution",
    "PixelSets",
    "PrecisionCheck",
    "RandomCells",
    "RandomLogit",
    "RandomOcclusion",
    "RandomPixels",
    "RandomSquares",
    "RandomisedWeights",
    "RankStability",
    "Removals",
    "SensitivityN",
    "Similarity",
    "TradeOff",
    "activation_deviation",
    "aopc",
    "auc_in_mask",
    "average_drop",
    "average_increase",
    "capped_forward",
    "complexity",
    "curves",
    "deletion_curve",
    "effective_complexity",
    "faithfulness_correlation",
    "infidelity",
    "information_removed",
    "insertion_curve",
    "lerf_curve",
    "map_similarity",
    "mass_in_mask",
    "max_sensitivity",
    "morf_curve",
    "mu_fidelity",
    "noise_infidelity",
    "out_of_distribution",
    "pointing_game",
    "r_oms",
    "random_logit",
    "random_occlusions",
    "randomised_weights",
    "rank_in_mask",
    "rank_stability",
    "relevance_gain",
    "removals",
    "sensitivity_n",
    "sparseness",
    "token_deletion_curve",
    "token_insertion_curve",
    "top_k_intersection",
    "trade_off",
]
