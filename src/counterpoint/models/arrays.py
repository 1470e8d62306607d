"""Numpy arrays from the formats in which weights are published, without running anything that a file may ask for."""

import io
import json
import math
import pickle
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from counterpoint.errors import FetchError

Array = NDArray[np.float32]


def arrays_of_tensorflow_js(manifest: bytes, shards: Mapping[str, bytes]) -> dict[str, Array]:
    """The arrays of a layers model of TensorFlow.js.

    Args:
        manifest: The content of its model.json, which says where in the shards each array lies.
        shards: Content by file name.

    Raises:
        FetchError: not such a model, numbers that are not float32, or shards of another length.
    """
    arrays: dict[str, Array] = {}
    try:
        for group in json.loads(manifest)["weightsManifest"]:
            content, at = b"".join(shards[path] for path in group["paths"]), 0
            for entry in group["weights"]:
                if entry["dtype"] != "float32" or "quantization" in entry:
                    raise FetchError(f"the array '{entry['name']}' must be plain float32.")
                count = math.prod(entry["shape"])
                array = np.frombuffer(content, "<f4", count, at)
                arrays[entry["name"]] = array.reshape(entry["shape"])
                at += 4 * count
            if at != len(content):
                raise FetchError(f"the weights must be {at} bytes, got {len(content)}.")
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, FetchError):
            raise
        raise FetchError(f"the weights are no model of TensorFlow.js: {error!r}") from error
    return arrays


class _ArraysOnly(pickle.Unpickler):
    """A pickle can call any function; this reads those that call what makes an array, and nothing else."""

    # An array says itself what makes it: numpy 2 has that function in another module than numpy 1.
    _ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self._ALLOWED[module, name]


def arrays_of_pickle(content: bytes) -> dict[str, tuple[Array, ...]]:
    """The float32 arrays of a pickled dict of lists of arrays.

    Raises:
        FetchError: anything else, above all a pickle that asks for more than arrays.
    """
    try:
        found = _ArraysOnly(io.BytesIO(content)).load()
    except Exception as error:  # a damaged pickle can raise whatever the calls in it raise
        raise FetchError(f"the weights are no pickle of plain arrays: {error}") from error
    if not isinstance(found, dict):
        raise FetchError(f"the weights must be a dict of arrays, got {type(found).__name__}.")
    return {str(name): _checked(str(name), arrays) for name, arrays in found.items()}


def _checked(name: str, arrays: object) -> tuple[Array, ...]:
    if not isinstance(arrays, list | tuple):
        raise FetchError(f"the weights '{name}' must be a list of arrays, got {type(arrays).__name__}.")
    for array in arrays:
        if not isinstance(array, np.ndarray) or array.dtype != np.float32:
            what = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise FetchError(f"the weights '{name}' must be float32 arrays, got {what}.")
    return tuple(arrays)
