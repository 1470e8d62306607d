"""Every method on EfficientNet-Lite0 and one photograph, beside the package that has it, at equal settings.

    python benchmarks/methods.py [--only NAME ...] [--repeats N]

Ours and the peer's take turns in one process; time is the median, forwards and gradients are those of ours, peak memory is what a run
adds to the process (Linux only). Peers get the settings that are fastest for them: five rows at a time where they take a number.
Absolute times mean little on a shared machine; the ratios are of runs next to each other.
"""

import argparse
import ctypes
import os
import re
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn

import counterpoint as cp
from counterpoint.data.photographs import find_photographs
from counterpoint.methods.regions import Grid
from counterpoint.quadrature import GaussLegendre

LAYER = "blocks.10"  # 112 channels at 14 x 14: the channel by channel methods run it 112 times
AT_ONCE = 5


@dataclass(frozen=True)
class Setting:
    """What every run gets."""

    module: nn.Module
    images: Tensor
    baseline: Tensor
    target: int
    input: cp.Comparison
    layer: cp.Comparison

    @property
    def part(self) -> nn.Module:
        """The module at LAYER."""
        return self.module.get_submodule("model." + LAYER)

    def grid(self, cells: int) -> Tensor:
        """Region ids as captum wants them, (1, 1, height, width)."""
        return Grid(cells)(self.images).unsqueeze(1)


@dataclass(frozen=True)
class Row:
    """One method, and what its peer calls it."""

    name: str
    method: Any
    at: str = "input"
    peer: str = ""
    run_peer: Callable[[Setting], Any] | None = None


def captum(name: str, **options: Any) -> Callable[[Setting], Any]:
    """A method of captum at the input; options may be functions of the setting."""

    def run(s: Setting) -> Any:
        import captum.attr

        given = {key: value(s) if callable(value) else value for key, value in options.items()}
        wrapped = given.pop("wrap", lambda each: each)
        return wrapped(getattr(captum.attr, name)(s.module)).attribute(s.images, target=s.target, **given)

    return run


def smoothed(kind: str, samples: int) -> Callable[[Setting], Any]:
    """captum's NoiseTunnel around Saliency."""

    def run(s: Setting) -> Any:
        from captum.attr import NoiseTunnel, Saliency

        tunnel = NoiseTunnel(Saliency(s.module))
        return tunnel.attribute(
            s.images,
            target=s.target,
            nt_type=kind,
            nt_samples=samples,
            nt_samples_batch_size=AT_ONCE,
            stdevs=0.15,
            abs=False,
        )

    return run


def grad_cam(name: str, **options: Any) -> Callable[[Setting], Any]:
    """A method of pytorch-grad-cam at LAYER."""

    def run(s: Setting) -> Any:
        import pytorch_grad_cam
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        with getattr(pytorch_grad_cam, name)(s.module, [s.part]) as cam:
            for key, value in options.items():
                setattr(cam, key, value)
            return cam(s.images, [ClassifierOutputTarget(s.target)])

    return run


def zennit(composite: str) -> Callable[[Setting], Any]:
    """LRP of zennit with batch norm merged."""

    def run(s: Setting) -> Any:
        from zennit import composites
        from zennit.attribution import Gradient
        from zennit.canonizers import SequentialMergeBatchNorm

        rules = getattr(composites, composite)(canonizers=[SequentialMergeBatchNorm()])
        with Gradient(s.module, rules) as attributor:
            return attributor(s.images.clone(), torch.eye(1000)[[s.target]])

    return run


def baseline(s: Setting) -> Tensor:
    return s.baseline


def rows() -> list[Row]:
    m = cp.methods
    return [
        Row("gradient", m.Gradient(), peer="captum Saliency", run_peer=captum("Saliency", abs=False)),
        Row(
            "smooth_grad",
            m.SmoothGrad(samples=50),
            peer="captum NoiseTunnel",
            run_peer=smoothed("smoothgrad", 50),
        ),
        Row("var_grad", m.VarGrad(samples=50), peer="captum NoiseTunnel", run_peer=smoothed("vargrad", 50)),
        Row(
            "square_grad",
            m.SquareGrad(samples=50),
            peer="captum NoiseTunnel",
            run_peer=smoothed("smoothgrad_sq", 50),
        ),
        Row("taylor", m.Taylor()),
        Row(
            "gradient_times_input",
            m.GradientTimesInput(),
            peer="captum InputXGradient",
            run_peer=captum("InputXGradient"),
        ),
        Row(
            "integrated_gradients:rule=gauss_legendre(50)",
            m.IntegratedGradients(rule=GaussLegendre(50)),
            peer="captum IntegratedGradients",
            run_peer=captum(
                "IntegratedGradients", baselines=baseline, n_steps=50, internal_batch_size=AT_ONCE
            ),
        ),
        Row("integrated_gradients", m.IntegratedGradients()),
        Row("expected_gradients", m.ExpectedGradients(samples=50)),
        Row(
            "gradient_shap",
            m.GradientSHAP(samples=50),
            peer="captum GradientShap",
            run_peer=captum("GradientShap", baselines=baseline, n_samples=50, stdevs=0.09),
        ),
        Row("idgi", m.IDGI(steps=50)),
        Row("guided_ig", m.GuidedIG(steps=50)),
        Row("blur_ig", m.BlurIG(steps=50)),
        Row("grad_cam", m.GradCAM(), "layer", "pytorch-grad-cam", grad_cam("GradCAM")),
        Row("grad_cam_pp", m.GradCAMPlusPlus(), "layer", "pytorch-grad-cam", grad_cam("GradCAMPlusPlus")),
        Row("xgrad_cam", m.XGradCAM(), "layer", "pytorch-grad-cam", grad_cam("XGradCAM")),
        Row("hires_cam", m.HiResCAM(), "layer", "pytorch-grad-cam", grad_cam("HiResCAM")),
        Row("layer_cam", m.LayerCAM(), "layer", "pytorch-grad-cam", grad_cam("LayerCAM")),
        Row("eigen_cam", m.EigenCAM(), "layer", "pytorch-grad-cam", grad_cam("EigenCAM")),
        Row("score_cam", m.ScoreCAM(), "layer", "pytorch-grad-cam", grad_cam("ScoreCAM", batch_size=AT_ONCE)),
        Row(
            "ablation_cam",
            m.AblationCAM(),
            "layer",
            "pytorch-grad-cam",
            grad_cam("AblationCAM", batch_size=AT_ONCE),
        ),
        Row("integrated_grad_cam", m.IntegratedGradCAM(), "layer"),
        Row(
            "guided_backprop",
            m.GuidedBackprop(),
            peer="captum GuidedBackprop",
            run_peer=captum("GuidedBackprop"),
        ),
        Row("deconvnet", m.Deconvnet(), peer="captum Deconvolution", run_peer=captum("Deconvolution")),
        Row(
            "deep_lift", m.DeepLIFT(), peer="captum DeepLift", run_peer=captum("DeepLift", baselines=baseline)
        ),
        Row("lrp", m.LRP(), peer="zennit EpsilonPlus", run_peer=zennit("EpsilonPlus")),
        Row(
            "excitation_backprop",
            m.ExcitationBackprop(),
            peer="zennit ExcitationBackprop",
            run_peer=zennit("ExcitationBackprop"),
        ),
        Row(
            "occlusion",
            m.Occlusion(size=32, stride=32),
            peer="captum Occlusion",
            run_peer=captum(
                "Occlusion",
                baselines=baseline,
                sliding_window_shapes=(3, 32, 32),
                strides=(3, 32, 32),
                perturbations_per_eval=AT_ONCE,
            ),
        ),
        Row(
            "feature_ablation",
            m.FeatureAblation(regions=Grid(7)),
            peer="captum FeatureAblation",
            run_peer=captum(
                "FeatureAblation",
                baselines=baseline,
                feature_mask=lambda s: s.grid(7),
                perturbations_per_eval=AT_ONCE,
            ),
        ),
        Row(
            "kernel_shap",
            m.KernelSHAP(regions=Grid(7), samples=200),
            peer="captum KernelShap",
            run_peer=captum(
                "KernelShap",
                baselines=baseline,
                feature_mask=lambda s: s.grid(7),
                n_samples=200,
                perturbations_per_eval=AT_ONCE,
            ),
        ),
        Row(
            "lime",
            m.LIME(regions=Grid(7), samples=200),
            peer="captum Lime",
            run_peer=captum(
                "Lime",
                baselines=baseline,
                feature_mask=lambda s: s.grid(7),
                n_samples=200,
                perturbations_per_eval=AT_ONCE,
            ),
        ),
        Row("rise", m.RISE(masks=200)),
        Row("sobol", m.Sobol(cells=8, designs=4)),
        Row("hsic", m.HSIC(cells=8, designs=200)),
        Row("xrai", m.XRAI()),
        Row("random_map", m.RandomMap()),
        Row("edge_map", m.EdgeMap()),
        Row("centred_blob", m.CentredBlob()),
    ]


def peak_of(run: Callable[[], Any]) -> float:
    """MiB that a run adds at its peak; NaN where the system does not tell."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        return float("nan")
    ctypes.CDLL(None).malloc_trim(0)
    clear.write_text("5")
    before = _kilobytes(status.read_text(), "VmRSS")
    run()
    return (_kilobytes(status.read_text(), "VmHWM") - before) / 1024


def _kilobytes(status: str, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+)", status)
    assert found
    return int(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", help="methods to run, by the start of their names")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    warnings.simplefilter("ignore")
    classifier = cp.load_model("efficientnet_lite0")
    images = classifier.preprocess(find_photographs(["sample:chelsea"]))
    blur = cp.baselines.Blur(sigma=10)
    # The folded copy is made once, for all methods; making and checking it is not in the times.
    whole = cp.compare(cp.logit(classifier), images, baseline=blur, fold=True)
    setting = Setting(
        classifier.module, images, blur(images), int(whole.bound.classes), whole, whole.at(LAYER)
    )
    print(
        "| method | seconds | forwards | gradients | MiB | peer | its seconds | its MiB | times faster |\n"
        + "|---" * 9
        + "|"
    )
    for row in rows():
        if arguments.only and not row.name.startswith(tuple(arguments.only)):
            continue
        comparison = setting.layer if row.at == "layer" else setting.input
        show(
            row,
            setting,
            lambda row=row, comparison=comparison: comparison.explain(row.method),
            arguments.repeats,
        )


def show(row: Row, setting: Setting, ours: Callable[[], cp.Attribution], repeats: int) -> None:
    runs: dict[str, Callable[[], Any]] = {"ours": ours}
    if row.run_peer is not None:
        runs["peer"] = lambda: row.run_peer(setting)  # type: ignore[misc]
    attribution = ours()  # once to warm up
    peaks = {name: peak_of(run) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    mine = statistics.median(seconds["ours"])
    cells = [
        row.name,
        f"{mine:.2f}",
        int(attribution.forward_evaluations),
        int(attribution.gradient_evaluations),
        f"{peaks['ours']:.0f}",
    ]
    if "peer" in runs:
        theirs = statistics.median(seconds["peer"])
        cells += [row.peer, f"{theirs:.2f}", f"{peaks['peer']:.0f}", f"{theirs / mine:.2f}"]
    else:
        cells += ["", "", "", ""]
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
