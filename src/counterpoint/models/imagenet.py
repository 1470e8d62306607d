"""What the classifiers of ImageNet share: the names of its classes, and how photographs are cut to size."""

from importlib.resources import files

from torch import nn

from counterpoint.classifier import Classifier


def imagenet_labels() -> tuple[str, ...]:
    """The 1000 class names of ImageNet, in the usual order. Their source is named in NOTICE."""
    text = files("counterpoint.models").joinpath("imagenet_labels.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def imagenet_classifier(
    network: nn.Module, name: str, *, mean: tuple[float, ...], std: tuple[float, ...], weights: str
) -> Classifier:
    """A network for photographs that are cut to the central 7/8 of their shorter side and resized to 224 x 224, bicubic.

    Args:
        network: Set to evaluation mode in place.
        name: The name that it is asked for by.
        mean: Of red, green and blue, in units of pixels in [0, 1].
        std: What each channel is divided by afterwards, in the same units.
        weights: Where its weights come from.
    """
    return Classifier(
        network.eval(),
        mean=mean,
        std=std,
        size=224,
        crop=224 / 256,
        interpolation="bicubic",
        labels=imagenet_labels(),
        name=name,
        weights=weights,
    )
