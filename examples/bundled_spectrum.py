"""Make the spectrum that `counterpoint.visualisation.bundled_spectrum` reads, from the colour photographs of scikit-image.

Each photograph is brought to 256 pixels on its shorter side, the scale at which networks see photographs, and cut into overlapping
squares of 64 pixels, whose spectra are averaged (Welch's method): four photographs tell of broad ranges of frequencies, not of single ones.

    python examples/bundled_spectrum.py [FILE]
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from counterpoint.data.photographs import SAMPLES, sample_path
from counterpoint.files import whole_file
from counterpoint.images import read_image
from counterpoint.visualisation import mean_spectrum

SHORTER, SQUARE, APART = 256, 64, 32
COLOURED = ("astronaut", "chelsea", "coffee", "rocket")
PLACE = Path(__file__).parents[1] / "src" / "counterpoint" / "visualisation" / "bundled_spectrum.safetensors"


def squares(name: str) -> Tensor:
    """The squares of one photograph, (squares, 3, 64, 64)."""
    photograph = read_image(sample_path(name))
    scale = SHORTER / min(photograph.size)
    size = tuple(round(scale * side) for side in photograph.size)
    pixels = torch.from_numpy(np.array(photograph.resize(size, Image.Resampling.LANCZOS))).float() / 255
    parts = pixels.permute(2, 0, 1).unfold(1, SQUARE, APART).unfold(2, SQUARE, APART)
    return parts.flatten(1, 2).transpose(0, 1)  # (3, rows, columns, 64, 64) to (squares, 3, 64, 64)


def spectrum() -> Tensor:
    """Each photograph counts alike, however many squares it has."""
    return torch.stack([mean_spectrum(squares(name)) for name in COLOURED]).mean(0)


if __name__ == "__main__":
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else PLACE
    sources = "; ".join(f"{name}: {SAMPLES[name].licence}" for name in COLOURED)
    with whole_file(place) as path:
        save_file({"spectrum": spectrum()}, path, metadata={"sources": sources})
    print(f"{place}: {place.stat().st_size} bytes")
