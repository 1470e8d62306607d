"""A baseline learned for one model: an image, with the recipe, the model and the audit that belong to it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from counterpoint.checks import check_finite, check_images, check_range, shape_text
from counterpoint.errors import InputError, ShapeError
from counterpoint.files import whole_file
from counterpoint.layers import find_layer
from counterpoint.metrics.bank import model_hash
from counterpoint.protocols import Baseline, BoundScore, ModuleScore
from counterpoint.spec import FOLLOWS, content_hash
from counterpoint.visualisation.resampling import resampled, whole_box

if TYPE_CHECKING:
    from counterpoint.baselines.learning import Recipe
    from counterpoint.classifier import Classifier

FORMAT = "counterpoint learned baseline 1"


@dataclass(frozen=True, eq=False)
class Learned(Baseline):
    """One image for one model, learned so that it removes information and stays in distribution; the same for every input.

    Made by `Learned.fit` or `counterpoint baseline learn`, kept in a safetensors file, and refused by other models than its own.

    Parameters:
        file: Where it was saved; read when the object is made.
        sha256: Of the image, 64 hexadecimal digits; checked where it is given.
        any_model: Also serve models that it was not learned for.

    Reference: Picard et al. 2025, arXiv:2512.11433 (the idea and the published recipe); the trade-off recipe is our own.
    """

    file: str = ""
    sha256: str = field(default="", metadata={FOLLOWS: True})
    any_model: bool = False
    image: Float[Tensor, "channel height width"] | None = field(default=None, repr=False)
    """Pixels in [0, 1], at the size of the model that it was learned for."""
    model: str = field(default="", repr=False)
    """SHA-256 of that model."""
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Recipe, seed, start, audit: JSON-ready."""
    tensors: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    """`losses` (steps,), and what the variant for single images needs."""

    def __post_init__(self) -> None:
        if self.image is None:
            if not self.file:
                raise InputError(
                    "file must be given, such as learned:file=baseline.safetensors; `counterpoint baseline learn` makes one."
                )
            for name, value in _read(self.file).items():
                object.__setattr__(self, name, value)
        if self.pixels.ndim != 3:
            raise ShapeError(f"image must be (channel, height, width), got {shape_text(self.pixels)}.")
        check_images("image", self.pixels.unsqueeze(0))
        digest = content_hash(self.pixels)
        if self.sha256 and self.sha256 != digest:
            raise InputError(
                f"sha256 of the image in '{self.file}' must be {self.sha256[:12]}..., but is {digest[:12]}...: it is another baseline."
            )
        object.__setattr__(self, "sha256", digest)

    @property
    def pixels(self) -> Float[Tensor, "channel height width"]:
        """The image, given or read.

        Raises:
            InputError: there is none yet.
        """
        if self.image is None:
            raise InputError("image must be given, or a file to read it from.")
        return self.image

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Learned) and (self.sha256, self.model) == (other.sha256, other.model)

    def __hash__(self) -> int:
        return hash((self.sha256, self.model))

    @classmethod
    def fit(
        cls,
        classifier: "Classifier",
        layer: str = "penultimate",
        *,
        images: Float[Tensor, "images channel height width"],
        recipe: "Recipe | None" = None,
        rivals: Sequence[tuple[str, Baseline]] | None = None,
        saliency: Float[Tensor, "images height width"] | None = None,
        seed: int = 0,
        state: Mapping[str, Tensor] | None = None,
        on_step: "Any | None" = None,
    ) -> "Learned":
        """Learn a baseline for a classifier.

        Args:
            classifier: The model, in eval mode.
            layer: Whose output counts as features; "penultimate": what the last linear layer reads.
            images: Real images, pixels in [0, 1], at the model's size; at least 16 for the trade-off recipe.
            recipe: `TradeOffRecipe()` by default, or `PublishedRecipe()`.
            rivals: Names and baselines to do better than; by default paper B's and road.
            saliency: The order in which pixels go, larger first; by default the smoothed gradient of the top class.
            seed: Of all draws.
            state: Where an earlier run was stopped, from `on_step`.
            on_step: Called after each step with a `visualisation.Moment`, whose `state()` can be kept.

        Raises:
            ShapeError: no images, or maps of another size.
            InputError: too few images, pixels out of range, or rivals that do not differ.
            NotFiniteError: NaN or infinity.
            UnknownNameError: no such layer.
            LayerError: the model has no linear layer on (batch, features), and none is named.
            Cancelled: the progress listener stopped the work.
        """
        from counterpoint.baselines.learning import TradeOffRecipe, smoothed_gradient
        from counterpoint.baselines.learning.network import Network

        chosen: Recipe = TradeOffRecipe() if recipe is None else recipe
        check_images("images", images)
        check_finite("images", images)
        check_range("number of images", len(images), chosen.least_images)
        if float(images.min()) < 0 or float(images.max()) > 1:
            raise InputError(
                f"images must have pixels in [0, 1], got {float(images.min()):.3g} to {float(images.max()):.3g}."
            )
        if saliency is not None and saliency.shape != (len(images), *images.shape[2:]):
            raise ShapeError(
                f"saliency must be (images, height, width) of {shape_text(images)}, got {shape_text(saliency)}."
            )
        module = classifier.module
        named = None if layer == "penultimate" else layer
        if named is not None:
            find_layer(module, named)
        if saliency is None and chosen.name != "published":
            saliency = smoothed_gradient(Network.of(module, images[:2], layer=named).module, images)
        lesson = chosen.learn(
            module,
            images,
            saliency,
            layer=named,
            rivals=paper_b() if rivals is None else rivals,
            seed=seed,
            state=state,
            on_step=on_step,
        )
        settings = {each.name: getattr(chosen, each.name) for each in fields(chosen)}  # type: ignore[arg-type]
        return cls(
            image=lesson.image.detach().cpu().contiguous(),
            model=model_hash(module),
            facts={
                "recipe": chosen.name,
                "settings": settings,
                "layer": layer,
                "seed": seed,
                "start": lesson.start,
                "learned_for": classifier.name,
                **lesson.facts,
            },
            tensors={
                "losses": lesson.losses.cpu(),
                "intermediate": lesson.intermediate.cpu(),
                **lesson.tensors,
            },
        )

    def __call__(
        self, inputs: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        """The learned image for every input; brought to their size, antialiased, where that is another.

        Raises:
            ShapeError: the inputs are no images, or have other channels.
        """
        check_images("inputs", inputs)
        if inputs.shape[1] != len(self.pixels):
            raise ShapeError(
                f"inputs must have {len(self.pixels)} channels, as the learned image, got {shape_text(inputs)}."
            )
        image, size = self.pixels.unsqueeze(0), (inputs.shape[2], inputs.shape[3])
        if image.shape[2:] != inputs.shape[2:]:
            image = resampled(image, whole_box(image, size), size)
        return image.to(inputs).expand_as(inputs)

    def prepare(self, bound: BoundScore, inputs: Float[Tensor, "batch *input"]) -> "Learned":
        """Itself, once the model is known to be its own.

        Raises:
            InputError: the score is of another model, or knows none.
        """
        self.check_model(bound)
        return self

    def check_model(self, bound: BoundScore) -> None:
        """Raise unless the score is of the model that the image was learned for, or any model will do.

        Raises:
            InputError: the score is of another model, or knows none.
        """
        if self.any_model:
            return
        way_out = "give any_model=true to use it all the same"
        if not isinstance(bound, ModuleScore):
            raise InputError(
                f"the learned baseline is for one model, but a score that is a plain callable does not say which it is; {way_out}."
            )
        if (here := model_hash(bound.module)) != self.model:
            raise InputError(
                f"the learned baseline is for {self.facts.get('learned_for', 'a model')} ({self.model[:12]}), but the score is of another "
                f"model ({here[:12]}; hashes of weights, structure and normalisation): {way_out}."
            )

    def with_facts(self, **facts: Any) -> "Learned":
        """The same baseline, with more to say about it, such as its audit."""
        return replace(self, facts={**self.facts, **facts})

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file: beside its place first, then renamed.

        Raises:
            OutputError: the file cannot be written.
        """
        tensors = {"image": self.pixels.contiguous(), **{k: v.contiguous() for k, v in self.tensors.items()}}
        metadata = {"format": FORMAT, "model": self.model, "facts": json.dumps(self.facts)}
        with whole_file(path) as partial:
            partial.write_bytes(to_bytes(tensors, metadata=metadata))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path, *, any_model: bool = False) -> "Learned":
        """Read what `save` wrote.

        Raises:
            InputError: no such file, or not a learned baseline.
        """
        return cls(file=str(path), any_model=any_model)


def paper_b() -> list[tuple[str, Baseline]]:
    """Paper B's eleven and road, by name."""
    from counterpoint.baselines.constant import Mean, Median, RandomColor, Zero
    from counterpoint.baselines.imputed import ROAD
    from counterpoint.baselines.local import LocalMean, LocalPermutation
    from counterpoint.baselines.noise import Normal, Uniform
    from counterpoint.baselines.scrambled import Permutation, ScrambleAmplitude, ScramblePhase

    return [
        ("zero", Zero()),
        ("uniform", Uniform()),
        ("normal", Normal()),
        ("permutation", Permutation()),
        ("local_mean", LocalMean()),
        ("local_permutation", LocalPermutation()),
        ("mean", Mean()),
        ("median", Median()),
        ("random_color", RandomColor()),
        ("scramble_phase", ScramblePhase()),
        ("scramble_amplitude", ScrambleAmplitude()),
        ("road", ROAD()),
    ]


def _read(path: str) -> dict[str, Any]:
    """Image, model, facts and tensors of a file.

    Raises:
        InputError: no such file, or not a learned baseline.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"file '{path}' cannot be read as a learned baseline: {error}.") from error
    if metadata.get("format") != FORMAT or "image" not in tensors:
        raise InputError(
            f"file '{path}' must be a learned baseline, '{FORMAT}', got '{metadata.get('format', 'no format')}'."
        )
    image = tensors.pop("image")
    return {
        "image": image,
        "model": metadata.get("model", ""),
        "facts": json.loads(metadata.get("facts", "{}")),
        "tensors": tensors,
    }
