"""The figure of a learned baseline: the image, how it came about, and where it lies beside its rivals."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from counterpoint.audit import REMOVALS, BaselineAudit
from counterpoint.baselines import Learned
from counterpoint.report.audit_figures import TITLES, trade_off_panel

_INK, _CURVE = "#1a1a1a", "#2470b3"


def learned_figure(baseline: Learned, audit: BaselineAudit, caption: str = "") -> Figure:
    """The image and its way above, the two demands below, one panel for each removal score; better is up and to the left."""
    kept = baseline.tensors.get("intermediate")
    stages = [] if kept is None else list(kept)[-4:]
    figure = Figure(figsize=(15.6, 8.6), dpi=120, facecolor="white", layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.75])
    panels = above.subplots(1, 2 + len(stages))
    _show(panels[0], baseline.pixels, "learned")
    for number, (panel, image) in enumerate(zip(panels[1:-1], stages, strict=True), start=1):
        _show(panel, image, f"way, {number} of {len(stages)}")
    losses = baseline.tensors["losses"].numpy()
    panels[-1].plot(np.arange(1, len(losses) + 1), losses, color=_CURVE, lw=0.9)
    panels[-1].set_title("loss at each step", fontsize=9, color=_INK)
    panels[-1].tick_params(labelsize=7)
    for panel, removal in zip(below.subplots(1, len(REMOVALS)), REMOVALS, strict=True):
        trade_off_panel(panel, audit, removal)
        panel.set_ylabel(f"more removed →\n{TITLES[removal]}", fontsize=9)
    facts = baseline.facts
    figure.suptitle(
        f"{caption + ': ' if caption else ''}baseline learned by the {facts.get('recipe')} recipe from {facts.get('start')}; "
        f"{len(audit.images)} other photographs, orange is dominated by none (95 %)",
        fontsize=11,
    )
    return figure


def _show(panel: Axes, image: Float[Tensor, "channel height width"], title: str) -> None:
    panel.imshow(np.clip(image.permute(1, 2, 0).float().cpu().numpy(), 0, 1))
    panel.set_title(title, fontsize=9, color=_INK)
    panel.axis("off")
