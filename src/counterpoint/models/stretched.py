"""Preprocessing of models that were trained on stretched photographs."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from counterpoint.classifier import Classifier
from counterpoint.errors import InputError
from counterpoint.images import as_rgb
from counterpoint.preprocessing import Preprocessing


@dataclass(frozen=True)
class Stretched(Preprocessing):
    """The whole photograph, whatever its shape, stretched or squeezed to that of the input.

    With `crop` below 1 it is the central part of its height and of its width. Many models of the Hugging Face hub were trained so.
    """

    stretched: bool = True
    """Always; it is there so that cards say it."""

    def __call__(self, image: Image.Image) -> Float[Tensor, "channel height width"]:
        """The pixels of one picture, in [0, 1], float32; models of one channel get it in grey.

        Raises:
            InputError: a model of another number of channels than 1 or 3.
            ImageError: a picture that cannot be read as a photograph.
        """
        if len(self.mean) not in (1, 3):
            raise InputError(
                f"photographs have 1 or 3 channels, but the model takes {len(self.mean)}; make its inputs yourself, with pixels in [0, 1]."
            )
        height, width = self.size
        picture = as_rgb(image)
        across, down = self.crop * picture.width, self.crop * picture.height
        left, top = (picture.width - across) / 2, (picture.height - down) / 2
        if len(self.mean) == 1:
            picture = picture.convert("L")
        filters = Image.Resampling[self.interpolation.upper()]
        resized = picture.resize((width, height), filters, box=(left, top, left + across, top + down))
        pixels = torch.from_numpy(np.array(resized)).view(height, width, -1)
        return pixels.permute(2, 0, 1).float() / 255  # (channel, height, width)


def stretched(classifier: Classifier) -> Classifier:
    """The classifier, which from now on stretches photographs to its input; changed in place."""
    parts = {each.name: getattr(classifier.preprocessing, each.name) for each in fields(Preprocessing)}
    classifier.preprocessing = Stretched(**parts)
    return classifier
