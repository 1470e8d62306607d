"""Ways to explain. One class, and one line in METHODS, for each; presets are functions that make one with settings of their own."""

from collections.abc import Callable

from counterpoint.methods.attention_maps import GAE, AttentionRollout
from counterpoint.methods.attn_lrp import AttnLRP
from counterpoint.methods.blur_path import BlurIG
from counterpoint.methods.cam import ODAM, DifferenceMap, GradCAM, HiResCAM, IntegratedGradCAM, LayerCAM
from counterpoint.methods.cam_scores import AblationCAM, ScoreCAM
from counterpoint.methods.cam_weights import EigenCAM, GradCAMPlusPlus, XGradCAM
from counterpoint.methods.controls import CentredBlob, EdgeMap, RandomMap
from counterpoint.methods.counterfactual_path import IG2
from counterpoint.methods.deep_lift import DeepLIFT
from counterpoint.methods.fei import FEI
from counterpoint.methods.gradients import Gradient, GradientTimesInput, Taylor
from counterpoint.methods.guided_path import GuidedIG
from counterpoint.methods.lime import LIME
from counterpoint.methods.masks import IGOS, IGOSPP, ExtremalPerturbation, FGVis, MeaningfulPerturbation
from counterpoint.methods.modified import Deconvnet, GuidedBackprop
from counterpoint.methods.noisy import SmoothGrad, SquareGrad, VarGrad
from counterpoint.methods.occlusion import FeatureAblation, Occlusion
from counterpoint.methods.path import IntegratedGradients, RevisedIG
from counterpoint.methods.regions import REGIONS, Grid, Patches, Superpixels
from counterpoint.methods.relevance import LRP, ExcitationBackprop
from counterpoint.methods.rise import RISE
from counterpoint.methods.sampled import IDGI, ExpectedGradients
from counterpoint.methods.sensitivity import HSIC, Sobol
from counterpoint.methods.shap_gradients import GradientSHAP
from counterpoint.methods.shapley import KernelSHAP
from counterpoint.methods.xrai import XRAI
from counterpoint.protocols import Method

METHODS: dict[str, Callable[..., Method]] = {
    "gradient": Gradient,
    "smooth_grad": SmoothGrad,
    "var_grad": VarGrad,
    "square_grad": SquareGrad,
    "taylor": Taylor,
    "gradient_times_input": GradientTimesInput,
    "integrated_gradients": IntegratedGradients,
    "revised_ig": RevisedIG,
    "expected_gradients": ExpectedGradients,
    "idgi": IDGI,
    "gradient_shap": GradientSHAP,
    "guided_ig": GuidedIG,
    "blur_ig": BlurIG,
    "ig2": IG2,
    "grad_cam": GradCAM,
    "hires_cam": HiResCAM,
    "layer_cam": LayerCAM,
    "odam": ODAM,
    "difference_map": DifferenceMap,
    "integrated_grad_cam": IntegratedGradCAM,
    "grad_cam_pp": GradCAMPlusPlus,
    "xgrad_cam": XGradCAM,
    "score_cam": ScoreCAM,
    "ablation_cam": AblationCAM,
    "eigen_cam": EigenCAM,
    "occlusion": Occlusion,
    "feature_ablation": FeatureAblation,
    "kernel_shap": KernelSHAP,
    "lime": LIME,
    "rise": RISE,
    "fei": FEI,
    "sobol": Sobol,
    "hsic": HSIC,
    "xrai": XRAI,
    "meaningful_perturbation": MeaningfulPerturbation,
    "extremal_perturbation": ExtremalPerturbation,
    "igos": IGOS,
    "igos_pp": IGOSPP,
    "fgvis": FGVis,
    "random_map": RandomMap,
    "edge_map": EdgeMap,
    "centred_blob": CentredBlob,
    "guided_backprop": GuidedBackprop,
    "deconvnet": Deconvnet,
    "deep_lift": DeepLIFT,
    "lrp": LRP,
    "excitation_backprop": ExcitationBackprop,
    "attn_lrp": AttnLRP,
    "attention_rollout": AttentionRollout,
    "gae": GAE,
}

__all__ = [
    "FEI",
    "GAE",
    "HSIC",
    "IDGI",
    "IG2",
    "IGOS",
    "IGOSPP",
    "LIME",
    "LRP",
    "METHODS",
    "ODAM",
    "REGIONS",
    "RISE",
    "XRAI",
    "AblationCAM",
    "AttentionRollout",
    "AttnLRP",
    "BlurIG",
    "CentredBlob",
    "Deconvnet",
    "DeepLIFT",
    "DifferenceMap",
    "EdgeMap",
    "EigenCAM",
    "ExcitationBackprop",
    "ExpectedGradients",
    "ExtremalPerturbation",
    "FGVis",
    "FeatureAblation",
    "GradCAM",
    "GradCAMPlusPlus",
    "Gradient",
    "GradientSHAP",
    "GradientTimesInput",
    "Grid",
    "GuidedBackprop",
    "GuidedIG",
    "HiResCAM",
    "IntegratedGradCAM",
    "IntegratedGradients",
    "KernelSHAP",
    "LayerCAM",
    "MeaningfulPerturbation",
    "Method",
    "Occlusion",
    "Patches",
    "RandomMap",
    "RevisedIG",
    "ScoreCAM",
    "SmoothGrad",
    "Sobol",
    "SquareGrad",
    "Superpixels",
    "Taylor",
    "VarGrad",
    "XGradCAM",
]
