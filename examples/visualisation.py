"""Make the picture of docs/visualisation.md: three objectives of EfficientNet-Lite0, each in four parametrisations.

Rows: goldfish, strawberry, channel 33 of blocks.13. Columns: Fourier with decay 1.6, the same with small steps, decay 1.3 with small
steps, MaCo. The network is shown 160 x 160 pixels, which makes things larger in the image and the work shorter. About three minutes.

    python examples/visualisation.py [FILE]
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import counterpoint as cp
from counterpoint import visualisation as vis
from counterpoint.files import whole_file

SIZE, SHOWN, STEPS = 256, 150, 40
WAYS = (
    (vis.Fourier(SIZE, 1.6, 1.5), 1.0),
    (vis.Fourier(SIZE, 1.6, 1.5), 0.3),
    (vis.Fourier(SIZE, 1.3, 1.5), 0.3),
    (vis.MaCo(vis.bundled_spectrum(64), SIZE, contrast=1.5), 1.0),
)


def rows(classifier: cp.Classifier) -> list[torch.Tensor]:
    """One row of images for each objective, (3, SHOWN, columns * SHOWN)."""
    objectives = (
        vis.objectives.logit(classifier, "goldfish"),
        vis.objectives.logit(classifier, "strawberry"),
        vis.objectives.channel(classifier, "blocks.13", 33),
    )
    found = []
    for objective in objectives:
        images = []
        for parametrisation, rate in WAYS:
            made = vis.optimise(
                objective,
                parametrisation,
                size=(160, 160),
                views=vis.Crops(3, (0.3, 1.0)),
                steps=STEPS,
                learning_rate=rate,
            )
            print(f"{objective}: {made.values[0]:.2f} at the start, {made.values[-5:].mean():.2f} at the end")
            images.append(made.at((SHOWN, SHOWN))[0])
        found.append(torch.cat(images, 2))
    return found


if __name__ == "__main__":
    torch.set_num_threads(2)
    picture = torch.cat(rows(cp.load_model("efficientnet_lite0")), 1).permute(1, 2, 0)
    pixels = Image.fromarray(np.rint(255 * picture.numpy()).astype(np.uint8))
    place = Path(sys.argv[1] if len(sys.argv) > 1 else "visualisation.png")
    with whole_file(place) as path:
        # 256 colours, so that the page stays small.
        pixels.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
