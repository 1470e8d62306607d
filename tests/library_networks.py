"""About forty architectures with random weights, and whether every method works on each: for the table in docs/architectures.md."""

from dataclasses import dataclass

import torch

import counterpoint as cp
from counterpoint.errors import CounterpointError
from counterpoint.methods import METHODS
from counterpoint.models import load_model
from counterpoint.places import default_map_layer

TORCHVISION = (
    "alexnet convnext_tiny densenet121 efficientnet_b0 efficientnet_v2_s googlenet inception_v3 maxvit_t mnasnet0_5 mobilenet_v2 "
    "mobilenet_v3_small regnet_y_400mf resnet18 resnext50_32x4d shufflenet_v2_x0_5 squeezenet1_1 swin_t swin_v2_t vgg11_bn vit_b_32"
).split()
TIMM = (
    "convnext_atto deit_tiny_distilled_patch16_224 edgenext_xx_small ghostnet_100 mixer_s32_224 mobilevit_xxs pit_ti_224 poolformerv2_s12 "
    "repvgg_a0 swin_tiny_patch4_window7_224 tf_efficientnet_lite0 vit_tiny_patch16_224 vit_medium_patch16_reg4_gap_256"
).split()
HUGGING_FACE = "convnext deit dinov2 mobilenet_v2 regnet resnet swin vit".split()
ARCHITECTURES = (
    *(f"torchvision:{name}" for name in TORCHVISION),
    *(f"timm:{name}" for name in TIMM),
    *(f"hf:{name}" for name in HUGGING_FACE),
)

# Whether a method runs does not depend on how often: as few steps, samples and masks as it takes.
CHEAP = {
    **{key: {"samples": 2} for key in ("smooth_grad", "var_grad", "square_grad", "expected_gradients", "gradient_shap")},
    "integrated_gradients": {"rule": cp.quadrature.GaussLegendre(2)},
    "revised_ig": {"rule": cp.quadrature.GaussLegendre(2)},
    "idgi": {"steps": 2},
    "guided_ig": {"steps": 4},
    "blur_ig": {"steps": 2},
    "ig2": {"steps": 3},
    "integrated_grad_cam": {"steps": 2},
    "occlusion": {"size": 48, "stride": 48},
    "feature_ablation": {"regions": cp.methods.Grid(cells=2)},
    "kernel_shap": {"regions": cp.methods.Grid(cells=2), "samples": 10, "precision": None},
    "lime": {"regions": cp.methods.Grid(cells=2), "samples": 10},
    "rise": {"masks": 8, "precision": None},
    "sobol": {"cells": 2, "designs": 2},
    "hsic": {"cells": 2, "designs": 8},
    "xrai": {"scales": (1200.0,), "tolerance": 0.5},
    "meaningful_perturbation": {"steps": 2},
    "extremal_perturbation": {"steps": 2, "areas": (0.1,)},
    "igos": {"steps": 1, "points": 1},
    "igos_pp": {"steps": 1, "points": 1},
    "fgvis": {"steps": 2},
    "fei": {"steps": 2, "quantiles": 2, "every": 2, "measure": 2, "grids": (7,)},
}  # fmt: skip
SMALL = 96
# Its windows shrink with the first small image, and stay so: the next one is refused by transformers itself.
OF_ONE_SIZE = ("hf:swin",)


@dataclass(frozen=True)
class Cell:
    """What came of one method on one architecture."""

    state: str
    """"works"; "refused", with a message that says why; "fails", with anything else."""
    reason: str = ""


@dataclass(frozen=True)
class Row:
    """One architecture."""

    layer: str
    """The default layer for class activation maps."""
    cut: str
    cells: dict[str, Cell]


def made_up(classifier: cp.Classifier, *, small: bool = True) -> torch.Tensor:
    """A made-up photograph, (1, channel, height, width): small where the network takes it, for what is tried does not depend on it."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, len(classifier.preprocessing.mean), 8, 8, generator=generator)
    for size in ((SMALL, SMALL), classifier.preprocessing.size)[not small :]:
        images = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
        try:
            with torch.no_grad():
                classifier.module(images)
        except (
            RuntimeError,
            ValueError,
            AssertionError,
        ):  # a network for one size of images says so in its own way
            continue
        break
    return images


def tried(name: str, methods: tuple[str, ...] = tuple(METHODS)) -> Row:
    """Explain a made-up photograph with every method, at the model's default layer where it is for layers."""
    classifier = load_model(name, random_weights=True)
    images = made_up(classifier, small=name not in OF_ONE_SIZE)
    height, width = images.shape[2:]
    score = cp.logit(classifier)
    pixels = cp.compare(score, images, baseline=cp.baselines.Grey())
    layer = default_map_layer(classifier.module, images)
    features = pixels.at(layer)
    cells = {}
    for each in methods:
        method = METHODS[each](**CHEAP.get(each, {}))
        try:
            found = (features if method.level == "layer" else pixels).explain(method)
            whole = bool(found.values.isfinite().all()) and found.heatmap().shape == (1, height, width)
            cells[each] = Cell("works") if whole else Cell("fails", "values that are not finite")
        except CounterpointError as error:
            cells[each] = Cell("refused", str(error))
        except Exception as error:
            cells[each] = Cell("fails", f"{type(error).__name__}: {error}")
    return Row(layer, features.cut.kind if features.cut is not None else "none", cells)
