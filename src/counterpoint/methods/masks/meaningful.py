"""The smallest smooth mask whose removal takes the score away, by gradient descent."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from counterpoint.baselines.blurred import Blur
from counterpoint.checks import check_range
from counterpoint.comparison import Comparison
from counterpoint.errors import InputError
from counterpoint.methods.arithmetic import exact
from counterpoint.methods.coalitions import on_channels
from counterpoint.methods.masks.blending import Blend, Fill, Look
from counterpoint.methods.masks.grids import Enlargement, total_variation, value_and_slope
from counterpoint.methods.masks.searching import Game, MaskSearch, check_search, largest_by_image, searched
from counterpoint.methods.masks.starting import start_map
from counterpoint.protocols import Method, Outcome

_PUBLISHED_BLUR = 10.0


@dataclass(frozen=True)
class MeaningfulPerturbation(MaskSearch):
    """The smallest smooth mask that takes the score away (or that keeps it), on a coarse grid.

    Formula: minimise over m  f(m x + (1 - m) x') + area * Σ (1 - m) + smoothness * Σ |differences of neighbours|^power, and map 1 - m;
    "preserve": -f(...) + area * Σ m + ..., and map m

    Values: (batch, channel, height, width), from 0 to 1 over all channels: an importance. `extras`: "loss" (batch, steps);
    "largest_gradient" (batch,), 0 where the score never had one, and the map is then 0; "measured" (batch, maps) with `keep_best`.

    The weights were published for probabilities; a score of another size shifts the balance. All images are optimised at once, each
    as if alone. Left out are the published start at a disc and the blur of the enlarged mask; whether "Σ" was a sum or a mean is **our
    reconstruction**, as is the start at a mask that removes nothing. There is no comparison with the authors' code, which does not install.

    Parameters:
        game: See `Game`.
        fill: What is blended in; "published" is the image blurred by 10 pixels.
        cells: Side of the grid, enlarged bilinearly; at most one cell for each pixel.
        area, smoothness, power: Of the regularisers.
        steps, rate: Of Adam.
        jitter: The picture moves under the mask by up to so many pixels each way, drawn anew for each step, the same for all images.
        start: Begin at this method's heat map.
        start_layer: Where that method works; by default the input, or the last layer with maps.
        keep_best: So many times on the way, the last time at the end, the map is measured by its insertion minus its deletion area
            under the comparison's baseline (39 forwards), as is the start's; the best is handed back. 0 hands back the last.
        seed: Of the jitter.

    Raises:
        ShapeError: the inputs are no images.
        InputError: a baseline that only fills, with `fill="baseline"`.

    Reference: Fong and Vedaldi 2017, arXiv:1704.03296.
    """

    game: Game = "delete"
    fill: Fill = "baseline"
    cells: int = 28
    area: float = 1e-4
    smoothness: float = 1e-2
    power: float = 3.0
    steps: int = 300
    rate: float = 0.1
    jitter: int = 4
    start: Method | None = None
    start_layer: str | None = None
    keep_best: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_search(self.fill, self.steps, self.keep_best)
        if self.game not in ("delete", "preserve"):
            raise InputError(f"game must be 'delete' or 'preserve', got {self.game!r}.")
        for name in ("area", "smoothness", "jitter"):
            check_range(name, getattr(self, name), 0)
        check_range("cells", self.cells, 1)
        check_range("power", self.power, 1)
        check_range("rate", self.rate, 0, open_low=True)

    def __call__(self, comparison: Comparison) -> Outcome:
        """`steps` gradients for each image."""
        blend = Blend.of(comparison, self.fill, _blurred, "the image blurred by 10 pixels")
        like = exact(comparison.inputs)
        enlarge = Enlargement.to((like.shape[2], like.shape[3]), self.cells, like)
        image = torch.arange(len(like), device=like.device)
        begin = None
        # Cells say how much is removed in the one game, how much is kept in the other: both are the map.
        cells = like.new_zeros(len(like), *enlarge.cells)
        if self.game == "preserve":
            cells += 1
        if self.start is not None:
            begin = start_map(comparison, self.start, self.start_layer)
            cells = enlarge.shrink(begin).clone()
        sign = -1.0 if self.game == "preserve" else 1.0
        adam = torch.optim.Adam([cells], lr=self.rate)
        generator = torch.Generator().manual_seed(self.seed)

        def rough(masks: Float[Tensor, "batch high wide"]) -> Float[Tensor, " batch"]:
            return self.smoothness * total_variation(masks, power=self.power)

        def step(_: int) -> tuple[Tensor, Tensor]:
            down, right = torch.randint(-self.jitter, self.jitter + 1, (2,), generator=generator).tolist()
            marked = enlarge(cells).unsqueeze(1)
            shown = marked if self.game == "preserve" else 1 - marked
            scores, slope = blend.scores_and_gradients(shown, image, look=Look(down=down, right=right))
            # d shown / d cells and the sign of the score cancel: in both games the score's part is minus its slope.
            of_score = -enlarge.pull(slope[:, 0])
            roughness, of_roughness = value_and_slope(rough, cells)
            loss = sign * scores + self.area * cells.flatten(1).sum(1) + roughness
            cells.grad = of_score + self.area + of_roughness
            adam.step()
            cells.clamp_(0, 1)
            return loss, largest_by_image(of_score)

        return searched(
            "meaningful_perturbation",
            step,
            lambda: on_channels(enlarge(cells), comparison),
            blend,
            steps=self.steps,
            keep_best=self.keep_best,
            start=None if begin is None else on_channels(begin, comparison),
        )


def _blurred(
    images: Float[Tensor, "batch channel height width"],
) -> Float[Tensor, "2 batch channel height width"]:
    return torch.stack([Blur(_PUBLISHED_BLUR)(images), images])
