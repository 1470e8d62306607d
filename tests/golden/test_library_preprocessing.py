"""Photographs as the libraries prepare them, beside ours; and real weights through timm's network and preprocessing."""

import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn.functional import avg_pool2d

import counterpoint as cp
from counterpoint.data.photographs import find_photographs

pytestmark = pytest.mark.golden

# Libraries resize the photograph, to whole pixels, and cut out the centre; ours cut first, so that nothing from outside leaks in. The two
# grids lie up to half a pixel of the photograph apart, which shows in fur, and less over cells of 8 x 8. Measured on this photograph: 0.011
# to 0.016, and 0.0034 to 0.0057 over cells, of a range of 1. Where nothing is cut, as with stretched photographs, both are the same. A crop
# that is off by 3 % makes it 0.048 to 0.059 and 0.020 to 0.029; a mean that is off by 0.02, 0.022 to 0.026 and 0.020 to 0.021.
PIXELS, CELLS = 0.018, 0.007


@pytest.fixture(scope="module")
def chelsea() -> Image.Image:
    """451 x 300 pixels."""
    (path,) = find_photographs(["sample:chelsea"])
    return Image.open(path).convert("RGB")


def apart(classifier: cp.Classifier, picture: Image.Image, theirs: torch.Tensor) -> tuple[float, float]:
    """Mean difference of the two inputs, of a range of 1: by pixels, and by cells of 8 x 8."""
    ours = classifier.module.normalise(classifier.preprocess(picture)).float()
    assert ours.shape == theirs.shape
    difference = (theirs - ours) * torch.tensor(classifier.preprocessing.std).view(1, -1, 1, 1)
    return float(difference.abs().mean()), float(avg_pool2d(difference, 8).abs().mean())


def torchvisions(name: str, picture: Image.Image) -> torch.Tensor:
    import torchvision

    architecture, _, tag = name.partition(".")
    entries = torchvision.models.get_model_weights(architecture)
    return (entries[tag] if tag else entries.DEFAULT).transforms()(picture)[None]


def timms(name: str, picture: Image.Image) -> torch.Tensor:
    import timm

    return timm.data.create_transform(**timm.data.resolve_model_data_config(timm.create_model(name)))(
        picture
    )[None]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("torchvision", "squeezenet1_1"),  # 256 to 224, bilinear
        ("torchvision", "mobilenet_v2.IMAGENET1K_V2"),  # 232 to 224
        ("torchvision", "efficientnet_b0"),  # bicubic
        ("timm", "test_vit"),
        ("timm", "test_resnet"),
        ("timm", "tf_efficientnet_lite0"),
        ("timm", "vit_tiny_patch16_224"),
    ],
)
def test_the_transforms_of_torchvision_and_timm_give_the_same_input(chelsea, source, name):
    classifier = cp.load_model(f"{source}:{name}", random_weights=True)
    theirs = (torchvisions if source == "torchvision" else timms)(name, chelsea)
    pixels, cells = apart(classifier, chelsea, theirs)
    assert pixels < PIXELS
    assert cells < CELLS


def test_a_crop_or_a_mean_that_is_a_little_off_would_be_noticed(chelsea):
    classifier = cp.load_model("torchvision:squeezenet1_1", random_weights=True)
    theirs = torchvisions("squeezenet1_1", chelsea)
    right = classifier.preprocessing
    classifier.preprocessing = replace(right, crop=right.crop - 0.03)
    assert apart(classifier, chelsea, theirs)[1] > 2.5 * CELLS
    classifier.preprocessing = right
    classifier.module.normalise.mean += 0.02
    assert apart(classifier, chelsea, theirs)[1] > 2.5 * CELLS


@pytest.mark.parametrize(
    ("name", "pixels", "cells"),
    [
        ("ViTImageProcessor", 1e-4, 1e-4),
        ("DeiTImageProcessor", 1e-4, 1e-4),
        ("ConvNextImageProcessor", 1e-4, 1e-4),
        ("EfficientNetImageProcessor", 1e-4, 1e-4),
        ("BitImageProcessor", PIXELS, CELLS),
    ],
)
def test_the_image_processors_of_transformers_give_the_same_input(chelsea, name, pixels, cells):
    import transformers

    from counterpoint.models.image_processors import prepared_like
    from counterpoint.models.stretched import stretched

    processor = getattr(transformers, name)()
    how = prepared_like(processor, None, 3, name)
    classifier = cp.Classifier(
        torch.nn.Flatten().eval(),
        mean=how.mean,
        std=how.std,
        size=how.size,
        crop=how.crop,
        interpolation=how.interpolation,
    )
    classifier = stretched(classifier) if how.stretched else classifier
    found = apart(classifier, chelsea, processor(images=chelsea, return_tensors="pt")["pixel_values"])
    assert found[0] < pixels
    assert found[1] < cells


# real weights


@pytest.fixture(scope="module")
def lite0(tmp_path_factory) -> tuple[cp.Classifier, cp.Classifier]:
    """EfficientNet-Lite0 with its ImageNet weights: ours, and timm's with the same tensors, which lie in the same order."""
    import timm

    ours = cp.load_model("efficientnet_lite0")
    theirs = timm.create_model("tf_efficientnet_lite0").state_dict()
    file = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    save_file(dict(zip(theirs, ours.network.state_dict().values(), strict=True)), file)
    return ours, cp.load_model("timm:tf_efficientnet_lite0", weights=file)


def test_real_weights_in_timms_network_name_the_sample_photographs(lite0):
    ours, theirs = lite0
    files = find_photographs(["sample:coffee", "sample:chelsea", "sample:rocket"])
    coffee, chelsea, rocket = theirs.top(theirs.preprocess(files))
    assert coffee[0].label == "espresso"
    assert coffee[0].probability == pytest.approx(
        0.951, abs=0.005
    )  # 0.78 with the scaling of torchvision's models
    cats = sum(p.probability for p in chelsea if p.label in ("tabby", "tiger cat", "Egyptian cat"))
    assert cats == pytest.approx(0.92, abs=0.02)
    assert rocket[0].label == "missile"
    # The same network, to the bit; timm's own mean and deviation, 0.5, are 127/255 and 128/255 but for a thousandth.
    inputs = ours.module.normalise(ours.preprocess(files))
    with torch.no_grad():
        torch.testing.assert_close(theirs.network(inputs), ours.network(inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_real_weights_in_timms_network_name_foolboxs_photographs_as_often_as_ours(lite0):
    spec = find_spec("foolbox")
    if spec is None or spec.origin is None:
        pytest.skip("pip install --no-deps foolbox to run this test on its photographs")
    files = sorted((Path(spec.origin).parent / "data").glob("imagenet_*.jpg"))
    truth = torch.tensor([int(re.search(r"_(\d+)\.jpg$", file.name)[1]) for file in files])
    assert len(files) == 20
    for classifier in lite0:
        with torch.no_grad():
            found = classifier.module(classifier.preprocess(files)).softmax(1)
        assert int((found.argmax(1) == truth).sum()) >= 18
        assert float(found.gather(1, truth[:, None]).mean()) == pytest.approx(0.692, abs=0.008)
