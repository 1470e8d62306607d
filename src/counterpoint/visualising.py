"""Models, layers and photographs by name in; images, figures and cards of feature visualisations out. Used by the command."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from counterpoint import __version__, progress
from counterpoint import visualisation as vis
from counterpoint.checks import check_finite
from counterpoint.classifier import Classifier
from counterpoint.data.photographs import find_photographs, output_names
from counterpoint.errors import InputError, ModelError
from counterpoint.files import whole_file, writable_folder
from counterpoint.images import read_image
from counterpoint.layers import find_layer
from counterpoint.preprocessing import Preprocessing
from counterpoint.report.figures import save_png
from counterpoint.report.wording import number
from counterpoint.visualisation.objectives import ClassObjective, LayerObjective

Kind = Literal["fourier", "maco", "pixels"]
KINDS: tuple[Kind, ...] = ("fourier", "maco", "pixels")
FORMAT = "counterpoint-visualisation-1"
VIEWS = vis.Crops(count=4, sides=(0.5, 1.0))
"""Larger crops than for a silent image: what is made should be seen as a whole as well."""

HEADINGS = ("objective", "reached", "not optimised", "best photograph")
LEGEND = "Reached: by the whole image, without noise. Not optimised: mean and spread of 8 images of the same kind before any step."

_PLAIN_IMAGES = 8  # that were not optimised, for comparison
_ROWS_AT_ONCE = 16
_KEPT = 4
_SQUARE = 256
# Chosen by eye on a few channels and classes of EfficientNet-Lite0.
_DECAY, _CONTRAST = 1.6, 1.5


@dataclass(frozen=True)
class Wanted:
    """What an image is to be made for: a channel or a unit of a layer, or a class."""

    layer: str = ""
    channel: int = 0
    position: tuple[int, int] | None = None
    """Row and column, of a unit."""
    target: int | str | None = None
    """A class, by index or label."""

    def objective(self, classifier: Classifier) -> LayerObjective | ClassObjective:
        """The number to make large.

        Raises:
            UnknownNameError: no such layer.
        """
        if self.target is not None:
            return vis.objectives.logit(classifier, self.target)
        if self.position is None:
            return vis.objectives.channel(classifier, self.layer, self.channel)
        return vis.objectives.unit(classifier, self.layer, self.channel, self.position)

    @property
    def name(self) -> str:
        """For files."""
        if self.target is not None:
            return f"class-{self.target}"
        place = "" if self.position is None else "-at-{}-{}".format(*self.position)
        return f"{self.layer}-channel-{self.channel}{place}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Recipe:
    """How an image is made."""

    parametrisation: vis.Parametrisation
    spectrum: str
    """Where magnitudes are from: "bundled", "pink" or a folder; "" where none are used."""
    steps: int
    seed: int
    learning_rate: float = 1.0
    views: vis.Crops = VIEWS

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        kind = type(self.parametrisation)
        plain = {
            each.name: getattr(self.parametrisation, each.name)
            for each in fields(self.parametrisation)  # type: ignore[arg-type]
            if each.init and each.repr
        }
        return {
            "parametrisation": {"name": kind.__name__.lower(), **plain},
            "spectrum": self.spectrum or None,
            "views": asdict(self.views),
            "optimiser": "NAdam",
            "learning_rate": self.learning_rate,
            "steps": self.steps,
            "seed": self.seed,
        }


@dataclass(frozen=True, kw_only=True)
class Visualised:
    """An image on disk, with its figure and its card."""

    image: Path
    figure: Path
    card: Path
    facts: dict[str, Any] = field(repr=False)
    """What the card says."""

    @property
    def row(self) -> tuple[str, ...]:
        """What the card says in short, under HEADINGS."""
        plain, photographs = self.facts["not_optimised"], self.facts["photographs"]
        best = None if photographs is None else photographs["most"][0]
        return (
            self.facts["objective"]["text"],
            number(self.facts["reached"], 3),
            f"{number(plain['mean'], 3)} ± {number(plain['sd'], 2)}",
            "" if best is None else f"{number(best['value'], 3)} {Path(best['photograph']).name}",
        )


def wanted(
    layer: str | None, channels: Sequence[int], units: Sequence[str], classes: Sequence[str]
) -> list[Wanted]:
    """What some options ask for, in their order: channels, units, classes.

    Args:
        layer: The layer of channels and units.
        channels: Numbers of channels.
        units: "K,Y,X": channel, row and column.
        classes: Indices or labels.

    Raises:
        InputError: nothing asked for, a layer of which nothing is asked or none for what is, or a unit that is not three numbers.
    """
    if layer is not None and not channels and not units:
        raise InputError("--layer needs a --channel or a --unit of it.")
    if not channels and not units and not classes:
        raise InputError(
            "name what to visualise: --layer with --channel or --unit, or --class; see `counterpoint layers MODEL`."
        )
    if layer is None and (channels or units):
        raise InputError("--channel and --unit are of a layer: name it with --layer.")
    found = [Wanted(layer=layer or "", channel=channel) for channel in channels]
    for unit in units:
        if not re.fullmatch(r"\d+,\d+,\d+", unit):
            raise InputError(
                f"--unit must be K,Y,X, three whole numbers: channel, row and column, got '{unit}'."
            )
        channel, row, column = map(int, unit.split(","))
        found.append(Wanted(layer=layer or "", channel=channel, position=(row, column)))
    found += [Wanted(target=int(name) if name.isdecimal() else name) for name in classes]
    return list(dict.fromkeys(found))


def recipe(
    kind: Kind, spectrum: str | None, *, size: int, steps: int, seed: int, learning_rate: float = 1.0
) -> Recipe:
    """The recipe that some options ask for.

    Args:
        kind: The parametrisation.
        spectrum: "bundled", "pink" or a folder of photographs, for maco; bundled by default.
        size: The side of the image, in pixels.
        steps: Of the optimiser.
        seed: Of all draws.
        learning_rate: Of the optimiser.

    Raises:
        InputError: an unknown kind, a spectrum for another one than maco, or numbers that make no sense.
        ImageError: a photograph that cannot be read.
    """
    if kind not in KINDS:
        raise InputError(f"--parametrisation must be one of {', '.join(KINDS)}, got '{kind}'.")
    if spectrum is not None and kind != "maco":
        raise InputError(f"--spectrum is for --parametrisation maco, not {kind}.")
    for name, given, least in (("steps", steps, 1), ("size", size, 16)):
        if given < least:
            raise InputError(f"--{name} must be at least {least}, got {given}.")
    if kind == "maco":
        spectrum = spectrum or "bundled"
        parametrisation: vis.Parametrisation = vis.MaCo(_spectrum(spectrum, size), size, contrast=_CONTRAST)
    elif kind == "fourier":
        parametrisation = vis.Fourier(size, decay=_DECAY, contrast=_CONTRAST)
    else:
        parametrisation = vis.Pixels(size)
    return Recipe(
        parametrisation=parametrisation,
        spectrum=spectrum or "",
        steps=steps,
        seed=seed,
        learning_rate=learning_rate,
    )


def _spectrum(source: str, size: int) -> Float[Tensor, "3 size half"]:
    if source == "bundled":
        return vis.bundled_spectrum(size)
    if source == "pink":
        return vis.pink_spectrum(size)
    # The scale at which networks see photographs; made larger they would lack the highest frequencies.
    square = Preprocessing(size=(_SQUARE, _SQUARE), mean=(0.0,) * 3, std=(1.0,) * 3)
    images = torch.stack([square(read_image(path)) for path in find_photographs([source])])
    return vis.mean_spectrum(images, size=size)


def visualise(
    classifier: Classifier,
    asked: Sequence[Wanted],
    how: Recipe,
    *,
    compare: Sequence[Path] = (),
    out: str | Path,
) -> list[Visualised]:
    """Make an image for each thing that was asked for, and write it with its figure and its card.

    For each: `NAME.png` (the image), `NAME.figure.png` and `NAME.json` (the card, written last). Files are replaced where they are there.

    Args:
        classifier: The model.
        asked: What to make images for.
        how: The recipe.
        compare: Photographs to compare with: which of them reach most.
        out: The folder for results, made if it is not there.

    Returns:
        One result for each thing asked for, in order.

    Raises:
        UnknownNameError: no such layer or class.
        InputError: no such channel or place, or nothing asked for.
        LayerError: a layer that has no single output.
        ModelError: a model that does not take colour images.
        ImageError: a photograph that cannot be read.
        OutputError: the folder cannot be written, or the disk is full.
        Cancelled: the progress listener stopped the work.
    """
    if not asked:
        raise InputError("asked must name at least one thing to visualise.")
    channels = len(classifier.preprocessing.mean)
    if channels != 3:
        raise ModelError(f"visualisations are colour images, but the model takes {channels} channels.")
    for each in asked:  # names before runs
        if each.target is None:
            find_layer(classifier.module, each.layer)
    objectives = [each.objective(classifier) for each in asked]
    size = classifier.preprocessing.size
    grey = torch.full((1, 3, *size), 0.5, device=classifier.device)
    with torch.no_grad():
        for objective in objectives:
            objective(grey)
    photographs = classifier.preprocess(list(compare)) if compare else torch.empty(0)
    plain = _plain_images(how, size).to(classifier.device)
    folder = writable_folder(out)
    model = classifier.card()
    names = output_names([f"{each.name}.png" for each in asked])
    results = []
    for k, (each, objective, name) in enumerate(zip(asked, objectives, names, strict=True)):
        with progress.stage(k, k + 1, len(asked), str(objective)):
            found = vis.optimise(
                objective,
                how.parametrisation,
                size=size,
                views=how.views,
                steps=how.steps,
                learning_rate=how.learning_rate,
                seed=how.seed,
                keep=min(_KEPT, how.steps),
                device=classifier.device,
            )
        facts: dict[str, Any] = {
            "format": FORMAT,
            "model": model,
            "objective": {"text": str(objective), **_plain(each, objective, classifier)},
            **_reached(objective, found, plain, photographs, compare),
            "recipe": how.as_dict(),
            "versions": {"counterpoint": __version__, "torch": str(torch.__version__)},
        }
        results.append(_write(folder, name, found, facts, photographs, f"{classifier.name}: {objective}"))
    return results


def _plain_images(how: Recipe, size: tuple[int, int]) -> Float[Tensor, "images 3 height width"]:
    """Images of the same kind that were not optimised, at the model's size."""
    whole, images = vis.Whole(), []
    for k in range(_PLAIN_IMAGES):
        # Seeds from another place than those that users choose.
        generator = torch.Generator().manual_seed(1_000_003 + k)
        start = how.parametrisation.image(how.parametrisation.start(generator))
        images.append(whole(start, size, generator))
    return torch.cat(images)


def _plain(
    each: Wanted, objective: LayerObjective | ClassObjective, classifier: Classifier
) -> dict[str, Any]:
    if isinstance(objective, ClassObjective):
        index = objective.index
        label = None if classifier.labels is None or index is None else classifier.labels[index]
        return {"kind": "class", "index": index, "label": label, "score": "logit"}
    position = None if each.position is None else list(each.position)
    return {
        "kind": "channel" if position is None else "unit",
        "layer": each.layer,
        "channel": each.channel,
        "position": position,
    }


def _reached(
    objective: vis.Objective,
    found: vis.Visualisation,
    plain: Tensor,
    photographs: Tensor,
    paths: Sequence[Path],
) -> dict[str, Any]:
    """What the image reaches, beside images that were not optimised and photographs."""
    size = (plain.shape[2], plain.shape[3])
    with torch.no_grad():
        reached = float(objective(found.at(size)))
        noise = objective(plain).double()
        values = (
            [objective(rows).double().cpu() for rows in torch.split(photographs, _ROWS_AT_ONCE)]
            if paths
            else []
        )
    last = max(1, found.steps // 10)
    facts: dict[str, Any] = {
        "reached": reached,
        "reached_in_views": float(found.values[-last:].mean()),
        "not_optimised": {
            "mean": float(noise.mean()),
            "sd": float(noise.std()),
            "images": len(noise),
            "what": "images of the same parametrisation, before any step",
        },
        "photographs": None,
    }
    if values:
        every = torch.cat(values)
        check_finite("the objective of the photographs", every)
        order = every.argsort(descending=True, stable=True).tolist()
        facts["photographs"] = {
            "count": len(paths),
            "mean": float(every.mean()),
            "below_the_image": int((every < reached).sum()),
            "most": [
                {"photograph": str(paths[i]), "value": float(every[i]), "place": i} for i in order[:_KEPT]
            ],
        }
    return facts


def _write(
    folder: Path, name: str, found: vis.Visualisation, facts: dict[str, Any], photographs: Tensor, title: str
) -> Visualised:
    from counterpoint.report.visualisation_figure import visualisation_figure

    paths = Visualised(
        image=folder / f"{name}.png",
        figure=folder / f"{name}.figure.png",
        card=folder / f"{name}.json",
        facts=facts,
    )
    pixels = found.image[0].permute(1, 2, 0).double().cpu().numpy()
    with whole_file(paths.image) as partial:
        Image.fromarray(np.rint(255 * pixels).astype(np.uint8)).save(partial)
    most = [] if facts["photographs"] is None else facts["photographs"]["most"]
    figure = visualisation_figure(
        found,
        title=title,
        reached=facts["reached"],
        noise=facts["not_optimised"]["mean"],
        photographs=[(Path(each["photograph"]).name, each["value"]) for each in most],
        pictures=photographs[[each["place"] for each in most]] if most else None,
    )
    save_png(figure, paths.figure)
    facts["files"] = {"image": paths.image.name, "figure": paths.figure.name}
    with whole_file(paths.card) as partial:
        partial.write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return paths
