"""A mask for each pixel and channel, kept to the evidence in the image by clipping gradients."""

from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.activations import CLIP_RULES, Aim, Clip, ClipRule, Layers, Pathway, Under
from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.methods.arithmetic import as_column, exact
from counterpoint.methods.coalitions import on_channels
from counterpoint.methods.masks.blending import Blend, Fill, Look
from counterpoint.methods.masks.searching import Game, MaskSearch, check_search, largest_by_image, searched
from counterpoint.methods.masks.starting import start_map
from counterpoint.protocols import Method, Outcome


@dataclass(frozen=True)
class FGVis(MaskSearch):
    """A mask for each pixel and channel that takes the score away (or keeps it), by gradients that make no new evidence.

    Formula: m <- clip(m - rate * (g / max|g| - sparsity)), g = clipped df(m x + (1 - m) x' + noise) / dm, and map 1 - m;
    "preserve": m <- clip(m + rate * (g / max|g| - sparsity)), and map m

    Values: (batch, channel, height, width), from 0 to 1, a number of its own for each channel: an importance. `extras`: "loss" (batch,
    steps), the score, negative for "preserve", or NaN once an image has stopped; "largest_gradient" (batch,), 0 where the score
    never had one, and the map is then 0; "steps_taken" (batch,); "measured" (batch, maps) with `keep_best`.

    A unit of the network that the masked image drives out of the interval between 0 and its value for the image passes no gradient:
    `counterpoint.activations.Clip`, whose tolerance is **our reconstruction**, as is the form of the sparsity. Published is the probability
    as the score, and a stop where the class changes: `stop=0` with `cp.contrast`. The activations of all images are kept meanwhile,
    27 MB for one on EfficientNet-Lite0. There is no comparison with other code: the authors' is not public.

    Parameters:
        game: "delete" looks for what takes the score away, "preserve" for what alone keeps it up.
        fill: What is blended in; "published" is black.
        rule: What is clipped; see `ClipRule`. "none" shows what clipping is good for.
        layers: At which activations; see `counterpoint.activations.Layers`.
        sparsity: Pull towards an empty map, as a share of the largest gradient; by default 1e-9 for "delete", which is as good as none,
            and 0.1 for "preserve", which begins with a full one.
        steps, rate: Of gradient descent.
        noise: Standard deviation of the noise on blended images in [0, 1]; published is 0.1 for normalised images.
        stop: "delete" leaves an image's mask as it is once its score is at most this.
        start: Begin at this method's heat map.
        start_layer: Where that method works; by default the input, or the last layer with maps.
        keep_best: So many times on the way, the last time at the end, the map is measured by its insertion minus its deletion area
            under the comparison's baseline (39 forwards), as is the start's; the best is handed back. 0 hands back the last.
        seed: Of the noise.

    Raises:
        ShapeError: the inputs are no images.
        InputError: a baseline that only fills, with `fill="baseline"`; or a network without activations to clip at.

    Reference: Wagner et al. 2019, arXiv:1908.02686.
    """

    game: Game = "delete"
    fill: Fill = "baseline"
    rule: ClipRule = "fgvis"
    layers: tuple[str, ...] | int | None = None
    sparsity: float | None = None
    steps: int = 500
    rate: float = 0.1
    noise: float = 0.0225
    stop: float | None = None
    start: Method | None = None
    start_layer: str | None = None
    keep_best: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_search(self.fill, self.steps, self.keep_best)
        if self.game not in ("delete", "preserve"):
            raise InputError(f"game must be 'delete' or 'preserve', got {self.game!r}.")
        if self.rule not in CLIP_RULES:
            raise InputError(f"rule must be one of {', '.join(CLIP_RULES)}, got {self.rule!r}.")
        if self.sparsity is not None:
            check_range("sparsity", self.sparsity, 0, 1)
        if self.stop is not None and self.game == "preserve":
            raise InputError(
                "stop is for game 'delete', whose score falls; 'preserve' goes on to the last step."
            )
        check_range("rate", self.rate, 0, open_low=True)
        check_range("noise", self.noise, 0)

    def __call__(self, comparison: Comparison) -> Outcome:
        """At most `steps` gradients for each image, and one forward."""
        blend = Blend.of(comparison, self.fill, _black, "black")
        like = exact(comparison.inputs)
        under = self._under(comparison)
        # What is marked is the map: removed in the one game, kept in the other.
        marked = torch.zeros_like(like) if self.game == "delete" else torch.ones_like(like)
        begin = None
        if self.start is not None:
            begin = on_channels(start_map(comparison, self.start, self.start_layer), comparison)
            marked = begin * like.shape[1]
        sparsity = self.sparsity
        if sparsity is None:
            sparsity = 1e-9 if self.game == "delete" else 0.1
        generator = torch.Generator().manual_seed(self.seed)
        going = torch.arange(len(like), device=like.device)
        taken = torch.zeros(len(like), dtype=torch.int64, device=like.device)
        sign = 1.0 if self.game == "delete" else -1.0

        def step(_: int) -> tuple[Tensor, Tensor]:
            nonlocal going
            loss, largest = like.new_full((len(like),), torch.nan), like.new_zeros(len(like))
            noise = self.noise * torch.randn(like.shape[1:], generator=generator).to(like)
            if not len(going):
                return loss, largest
            here = marked[going]
            shown = 1 - here if self.game == "delete" else here
            scores, slope = blend.scores_and_gradients(
                shown, going, look=Look(noise=noise if self.noise else None), under=under
            )
            loss[going], largest[going] = sign * scores, largest_by_image(slope)
            size = as_column(largest[going].where(largest[going] > 0, 1.0), slope)
            moved = (here + self.rate * (slope / size - sparsity)).clamp(0, 1)
            if self.stop is not None:
                moved = moved.where(as_column(scores, slope) > self.stop, here)
            marked[going] = moved
            taken[going] += 1
            if self.stop is not None:
                going = going[scores > self.stop]
            return loss, largest

        found = searched(
            "fgvis",
            step,
            lambda: marked,
            blend,
            steps=self.steps,
            keep_best=self.keep_best,
            start=begin,
        )
        return replace(found, extras={**found.extras, "steps_taken": taken})

    def _under(self, comparison: Comparison) -> Under:
        """The context in which gradients are clipped."""
        if self.rule == "none":
            return nullcontext
        module = getattr(comparison.evaluation.runner, "module", None)
        layers: Layers = self.layers
        pathway = Pathway.recorded(
            lambda under: comparison.scores(comparison.inputs, under=under), module, layers=layers
        )
        aim: Aim = "minimise" if self.game == "delete" else "maximise"
        rule = self.rule
        return lambda image: Clip(pathway, image, rule=rule, aim=aim)


def _black(
    images: Float[Tensor, "batch channel height width"],
) -> Float[Tensor, "2 batch channel height width"]:
    return torch.stack([torch.zeros_like(images), images])
