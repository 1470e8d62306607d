"""The result of an explanation: values, what they had to explain, and how far they miss it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from counterpoint import spec
from counterpoint.checks import shape_text
from counterpoint.errors import CounterpointError, InputError, ShapeError
from counterpoint.files import whole_file
from counterpoint.layers import token_grid
from counterpoint.layouts import Layout, Maps, Tokens, layout_from
from counterpoint.protocols import STEPS, Baseline, Claim, Method, Step

FORMAT = "counterpoint-attribution-1"


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribution:
    """Values for each image of a comparison, and everything needed to judge them.

    All numbers are per image and float32 at least (float64 for float64), computed before `values` are cast to the type of the inputs.

    Reference: Cui and Fan 2026, arXiv:2605.22417 (attribution target, result, error).
    """

    values: Float[Tensor, "batch *features"]
    """Signed; for shares in units of the score."""
    score: Float[Tensor, " batch"]
    """f(x)."""
    baseline_score: Float[Tensor, " batch"]
    """f(x')."""
    result: Float[Tensor, " batch"]
    """Sum of the values: what was explained."""
    baseline: Baseline | spec.Description
    """A Description only where it was loaded and is not in the registry."""
    method: Method | spec.Description
    claim: Claim
    layer: str = "input"
    layer_baseline: str = "features of the baseline"
    """What z' is, at a layer: the features of the input's baseline, or something given in feature space."""
    cut: str = "none"
    """How the model was cut at the layer: "split", "replaced", or "partial" (an intervention: something passes by). "none" at the input."""
    folded: bool = False
    """Whether an equal, faster copy of the model was run, checked to 1e-5."""
    image_size: tuple[int, int] | None = None
    """(height, width) of the inputs, where they are images."""
    layout: Layout | None = None
    """How the values lie on the image; None where they do not."""
    question: Mapping[str, Any] = field(default_factory=dict)
    """What was scored: kind of score, class targets, labels."""

    gradient_evaluations: Int[Tensor, " batch"]
    """Forwards with a backward that this method took, those shared by the comparison not counted."""
    forward_evaluations: Int[Tensor, " batch"]
    """Forwards alone that this method took, those shared by the comparison not counted."""

    prefix_evaluations: Int[Tensor, " batch"]
    """Runs of only the part before the layer, those shared by the comparison not counted."""

    path_error: Float[Tensor, " batch"]
    """sum over pieces of the path of |what its values miss of its own change of score| / |target|; NaN without pieces."""
    pieces: Int[Tensor, " batch"]
    """How many pieces `path_error` was summed over; 0 without."""
    path_variation: Float[Tensor, " batch"]
    """sum over pieces of |change of score|; NaN without pieces."""
    value_error: Float[Tensor, " batch"]
    """Estimated relative L1 distance of the values from the converged ones; NaN where the method has no estimate."""
    converged: Bool[Tensor, " batch"] | None = None
    """Whether the precision asked for was reached; None where none was asked for."""
    standard_error: Float[Tensor, "batch *features"] | None = None
    reference: str = "comparison"
    """What the method itself compares with: the comparison's baseline, or its own."""
    own_target: Float[Tensor, " batch"] | None = None
    """f(x) minus the score at the method's own reference."""
    floor: Float[Tensor, " batch"]
    """|target| below this is too small to divide by: 1e-3 of the spread of the scores over classes, or 2 % of the path variation."""
    error_is_forced: bool = False
    """Whether the method used score values to set its sum; its error is then 0 by definition, and proves nothing."""
    stages: Mapping[Step, Float[Tensor, " batch"]] = field(default_factory=dict)
    """The sum of the values after each step of the method that costs accuracy."""
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def target(self) -> Float[Tensor, " batch"]:
        """What had to be explained, f(x) - f(x')."""
        return self.score - self.baseline_score

    @property
    def error(self) -> Float[Tensor, " batch"]:
        """What the values leave unexplained, target - result; NaN where they claim no shares."""
        return self._where_shares(self.target - self.result)

    @property
    def relative_error(self) -> Float[Tensor, " batch"]:
        """|error| / |target|; NaN where `undefined` gives a reason."""
        small = self.target.abs() <= self.floor
        return (self.error.abs() / self.target.abs()).masked_fill(small, math.nan)

    @property
    def own_error(self) -> Float[Tensor, " batch"]:
        """What the values leave unexplained of the method's own target; `error` where it has none of its own."""
        target = self.target if self.own_target is None else self.own_target
        return self._where_shares(target - self.result)

    @property
    def undefined(self) -> tuple[str | None, ...]:
        """For each image why `relative_error` is NaN, or None where it is a number."""
        if self.claim != "shares":
            kind = {"rate": "rates", "importance": "importances"}[self.claim]
            return (f"values are {kind}, not shares of the score",) * len(self.score)
        return tuple(
            f"target too small: |{t:.3g}| is at most {f:.3g}" if abs(t) <= f else None
            for t, f in zip(self.target.tolist(), self.floor.tolist(), strict=True)
        )

    @property
    def cancellation(self) -> Float[Tensor, " batch"]:
        """sum |values| / |target|: 1 where nothing cancels; large where the sum says little about the map."""
        absolute = self.values.flatten(1).to(self.target.dtype).abs().sum(1)
        return self._where_shares(absolute / self.target.abs())

    def budget(self) -> dict[str, Float[Tensor, " batch"]]:
        """The error taken apart: signed parts that sum to `error`.

        In this order, each part being what the step adds to what was missing before it:

        baseline    f(x) - f(x') minus the method's own target: it compares with something else.
        quadrature  finitely many points on the path.
        one_step    a single gradient for the whole way: the remainder of the Taylor expansion.
        operator    another gradient than the score's: averaged over places, its negative part dropped, smoothed.
        display     values dropped for the sake of the picture, such as the ReLU of a class activation map.

        The parts depend on the order, which is therefore fixed. All are NaN where the values claim no shares.

        Reference: our reconstruction of an error budget after Cui and Fan 2026, arXiv:2605.22417.
        """
        explained = self.target if self.own_target is None else self.own_target
        parts = {"baseline": self._where_shares(self.target - explained)}
        for step in STEPS:
            after = self.stages.get(step, explained)
            parts[step] = self._where_shares(explained - after)
            explained = after
        return parts

    def heatmap(self) -> Float[Tensor, "batch *space"]:
        """One signed number per pixel of the image: channels summed, then spread over pixels so that the sum stays that of the places.

        Of images (batch, height, width); of signals (batch, channel, length) and volumes (batch, channel, depth, height, width), which are
        explained at the input, one number for each place of these.

        What has no place is left out, so that the map then sums to the result without its share: class, distillation and register tokens.
        Of a joint cut the maps of all parts are added.

        Raises:
            ShapeError: the values have no places, their tokens no grid, or the inputs were no images.
        """
        if self.image_size is None and self.layer == "input" and self.values.ndim in (3, 5):
            return self.values.to(self.result.dtype).sum(1)
        if self.image_size is None or self.layout is None:
            raise ShapeError(f"a heat map needs {self._without_places()}.")
        maps = self.layout.maps(self.values.to(self.result.dtype))
        return torch.stack([_on_pixels(each.sum(1), self.image_size) for each in maps]).sum(0)

    def _without_places(self) -> str:
        if self.image_size is not None and self.values.ndim == 3:
            return (
                f"tokens on a grid, but {self.values.shape[1]} tokens, up to 16 of them left out, fit no grid of square patches on "
                f"{self.image_size[0]} x {self.image_size[1]} pixels"
            )
        return (
            "values (batch, channel, height, width), or others with places on an image, such as (batch, tokens, channels), got "
            f"{shape_text(self.values)}"
        )

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file with the values, all numbers and, as metadata, how they were made.

        Raises:
            OutputError: the file cannot be written.
        """
        with whole_file(path) as partial:
            partial.write_bytes(self.to_bytes())
        return Path(path)

    def to_bytes(self) -> bytes:
        """What `save` writes."""
        tensors = {name: getattr(self, name) for name in _TENSORS if getattr(self, name) is not None}
        tensors |= {f"extras.{name}": value for name, value in self.extras.items()}
        tensors |= {f"stages.{name}": value for name, value in self.stages.items()}
        facts = {
            "baseline": spec.describe(self.baseline).as_dict(),
            "method": spec.describe(self.method).as_dict(),
            "claim": self.claim,
            "layer": self.layer,
            "layer_baseline": self.layer_baseline,
            "cut": self.cut,
            "folded": self.folded,
            "error_is_forced": self.error_is_forced,
            "image_size": self.image_size,
            "layout": None if self.layout is None else self.layout.as_dict(),
            "reference": self.reference,
            "question": dict(self.question),
        }
        # Cloned: some are one tensor, such as the NaN of several unknown numbers, and the format takes no shared memory.
        whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        return to_bytes(whole, metadata={"format": FORMAT, "facts": json.dumps(facts)})

    def _where_shares(self, numbers: Tensor) -> Tensor:
        return numbers if self.claim == "shares" else torch.full_like(numbers, math.nan)


_TENSORS = (
    "values score baseline_score result gradient_evaluations forward_evaluations prefix_evaluations path_error pieces path_variation "
    "value_error converged standard_error own_target floor"
).split()


def load_attribution(path: str | Path) -> Attribution:
    """Read what `Attribution.save` wrote.

    Baseline and method are built again where the registry has them, and stay descriptions otherwise.

    Raises:
        InputError: no such file, or not an attribution.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read attribution '{path}': {error}.") from error
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"'{path}' is not an attribution: its format must be {FORMAT}, got {metadata.get('format')}."
        )
    facts = json.loads(metadata["facts"])
    size = None if facts["image_size"] is None else (facts["image_size"][0], facts["image_size"][1])
    if "layout" in facts:
        layout = None if facts["layout"] is None else layout_from(facts["layout"])
    else:  # written before layers had layouts
        layout = _layout_by_shape(tensors["values"], size)
    return Attribution(
        **{name: tensors[name] for name in _TENSORS if name in tensors},
        baseline=_rebuilt("baseline", facts["baseline"]),
        method=_rebuilt("method", facts["method"]),
        claim=facts["claim"],
        layer=facts["layer"],
        layer_baseline=facts["layer_baseline"],
        cut=facts["cut"],
        folded=facts["folded"],
        error_is_forced=facts["error_is_forced"],
        image_size=size,
        layout=layout,
        question=facts["question"],
        reference=facts["reference"],
        stages={step: tensors[f"stages.{step}"] for step in STEPS if f"stages.{step}" in tensors},
        extras={n.removeprefix("extras."): t for n, t in tensors.items() if n.startswith("extras.")},
    )


def _rebuilt(kind: spec.Kind, facts: Mapping[str, Any]) -> Any:
    description = spec.Description(facts["name"], facts["parameters"], facts["version"])
    try:
        built = spec.build(kind, description)
    except CounterpointError:
        return description
    # A later version of the class makes other numbers: then it is not what made these.
    return built if spec.describe(built) == description else description


def _layout_by_shape(values: Tensor, image_size: tuple[int, int] | None) -> Layout | None:
    """Channels first, or tokens of square patches that tile the image."""
    if image_size is None:
        return None
    grid = token_grid(values.shape[1], image_size) if values.ndim == 3 else None
    return Maps() if values.ndim == 4 else None if grid is None else Tokens(*grid)


def _on_pixels(
    cells: Float[Tensor, "batch rows columns"], size: tuple[int, int]
) -> Float[Tensor, "batch height width"]:
    """Each cell spread over its pixels; every sum stays."""
    height, width = (_spread(cells.shape[axis], side, cells) for axis, side in zip((1, 2), size, strict=True))
    return height.T @ cells @ width


def _spread(cells: int, pixels: int, like: Tensor) -> Float[Tensor, "cells pixels"]:
    """How each cell's amount is spread over pixels: bilinear, and every cell's weights sum to 1."""
    centre = (torch.arange(pixels, device=like.device, dtype=torch.float64) + 0.5) * cells / pixels - 0.5
    distance = centre.clamp(0, cells - 1) - torch.arange(cells, device=like.device)[:, None]
    weights = (1.0 - distance.abs()).clamp(min=0.0)
    # Where there are more cells than pixels a cell may lie between two pixels: it goes to the nearest.
    empty = weights.sum(1) == 0
    nearest = distance.abs().argmin(1)
    weights[empty, nearest[empty]] = 1.0
    return (weights / weights.sum(1, keepdim=True)).to(like.dtype)
