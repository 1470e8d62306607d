"""Hold every method against networks whose true shares are known, and print one table.

For each network (see counterpoint.data.known_shares): the distance of the method's shares from the truth, |a - a*| / |a*|, and
in brackets the least distance that any rescaling could reach. Two controls close the gap of the sum by rescaling: their sum error
is 0 and their map no better.

    python examples/known_shares.py
"""

from collections.abc import Callable

import torch
from torch import Tensor

import counterpoint as cp
from counterpoint.data.known_shares import KNOWN_SHARES, KnownShares, distance, known_shares, scaled_distance
from counterpoint.errors import InputError, ModelError
from counterpoint.methods.regions import Patches


def shares(known: KnownShares, method: cp.methods.Method) -> tuple[Tensor, Tensor]:
    """What a method says of each part, and the truth that it declares: along the straight or the induced path."""
    layer = {"layer": known.unit_layer, "input": "input"}.get(method.level, known.layer)
    comparison = cp.compare(cp.logit(known.module, 0), known.inputs, baseline=known.baseline, layer=layer)
    induced = getattr(method, "path", "straight") == "induced"
    return known.parts(comparison.explain(method).values), known.induced if induced else known.shares


def rescaled(method: cp.methods.Method) -> Callable[[KnownShares], tuple[Tensor, Tensor]]:
    """A control: the method's values multiplied so that their sum is f(x) - f(x')."""

    def forced(known: KnownShares) -> tuple[Tensor, Tensor]:
        found, truth = shares(known, method)
        return found * (truth.sum() / found.sum()), truth

    return forced


ROWS: dict[str, Callable[[KnownShares], tuple[Tensor, Tensor]]] = {
    "integrated_gradients": lambda k: shares(k, cp.methods.IntegratedGradients(value_tolerance=0.01)),
    "integrated_gradients:path=induced": lambda k: shares(
        k, cp.methods.IntegratedGradients(value_tolerance=0.01, path="induced")
    ),
    "integrated_gradients:rule=midpoint(8)": lambda k: shares(
        k, cp.methods.IntegratedGradients(rule=cp.quadrature.Midpoint(8))
    ),
    "expected_gradients": lambda k: shares(k, cp.methods.ExpectedGradients()),
    "taylor:at=input": lambda k: shares(k, cp.methods.Taylor()),
    "taylor:at=baseline": lambda k: shares(k, cp.methods.Taylor(at="baseline")),
    "taylor:order=2": lambda k: shares(k, cp.methods.Taylor(order=2)),
    "gradient_times_input": lambda k: shares(k, cp.methods.GradientTimesInput()),
    "idgi": lambda k: shares(k, cp.methods.IDGI()),
    "gradient": lambda k: shares(k, cp.methods.Gradient()),
    "smooth_grad": lambda k: shares(k, cp.methods.SmoothGrad()),
    "var_grad": lambda k: shares(k, cp.methods.VarGrad()),
    "square_grad": lambda k: shares(k, cp.methods.SquareGrad()),
    "grad_cam": lambda k: shares(k, cp.methods.GradCAM()),
    "grad_cam:reference=comparison (difference_map)": lambda k: shares(k, cp.methods.DifferenceMap()),
    "hires_cam": lambda k: shares(k, cp.methods.HiResCAM()),
    "hires_cam:reference=comparison": lambda k: shares(k, cp.methods.HiResCAM(reference="comparison")),
    "layer_cam": lambda k: shares(k, cp.methods.LayerCAM()),
    "odam": lambda k: shares(k, cp.methods.ODAM()),
    "integrated_grad_cam": lambda k: shares(k, cp.methods.IntegratedGradCAM()),
    "guided_ig": lambda k: shares(k, cp.methods.GuidedIG()),
    "blur_ig": lambda k: shares(k, cp.methods.BlurIG()),
    "ig2": lambda k: shares(k, cp.methods.IG2()),
    "gradient_shap": lambda k: shares(k, cp.methods.GradientSHAP()),
    "grad_cam_pp": lambda k: shares(k, cp.methods.GradCAMPlusPlus()),
    "xgrad_cam": lambda k: shares(k, cp.methods.XGradCAM()),
    "score_cam": lambda k: shares(k, cp.methods.ScoreCAM()),
    "ablation_cam": lambda k: shares(k, cp.methods.AblationCAM()),
    "eigen_cam": lambda k: shares(k, cp.methods.EigenCAM()),
    "guided_backprop": lambda k: shares(k, cp.methods.GuidedBackprop()),
    "deconvnet": lambda k: shares(k, cp.methods.Deconvnet()),
    "deep_lift": lambda k: shares(k, cp.methods.DeepLIFT()),
    "lrp": lambda k: shares(k, cp.methods.LRP()),
    "lrp:composite=epsilon": lambda k: shares(k, cp.methods.LRP(composite="epsilon")),
    "excitation_backprop": lambda k: shares(k, cp.methods.ExcitationBackprop()),
    "attn_lrp": lambda k: shares(k, cp.methods.AttnLRP()),
    "occlusion:size=4,stride=4": lambda k: shares(k, cp.methods.Occlusion(size=4, stride=4)),
    "feature_ablation:regions=patches(4)": lambda k: shares(
        k, cp.methods.FeatureAblation(regions=Patches(4))
    ),
    "kernel_shap:regions=patches(4)": lambda k: shares(k, cp.methods.KernelSHAP(regions=Patches(4))),
    "lime:regions=patches(4)": lambda k: shares(k, cp.methods.LIME(regions=Patches(4))),
    "rise:masks=512": lambda k: shares(k, cp.methods.RISE(masks=512)),
    "sobol": lambda k: shares(k, cp.methods.Sobol()),
    "fei": lambda k: shares(k, cp.methods.FEI()),
    "hsic:designs=512": lambda k: shares(k, cp.methods.HSIC(designs=512)),
    "xrai": lambda k: shares(k, cp.methods.XRAI()),
    "meaningful_perturbation:cells=8,steps=30": lambda k: shares(
        k, cp.methods.MeaningfulPerturbation(cells=8, steps=30)
    ),
    "extremal_perturbation:step=2,sigma=2,steps=30": lambda k: shares(
        k, cp.methods.ExtremalPerturbation(step=2, sigma=2.0, steps=30)
    ),
    "igos:cells=8,points=5,steps=5": lambda k: shares(k, cp.methods.IGOS(cells=8, points=5, steps=5)),
    "igos_pp:cells=8,points=5,steps=5": lambda k: shares(k, cp.methods.IGOSPP(cells=8, points=5, steps=5)),
    "fgvis:steps=30": lambda k: shares(k, cp.methods.FGVis(steps=30)),
    "random_map": lambda k: shares(k, cp.methods.RandomMap()),
    "edge_map": lambda k: shares(k, cp.methods.EdgeMap()),
    "centred_blob": lambda k: shares(k, cp.methods.CentredBlob()),
    "control: taylor, rescaled": rescaled(cp.methods.Taylor()),
    "control: gradient, rescaled": rescaled(cp.methods.Gradient()),
}


def table() -> str:
    """All rows, in Markdown."""
    lines = ["| method | " + " | ".join(KNOWN_SHARES) + " |", "|---" * (len(KNOWN_SHARES) + 1) + "|"]
    for name, row in ROWS.items():
        cells = []
        for network in KNOWN_SHARES:
            try:
                found, truth = row(known_shares(network))
            except (ModelError, InputError):
                cells.append("refused")
                continue
            if found.shape != truth.shape:
                cells.append("–")  # noqa: RUF001 (pixels have no shares there, only the layer has)
            elif not torch.isfinite(found).all():
                cells.append("undefined")
            else:
                cells.append(f"{distance(found, truth):.3f} ({scaled_distance(found, truth):.3f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(table())
