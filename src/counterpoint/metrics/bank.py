"""A bank of real images' features: what "in distribution" is measured against."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from counterpoint import progress
from counterpoint.batching import MicroBatch
from counterpoint.checks import check_batch, check_finite, check_images, check_range
from counterpoint.classifier import Classifier, Normalise, weights_hash
from counterpoint.errors import InputError, ShapeError
from counterpoint.files import whole_file
from counterpoint.layers import unwrapped
from counterpoint.metrics.crops import crop_boxes, with_crops
from counterpoint.metrics.curves import FOLD_FROM
from counterpoint.metrics.neighbours import kth_distance, same_picture
from counterpoint.metrics.readout import Readout, Side
from counterpoint.scores import ClassScore, check_pixels
from counterpoint.spec import content_hash
from counterpoint.state import left_as_found

FORMAT = "counterpoint-bank-1"

# Images between two reports of progress, and entries whose own distances are computed at once.
_IMAGES_AT_ONCE = 64
_ROWS_AT_ONCE = 256

Group = str | int
"""Which photograph an image is of: a name, such as its file's, or a number."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """Features of real images under one model; made by `Bank.of`.

    Raises:
        InputError: no entries, no mean prediction, or another number of groups than entries.
        NotFiniteError: NaN or infinity among the features.

    Reference: Picard et al. 2025, arXiv:2512.11433 (reference features of the penultimate layer); Sun et al. 2022, arXiv:2204.06507
    (nearest neighbours of features).
    """

    features: Float[Tensor, "entries features"]
    """As the network returns them, not normalised."""
    groups: tuple[str, ...]
    """The photograph that each entry comes from: an image and its crops share it."""
    is_crop: Bool[Tensor, " entries"]
    """Whether an entry is a crop, rather than a whole image."""
    mean_prediction: Float[Tensor, " classes"]
    """The mean softmax over the whole images, float64: what the model says when it knows nothing of the image."""
    model: str
    """SHA-256 of the network: weights, structure, normalisation."""
    layer: str
    side: Side
    """Whether `features` are the layer's input or its output."""
    crops: int = 0
    """Crops of each image."""
    seed: int = 0
    """Of the crops."""
    _distances: dict[tuple[int, bool], Float[Tensor, " photographs"]] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        entries = len(self.features)
        if entries == 0 or self.is_crop.all():
            raise InputError(f"bank must hold at least one whole image, got {entries} entries.")
        if not entries == len(self.groups) == len(self.is_crop):
            raise InputError(
                f"bank must have a group for each of its {entries} entries, got {len(self.groups)}."
            )
        check_finite("features of the bank", self.features)

    @classmethod
    def of(
        cls,
        classifier: Classifier | nn.Module | ClassScore,
        images: Float[Tensor, "images channel height width"] | Iterable[Tensor],
        *,
        groups: Sequence[Group] | None = None,
        crops: int = 0,
        seed: int = 0,
        layer: str | None = None,
        fold: bool = True,
        micro_batch: int | None = None,
    ) -> "Bank":
        """The features of some real images.

        Args:
            classifier: The model that is to be judged on these images: a Classifier, a module, or a score of one, `cp.logit(...)`.
            images: Pixels in [0, 1]; or batches of them, one after another, where they are too many for the memory.
            groups: The photograph that each image is of, a name or a number; by default each image is one of its own.
            crops: How many crops of each image to add: each side 0.5 to 1 of the image's, anywhere in it, brought back to its size.
            seed: Of the crops.
            layer: Take what this layer returns, flattened; by default what the last linear layer reads (the penultimate layer).
            fold: Run on an equal, faster copy of the model where there is one and there are 256 images or more (of batches, in the first).
            micro_batch: Images that go through the model at once; by default chosen for the device, and halved when memory runs out.

        Raises:
            InputError: no images, pixels out of range, or another number of groups than images.
            ShapeError: something else than (images, channel, height, width).
            UnknownNameError: no such layer.
            LayerError: none is named, and the model has no linear layer on (batch, features).
            ModelError: the model does not return class scores.
        """
        module = _module_of(classifier)
        check_range("crops", crops, 0)
        _check_groups(groups, at_least=0, at_most=None)
        batches: Iterable[Tensor] = images
        total = 0 if groups is None else len(groups)
        if isinstance(images, Tensor):
            check_batch("images", images)
            _check_groups(groups, at_least=len(images), at_most=len(images))
            total, batches = len(images), torch.split(images, _IMAGES_AT_ONCE)
        generator = torch.Generator().manual_seed(seed)
        features: list[Tensor] = []
        summed, count, read = torch.empty(0), 0, None
        with torch.no_grad(), left_as_found(module):
            for batch in batches:
                check_batch("images", batch)
                check_images("images", batch)
                check_pixels(module, "images", batch)
                _check_groups(groups, at_least=count + len(batch), at_most=None)
                if read is None:
                    read = Readout.of(module, batch, layer)
                    if fold and max(total, len(batch)) * (1 + crops) >= FOLD_FROM:
                        read = read.on_folded_copy(batch)
                micro = MicroBatch.for_inputs(batch) if micro_batch is None else MicroBatch(micro_batch)
                boxes = crop_boxes(len(batch), crops, generator)
                found, logits = read(len(batch) * (1 + crops), partial(with_crops, batch, boxes), micro=micro)
                features.append(found.to(torch.promote_types(batch.dtype, torch.float32)))
                prediction = logits[:: 1 + crops].softmax(1).sum(0)
                summed = prediction if count == 0 else summed + prediction
                count += len(batch)
                progress.advance(count, max(total, count), "bank")
        if read is None or read.layer is None:
            raise InputError("images must hold at least one image, got none.")
        _check_groups(groups, at_least=count, at_most=count)
        names = [str(name) for name in (range(count) if groups is None else groups)]
        return cls(
            features=torch.cat(features),
            groups=tuple(name for name in names for _ in range(1 + crops)),
            is_crop=torch.arange(count * (1 + crops)) % (1 + crops) != 0,
            # Above 0 even where it was rounded to that, so that its logarithm is a number.
            mean_prediction=(summed / count).clamp_min(torch.finfo(torch.float64).tiny),
            model=model_hash(module),
            layer=read.layer,
            side=read.side,
            crops=crops,
            seed=seed,
        )

    def __repr__(self) -> str:
        what = f"{len(self.features)} features of {len(set(self.groups))} photographs"
        return f"Bank({what}, {self.side} of {self.layer!r}, {self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the features, the groups, the model or the layer."""
        parts = [content_hash(self.features), *self.groups, self.model, self.layer, self.side]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def check_model(self, module: nn.Module) -> None:
        """Raise unless the features are this module's.

        Raises:
            InputError: they are another model's, or this one's with other weights.
        """
        if self.model != (here := model_hash(module)):
            raise InputError(
                f"bank must be of the model that is scored, but its model is {self.model[:12]} and this one is {here[:12]} (hashes of "
                "weights, structure and normalisation); make one with Bank.of(classifier, images)."
            )

    def left_out(
        self,
        features: Float[Tensor, "rows features"],
        groups: Sequence[Group] | None = None,
        *,
        precision: torch.dtype = torch.float32,
    ) -> Bool[Tensor, "rows entries"]:
        """Which entries must not count for an image, because they are of the same photograph.

        These are the entries of the image's own group; those whose features are the image's own (nearer than 1e-4 of their length: rounding
        moves them by less than 1e-5); and all others of the groups of these.

        Args:
            features: Of the whole, unperturbed images.
            groups: The photograph that each image is of, by the names in the bank; by default known by their features alone.
            precision: The type that the network computed in.

        Raises:
            ShapeError: features of another layer than the bank's.
            InputError: another number of groups than images.
        """
        if features.shape[1] != self.features.shape[1]:
            raise ShapeError(
                f"the bank holds features of length {self.features.shape[1]}, but the image's have {features.shape[1]}."
            )
        if groups is not None and (isinstance(groups, str) or len(groups) != len(features)):
            raise InputError(f"groups must have one name for each of {len(features)} images, got {groups!r}.")
        numbers = self._group_numbers
        out = same_picture(features, self.features, precision=precision)
        for row in out.any(1).nonzero().flatten().tolist():
            out[row] = torch.isin(numbers, numbers[out[row]])
        if groups is not None:
            known = {name: number for name, number in zip(self.groups, numbers.tolist(), strict=True)}
            own = torch.tensor([known.get(str(name), -1) for name in groups])
            out |= numbers == own[:, None]
        return out

    def check_enough(self, left_out: Bool[Tensor, "rows entries"], k: int) -> None:
        """Raise unless each image has `k` neighbours, and the bank a spread.

        Raises:
            InputError: it has not.
        """
        check_range("k", k, 1)
        photographs = len(set(self.groups))
        if photographs < 3:
            raise InputError(
                f"bank must hold at least 3 photographs for their distances to have a spread, got {photographs}."
            )
        fewest = int((~left_out).sum(1).min())
        if fewest < k:
            raise InputError(
                f"k must be at most the number of entries of other photographs than the image's own, {fewest}, got {k}; "
                "give the bank more images."
            )

    def real_distances(self, *, k: int = 1, normalise: bool = False) -> Float[Tensor, " photographs"]:
        """The distance of each whole image of the bank to its own k-th nearest entry, leaving its own photograph out; float64.

        Args:
            k: 1 for the nearest.
            normalise: Scale features to length 1 first.

        Raises:
            InputError: fewer than 3 photographs, or fewer entries than neighbours.
        """
        if (k, normalise) not in self._distances:
            whole = (~self.is_crop).nonzero().flatten()
            found = []
            for rows in torch.split(whole, _ROWS_AT_ONCE):
                features = self.features[rows]
                out = self.left_out(features, [self.groups[row] for row in rows.tolist()])
                self.check_enough(out, k)
                found.append(kth_distance(features, self.features, out, k=k, normalise=normalise))
            self._distances[k, normalise] = torch.cat(found)
        return self._distances[k, normalise]

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file: beside its place first, then renamed.

        Raises:
            OutputError: the file cannot be written.
        """
        names = ("features", "is_crop", "mean_prediction")
        tensors = {name: getattr(self, name).contiguous() for name in names}
        facts = {name: getattr(self, name) for name in ("groups", "model", "layer", "side", "crops", "seed")}
        with whole_file(path) as partial_path:
            metadata = {"format": FORMAT, "facts": json.dumps(facts)}
            partial_path.write_bytes(to_bytes(tensors, metadata=metadata))
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> "Bank":
        """Read what `save` wrote.

        Raises:
            InputError: no such file, or not a bank.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (OSError, SafetensorError) as error:
            raise InputError(f"cannot read bank '{path}': {error}.") from error
        if metadata.get("format") != FORMAT:
            raise InputError(
                f"'{path}' is not a bank: its format must be {FORMAT}, got {metadata.get('format')}."
            )
        facts = json.loads(metadata["facts"])
        return cls(**tensors, **{**facts, "groups": tuple(facts["groups"])})

    @property
    def _group_numbers(self) -> Int[Tensor, " entries"]:
        """The number of each entry's group."""
        numbers = {name: number for number, name in enumerate(dict.fromkeys(self.groups))}
        return torch.tensor([numbers[name] for name in self.groups])


def model_hash(module: nn.Module) -> str:
    """SHA-256 of the weights, the kinds of layers and the normalisation: of what decides the features, but for functional code."""
    inner = unwrapped(module)[1]
    digest = hashlib.sha256(weights_hash(inner).encode())
    for name, part in inner.named_modules():
        digest.update(f"{name} {type(part).__qualname__}\n".encode())
    for part in module.modules():
        if isinstance(part, Normalise):
            digest.update(part.extra_repr().encode())
    return digest.hexdigest()


def _module_of(classifier: object) -> nn.Module:
    module = getattr(classifier, "module", None) if not isinstance(classifier, nn.Module) else classifier
    if not isinstance(module, nn.Module):
        raise InputError(
            f"classifier must be a Classifier, a module or a score of one, got {type(classifier).__name__}."
        )
    return module


def _check_groups(groups: Sequence[Group] | None, *, at_least: int, at_most: int | None) -> None:
    if groups is None:
        return
    if isinstance(groups, str | Tensor) or not isinstance(groups, Sequence):
        raise InputError(f"groups must be a list of names or numbers, got {type(groups).__name__}.")
    if len(groups) < at_least or (at_most is not None and len(groups) > at_most):
        raise InputError(f"groups must have one name for each of {at_least} images, got {len(groups)}.")
