"""Programs that `torch.export` wrote: `model.pt2`, with a few lines of JSON that say how photographs are prepared for it."""

import json
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from counterpoint.classifier import Classifier
from counterpoint.errors import CounterpointError, InputError, ModelError
from counterpoint.models.exported_archive import safe_archive
from counterpoint.models.stretched import stretched

EXTRA_FILE = "counterpoint.json"
"""Its name inside an archive."""
_KEYS = ("mean", "std", "size", "crop", "interpolation", "stretched", "labels", "output")


class Exported(nn.Module):
    """An exported program, whose sizes are checked in words."""

    wraps = "model"
    """The child whose layer names are the user's own; see counterpoint.layers."""

    def __init__(self, model: nn.Module, shape: tuple[int | None, ...], name: str) -> None:
        super().__init__()
        self.model = model
        self.shape = shape
        """Of its input; None for a side that may be of any length."""
        self.name = name
        self.eval()

    def forward(self, images: Tensor) -> Any:
        """The program's own output.

        Raises:
            ModelError: images of another size than it was exported for.
        """
        found = tuple(images.shape)
        if len(found) != len(self.shape) or any(
            side not in (None, got) for side, got in zip(self.shape, found, strict=True)
        ):
            sides = tuple("any" if side is None else side for side in self.shape)
            raise ModelError(
                f"'{self.name}' was exported for inputs {sides}, got {found}. {_dynamic_batch()}"
            )
        return self.model(images)


def exported_model(file: str) -> Classifier:
    """The classifier in an archive of `torch.export.save`.

    How photographs are prepared stands in the archive, as the extra file `counterpoint.json`, or beside it, as `model.json` beside
    `model.pt2`.

    Raises:
        InputError: no such file, one that would run code, or nothing that says how photographs are prepared.
        ModelError: it was exported in training mode, for batches of one size, or does not take one batch of images.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise InputError(f"no exported program '{path}'.")
    copy, graph, extra = safe_archive(path)
    shape = _input_shape(graph, path)
    _check_evaluation(graph, path)
    facts = _facts(path, extra, shape)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(copy)
            network = torch.export.unflatten(program)
    except Exception as error:  # whatever a damaged archive makes torch raise
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"'{path}' cannot be loaded by torch {torch.__version__}: {type(error).__name__}: {reason}"
        ) from error
    module = Exported(network, shape, path.name)
    wide = facts.pop("stretched", False)
    try:
        classifier = Classifier(module, name=path.name, weights=path.name, **facts)
    except CounterpointError as error:
        raise InputError(f"{_place(path, extra)}: {error}") from error
    return stretched(classifier) if wide else classifier


def _facts(path: Path, extra: Mapping[str, str], shape: tuple[int | None, ...]) -> dict[str, Any]:
    """How photographs are prepared, from the archive or from beside it."""
    beside = path.with_suffix(".json")
    place = _place(path, extra)
    if EXTRA_FILE not in extra and not beside.is_file():
        size = list(shape[2:]) if None not in shape[2:] else 224
        raise InputError(
            f"'{path}' does not say how photographs are prepared for it. Write '{beside}' beside it, such as "
            f'{{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "size": {size}, "crop": 0.875, '
            '"interpolation": "bilinear", "labels": ["cat", "dog"]}, mean and std in units of pixels in [0, 1] (of size, crop, '
            "interpolation and labels none is needed where the program has a size of its own); or save the same text with it: "
            f'torch.export.save(program, file, extra_files={{"{EXTRA_FILE}": text}}).'
        )
    try:
        found = json.loads(extra[EXTRA_FILE] if EXTRA_FILE in extra else beside.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"{place} is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise InputError(f"{place} must be a JSON object, got {type(found).__name__}.")
    for name in found:
        if name not in _KEYS:
            near = get_close_matches(name, _KEYS, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else "."
            raise InputError(f"{place} has '{name}', which is not known{hint} Known: {', '.join(_KEYS)}.")
    if lacking := [name for name in ("mean", "std") if name not in found]:
        raise InputError(
            f"{place} lacks {' and '.join(lacking)}, in units of pixels in [0, 1], one number or one per channel."
        )
    return {**found, "size": _size(found.get("size"), shape, place)}


def _size(given: Any, shape: tuple[int | None, ...], place: str) -> Any:
    """Height and width, which the program may know by itself."""
    if given is None:
        if None in shape[2:]:
            raise InputError(f"{place} lacks size: the program takes images of any.")
        return shape[2:]
    size = tuple(given) if isinstance(given, list) else (given, given)
    if len(size) == 2 and any(side not in (None, got) for side, got in zip(shape[2:], size, strict=True)):
        raise InputError(
            f"{place} has size {given}, but the program was exported for {shape[2]} x {shape[3]}."
        )
    return size


def _place(path: Path, extra: Mapping[str, str]) -> str:
    return f"{EXTRA_FILE} in '{path}'" if EXTRA_FILE in extra else f"'{path.with_suffix('.json')}'"


def _input_shape(graph: dict[str, Any], path: Path) -> tuple[int | None, ...]:
    """Of the one input: (batch, channel, height, width), None where it may be of any length."""
    module = graph["graph_module"]
    inputs = [
        each["user_input"]["arg"] for each in module["signature"]["input_specs"] if "user_input" in each
    ]
    tensors = [each["as_tensor"]["name"] for each in inputs if "as_tensor" in each]
    if len(tensors) != 1 or len(inputs) != 1:
        raise ModelError(f"'{path}' must take one tensor, but takes {len(inputs)} inputs.")
    sizes = module["graph"]["tensor_values"][tensors[0]]["sizes"]
    shape = tuple(side.get("as_int") for side in sizes)
    if len(shape) != 4:
        raise ModelError(
            f"'{path}' must take images (batch, channel, height, width), but takes {len(shape)} axes."
        )
    if shape[0] is not None:
        raise ModelError(f"'{path}' was exported for batches of exactly {shape[0]}. {_dynamic_batch()}")
    return shape


def _dynamic_batch() -> str:
    return (
        "Export it again with dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), and an example of two images."
    )


def _check_evaluation(graph: dict[str, Any], path: Path) -> None:
    """Refuse a program in which dropout or batch norm are in training mode: it cannot be changed any more."""
    for node in graph["graph_module"]["graph"]["nodes"]:
        for given in node["inputs"]:
            if given["name"] in ("train", "training") and given["arg"].get("as_bool"):
                raise ModelError(
                    f"'{path}' was exported in training mode ({node['target']}), where its scores depend on chance or on the rest of the "
                    "batch; call model.eval() and export it again."
                )
