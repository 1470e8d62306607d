"""What answers are written with: strict JSON, pictures, and numbers as they are."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from counterpoint.numerals import finite
from counterpoint.studio.photos import png_bytes


class Folder:
    """The folder that an answer is written to; made with its first file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def path(self) -> Path:
        """Its place."""
        self._path.mkdir(parents=True)
        return self._path

    def write_answer(self, answer: Mapping[str, Any]) -> None:
        """`answer.json`, without NaN."""
        (self.path / "answer.json").write_text(json.dumps(finite(answer), allow_nan=False), encoding="utf-8")

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        """Any other JSON."""
        (self.path / name).write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")

    def write_picture(self, name: str, pixels: Float[Tensor, "channel height width"]) -> None:
        """A picture with pixels in [0, 1], of 1 or 3 channels."""
        (self.path / name).write_bytes(png_bytes(picture_of(pixels), quick=True))

    def write_map(self, heat: Float[Tensor, "height width"]) -> None:
        """`map.f32`: little-endian float32, row by row."""
        (self.path / "map.f32").write_bytes(heat.detach().cpu().numpy().astype("<f4").tobytes())


def picture_of(pixels: Float[Tensor, "channel height width"]) -> Image.Image:
    """As 8-bit RGB."""
    bytes_ = (pixels.detach().cpu().float().clamp(0, 1) * 255).round().byte()
    array = bytes_.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()  # (height, width, 3)
    return Image.fromarray(array)


def read_map(folder: Path, size: Sequence[int]) -> Float[Tensor, "height width"]:
    """The map of a finished explanation."""
    numbers = np.frombuffer((folder / "map.f32").read_bytes(), dtype="<f4").astype(np.float32)
    return torch.from_numpy(numbers).view(*size)


def read_answer(folder: Path) -> dict[str, Any]:
    """What a finished answer says."""
    found: dict[str, Any] = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    return found
