"""Files of weights: read without running anything that they may ask for, and put into a network to the last tensor."""

import hashlib
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from counterpoint.checks import shape_text
from counterpoint.errors import InputError, ModelError

WeightFile = str | os.PathLike[str]

# Where training programs put the weights among epoch, optimiser and the rest; the first that is there is taken.
_ENTRIES = (
    *("state_dict", "model_state_dict", "model", "module", "network", "net", "weights", "params"),
    *("state_dict_ema", "model_ema", "ema"),
)
# What data parallelism, torch.compile and wrappers put before every name.
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")


@dataclass(frozen=True, eq=False)
class Weights:
    """The tensors of a file, by name."""

    tensors: dict[str, Tensor]
    source: str
    """Where they come from, for cards: the name of the file, and what was taken off."""
    file: str
    """The file, for messages."""


def read_weights(file: WeightFile) -> Weights:
    """The tensors of a file: safetensors, or what `torch.save` wrote of a state dict.

    Nothing is unpickled but tensors, numbers and strings. A state dict inside a checkpoint, under "state_dict" or "model", is found.

    Raises:
        InputError: no such file, or one of another kind; the message says of which, and the way out.
    """
    path = Path(file)
    _check_there(path)
    return _as_weights(_content(path), path)


def check_name_hash(path: Path) -> None:
    """Refuse a file whose content does not hash to what its name says: `resnet50-11ad3fa6.pth` begins with 11ad3fa6.

    Raises:
        ModelError: it does not.
    """
    said = re.search(r"-([0-9a-f]{8,64})\.\w+$", path.name)
    if said is None:
        return
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if not found.startswith(said[1]):
        raise ModelError(
            f"'{path}' is damaged, or another file: by its name its SHA-256 must begin with {said[1]}, but is {found}."
        )


def fit(network: nn.Module, weights: Weights, *, what: str) -> str:
    """Put weights into a network, every tensor of the file in its place.

    Numbers of less precision are widened to the network's. A prefix that all names share, such as "module.", is taken off.

    Args:
        network: Changed in place, and only if everything fits.
        weights: From a file.
        what: What messages call the network.

    Returns:
        Where the weights come from, in words.

    Raises:
        ModelError: tensors that are missing, left over, of another shape, or quantised; the first few are named.
    """
    tensors, source = _without_prefix(weights, network.state_dict())
    if problems := _problems(network.state_dict(), tensors):
        raise ModelError(f"the weights in '{weights.file}' do not fit {what}: {'; '.join(problems)}.")
    network.load_state_dict(tensors, strict=False)  # strictly checked above, but for counters of batch norms
    return source


def fits(network: nn.Module, weights: Weights) -> bool:
    """Whether `fit` would succeed."""
    ours = network.state_dict()
    return not _problems(ours, _without_prefix(weights, ours)[0])


def classes_in(network: nn.Module, weights: Weights) -> int | None:
    """The number of classes of the weights, where they fit the network but for that number; else None."""
    ours = network.state_dict()
    theirs = _without_prefix(weights, ours)[0]
    if _missing(ours, theirs) or theirs.keys() - ours.keys():
        return None
    other = [name for name in ours if name in theirs and ours[name].shape != theirs[name].shape]
    if not other or any(
        ours[name].ndim != theirs[name].ndim or ours[name].shape[1:] != theirs[name].shape[1:]
        for name in other
    ):
        return None
    counts = {(len(ours[name]), len(theirs[name])) for name in other}
    return counts.pop()[1] if len(counts) == 1 else None


def _check_there(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"weights must be a file, but '{path}' is a folder.")
    if not path.is_file():
        raise InputError(f"no file of weights '{path}'.")
    if path.stat().st_size == 0:
        raise InputError(f"the file of weights '{path}' is empty.")


def _content(path: Path) -> object:
    with path.open("rb") as stream:
        head = stream.read(9)
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, ValueError) as error:
            raise InputError(f"'{path}' is a damaged safetensors file: {error}") from error
    if head.startswith(b"\x89HDF") or path.suffix in (".h5", ".onnx", ".npz", ".msgpack", ".tflite"):
        raise InputError(f"'{path}' is of a format that is not read; save the weights as safetensors.")
    if head.startswith(b"PK"):
        _refuse_programs(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(_more_than_tensors(path, str(error))) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())[:150]
        raise InputError(f"'{path}' is no file of weights, or a damaged one: {reason}") from error


def _refuse_programs(path: Path) -> None:
    """Archives that hold a program beside its weights."""
    try:
        names = zipfile.ZipFile(path).namelist()
    except zipfile.BadZipFile as error:
        raise InputError(f"'{path}' is cut short or damaged: {error}.") from error
    inside = {name.split("/", 1)[-1] for name in names}
    if "constants.pkl" in inside:
        raise InputError(
            f"'{path}' is a TorchScript archive, which holds a program. Save the weights alone: "
            'safetensors.torch.save_file(torch.jit.load(FILE).state_dict(), "weights.safetensors").'
        )
    if "models/model.json" in inside:
        raise InputError(f"'{path}' is an exported program, a model of its own: give it as the model.")


def _more_than_tensors(path: Path, said: str) -> str:
    asked = re.search(r"GLOBAL\s+([\w.]+)", said)
    what = f" (it asks for {asked[1]})" if asked else ""
    return (
        f"'{path}' holds more than tensors{what}: a whole pickled module, it seems. To load it would be to run it. "
        'Where it was made, save its weights alone: torch.save(model.state_dict(), "weights.pth").'
    )


def _as_weights(content: object, path: Path) -> Weights:
    taken = ""
    for _ in range(2):  # {"model": {"state_dict": ...}} is seen
        if not isinstance(content, Mapping) or _is_state(content):
            break
        entry = next((each for each in _ENTRIES if each in content), None)
        if entry is None:
            break
        content, taken = content[entry], f"{taken}['{entry}']"
    if not isinstance(content, Mapping) or not _is_state(content):
        what = type(content).__name__
        keys = f" with {', '.join(map(repr, list(content)[:5]))}" if isinstance(content, Mapping) else ""
        raise InputError(f"'{path}' must hold a state dict, names and tensors, got {what}{keys}.")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return Weights(tensors, f"{path.name}{taken}", str(path))


def _is_state(content: object) -> bool:
    if not isinstance(content, Mapping) or not content:
        return False
    # Some networks keep more than tensors in their state, under "_extra_state".
    plain = [value for name, value in content.items() if not str(name).endswith("_extra_state")]
    return bool(plain) and all(isinstance(value, Tensor) for value in plain)


def _without_prefix(weights: Weights, ours: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    tensors, prefix = weights.tensors, ""
    while True:
        shared = [each for each in _PREFIXES if all(name.startswith(each) for name in tensors)]
        if not shared or not tensors or all(name.startswith(shared[0]) for name in ours):
            break
        tensors = {name.removeprefix(shared[0]): value for name, value in tensors.items()}
        prefix += shared[0]
    return tensors, weights.source + (f", '{prefix}' taken off its names" if prefix else "")


def _missing(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[str]:
    # A counter of batches that evaluation never reads, and old files do not have.
    return [name for name in ours if name not in theirs and not name.endswith("num_batches_tracked")]


def _problems(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[str]:
    missing = _missing(ours, theirs)
    left_over = [name for name in theirs if name not in ours]
    both = [name for name in ours if name in theirs]
    other = [
        f"{name} must be {shape_text(ours[name])}, got {shape_text(theirs[name])}"
        for name in both
        if ours[name].shape != theirs[name].shape
    ]
    quantised = [
        name
        for name in both
        if ours[name].is_floating_point() != theirs[name].is_floating_point() or theirs[name].is_quantized
    ]
    problems = []
    if missing:
        problems.append(f"missing: {_first(missing)}")
    if left_over:
        problems.append(f"not known: {_first(left_over)}")
    if other:
        problems.append(f"of another shape: {_first(other)}")
    if quantised:
        problems.append(f"quantised, which has no gradients: {_first(quantised)}")
    return problems


def _first(names: Sequence[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
