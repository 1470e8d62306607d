"""A classifier: pixels in [0, 1] go in, the model stays as it came."""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from counterpoint.classifier import Classifier, Normalise, Normalised, weights_hash
from counterpoint.errors import ImageError, InputError, ModelError, ShapeError
from counterpoint.preprocessing import Preprocessing


class ChannelMeans(nn.Module):
    """Three classes: the mean of each channel, exactly; it has no parameters."""

    def forward(self, image: Tensor) -> Tensor:
        return image.mean((2, 3))


def channel_means(**options) -> Classifier:
    return Classifier(ChannelMeans(), **{"mean": 0.0, "std": 1.0, "size": 4, **options})


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )


def plain(colour, size=(10, 8)) -> Image.Image:
    return Image.new("RGB", size, colour)


# normalisation


def test_the_module_normalises_and_then_calls_the_model():
    classifier = channel_means(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    scores = classifier.module(torch.full((2, 3, 4, 4), 0.6, dtype=torch.float64))
    expected = torch.tensor([[0.5 / 0.5, 0.4 / 0.25, 0.3 / 2.0]] * 2, dtype=torch.float64)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-15)


def test_the_wrapper_has_two_children_in_order_and_holds_the_model_itself():
    model = ChannelMeans()
    module = Classifier(model, mean=0.0, std=1.0, size=4).module
    assert [name for name, _ in module.named_children()] == ["normalise", "model"]
    assert module.model is model


def test_one_number_stands_for_three_channels():
    assert channel_means(mean=0.5, std=0.25).preprocessing.mean == (0.5,) * 3


def test_one_number_follows_the_channels_of_the_other():
    preprocessing = channel_means(mean=(0.5,), std=0.25).preprocessing
    assert (preprocessing.mean, preprocessing.std) == ((0.5,), (0.25,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_normalised_pixels_have_the_type_of_the_pixels(dtype):
    normalise = Normalise((0.5,) * 3, (0.25,) * 3)
    assert normalise(torch.ones(1, 3, 2, 2, dtype=dtype)).dtype == dtype


def test_halving_the_module_and_back_leaves_the_constants_exact():
    module = Normalised(Normalise((127 / 255,) * 3, (128 / 255,) * 3), ChannelMeans())
    module.half().double()
    pixels = torch.full((1, 3, 2, 2), 1.0, dtype=torch.float64)
    torch.testing.assert_close(module(pixels), torch.ones(1, 3, dtype=torch.float64), rtol=0, atol=1e-15)


def test_the_state_of_the_module_is_that_of_the_model_alone():
    model = small_network().eval()
    module = Classifier(model, mean=0.0, std=1.0, size=8).module
    assert list(module.state_dict()) == [f"model.{name}" for name in model.state_dict()]


def test_an_image_with_other_channels_is_refused_and_not_broadcast():
    with pytest.raises(ShapeError, match=r"\(batch, 3, height, width\), got \(1, 1, 4, 4\)"):
        channel_means().module(torch.zeros(1, 1, 4, 4))


def test_the_gradient_reaches_the_pixels():
    pixels = torch.zeros(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    score = channel_means(std=0.5).module(pixels)[0, 0]
    (gradient,) = torch.autograd.grad(score, pixels)
    torch.testing.assert_close(gradient[0, 0], torch.full((2, 2), 0.5, dtype=torch.float64))


# the model stays as it came


def test_a_model_in_training_mode_is_warned_of_and_left_in_it():
    model = small_network()
    with pytest.warns(UserWarning, match=r"'1' \(BatchNorm2d\) and 1 more .* call model\.eval\(\) first"):
        classifier = Classifier(model, mean=0.0, std=1.0, size=8)
    assert all(child.training for child in model.modules())
    assert classifier.module.training


def test_training_mode_without_any_effect_is_no_warning():
    # Warnings are errors here: a needless one would end the test.
    classifier = Classifier(nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten()), mean=0.0, std=1.0, size=2)
    assert classifier.module.training


def test_a_model_in_evaluation_mode_is_in_it_afterwards_and_so_is_its_wrapper():
    model = small_network().eval()
    classifier = Classifier(model, mean=0.0, std=1.0, size=8)
    classifier.top(torch.rand(2, 3, 8, 8))
    assert not any(child.training for child in classifier.module.modules())


def test_nothing_of_the_model_changes_when_it_is_asked():
    model = small_network().eval()
    classifier = Classifier(model, mean=0.0, std=1.0, size=8)
    before = classifier.weights_hash
    classifier.top(torch.rand(2, 3, 8, 8))
    assert classifier.weights_hash == before
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


# refused arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": (0.5, 0.5)}, "2 in mean and 3 in std"),
        ({"mean": ()}, "0 in mean and 3 in std"),
        ({"std": (1.0, 0.0, 1.0)}, "std must be finite and above 0"),
        ({"std": (1.0, math.nan, 1.0)}, "std must be finite"),
        ({"mean": (math.inf, 0.0, 0.0)}, "mean must be finite"),
        ({"mean": (123.7, 116.3, 103.5)}, r"pixels in \[0, 1\].*divide by 255"),
        ({"mean": "grey"}, "mean must be a number, or one per channel, got 'grey'"),
        ({"mean": None}, "mean must be a number"),
        ({"size": 0}, r"size must be .* got \(0, 0\)"),
        ({"size": (4, -4)}, r"got \(4, -4\)"),
        ({"size": (4, 4, 3)}, r"got \(4, 4, 3\)"),
        ({"size": 4.5}, "size must be .* got 4.5"),
        ({"size": True}, r"size must be .* got True"),
        ({"crop": 0}, "crop must be above 0"),
        ({"crop": 1.1}, "crop must be above 0 and at most 1, got 1.1"),
        ({"interpolation": "cubic"}, "nearest, bilinear, bicubic, lanczos, got 'cubic'"),
        ({"labels": ["cat", 3]}, "labels must be strings, but number 1 is 3"),
        ({"labels": "cat"}, "got one string"),
        ({"labels": []}, "at least one class"),
    ],
)
def test_wrong_arguments_are_refused_with_what_came(unchecked, options, message):
    with pytest.raises(InputError, match=message):
        Classifier(ChannelMeans(), **{"mean": (0.5,) * 3, "std": (1.0,) * 3, "size": 4, **options})


def test_a_function_is_not_a_module(unchecked):
    with pytest.raises(InputError, match=r"must be a torch\.nn\.Module, got function"):
        Classifier(lambda x: x, mean=0.0, std=1.0, size=4)


def test_wrapping_twice_is_refused(unchecked):
    classifier = channel_means()
    for wrapped in (classifier, classifier.module):
        with pytest.raises(InputError, match="normalising twice"):
            Classifier(wrapped, mean=0.0, std=1.0, size=4)


# photographs


def test_a_batch_is_made_of_files_and_open_pictures(tmp_path: Path):
    plain((255, 0, 0)).save(tmp_path / "a.png")
    batch = channel_means().preprocess([tmp_path / "a.png", str(tmp_path / "a.png"), plain((255, 0, 0))])
    assert (batch.shape, batch.dtype) == ((3, 3, 4, 4), torch.float32)
    expected = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(3, 3, 4, 4)
    torch.testing.assert_close(batch, expected)


def test_a_single_picture_is_a_batch_of_one(tmp_path: Path):
    plain("white").save(tmp_path / "a.png")
    for single in (tmp_path / "a.png", str(tmp_path / "a.png"), plain("white")):
        assert channel_means().preprocess(single).shape == (1, 3, 4, 4)


def test_black_is_zero_whatever_the_mean():
    assert float(channel_means(mean=0.5, std=0.5).preprocess(plain("black")).abs().max()) == 0.0


def test_preprocessing_keeps_pixels_within_0_and_1_where_bicubic_overshoots():
    edge = plain("black", (8, 8))
    edge.paste((255, 255, 255), (4, 0, 8, 8))
    batch = channel_means(size=64).preprocess(edge)
    assert (float(batch.min()), float(batch.max())) == (0.0, 1.0)


def test_only_the_central_square_is_seen():
    wide = plain("black", (30, 10))
    wide.paste((255, 255, 255), (10, 0, 20, 10))
    assert float(channel_means(size=5).preprocess(wide).min()) == 1.0


def test_the_crop_is_a_fraction_of_the_side():
    framed = plain("black", (16, 16))
    framed.paste((255, 255, 255), (2, 2, 14, 14))
    assert float(channel_means(size=12, crop=0.75).preprocess(framed).min()) == 1.0
    assert float(channel_means(size=13, crop=0.875).preprocess(framed).min()) < 1.0


def test_a_size_that_is_not_square_keeps_the_proportions():
    framed = plain("black", (40, 20))
    framed.paste((255, 255, 255), (15, 0, 25, 20))
    batch = channel_means(size=(8, 4)).preprocess(framed)
    assert batch.shape == (1, 3, 8, 4)
    assert float(batch.min()) == 1.0


@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    crop=st.sampled_from([0.1, 0.875, 224 / 232, 1.0]),
    size=st.sampled_from([(1, 1), (4, 4), (3, 7)]),
)
def test_every_picture_size_gives_the_size_of_the_model(width, height, crop, size):
    preprocessing = Preprocessing(size=size, mean=(0.0,) * 3, std=(1.0,) * 3, crop=crop)
    pixels = preprocessing(plain("white", (width, height)))
    assert pixels.shape == (3, *size)
    assert float(pixels.min()) == 1.0


def test_a_picture_of_the_models_size_is_taken_as_it_is():
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    batch = channel_means(size=(5, 7)).preprocess(Image.fromarray(values))
    torch.testing.assert_close(batch[0] * 255, torch.from_numpy(values).permute(2, 0, 1).float())


def test_a_model_of_one_channel_gets_grey():
    batch = channel_means(mean=(0.5,), std=(0.5,)).preprocess(plain((10, 10, 10)))
    torch.testing.assert_close(batch, torch.full((1, 1, 4, 4), 10 / 255))


def test_photographs_for_a_model_of_five_channels_are_refused():
    with pytest.raises(InputError, match="1 or 3 channels, but the model takes 5"):
        channel_means(mean=(0.5,) * 5).preprocess(plain("white"))


def test_a_damaged_file_in_a_batch_is_named(tmp_path: Path):
    (tmp_path / "bad.jpg").write_bytes(b"nothing")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        channel_means().preprocess([plain("white"), tmp_path / "bad.jpg"])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "at least one photograph"),
        (torch.zeros(1, 3, 4, 4), "need no preprocessing"),
        (3, "got int"),
        ([3], "one is of type int"),
    ],
)
def test_what_is_no_photograph_is_refused(unchecked, images, message):
    with pytest.raises(InputError, match=message):
        channel_means().preprocess(images)


# predictions


def test_top_lists_the_most_probable_classes_with_their_softmax():
    classifier = channel_means(labels=["red", "green", "blue"])
    pixels = torch.tensor([0.2, 0.9, 0.5]).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    ((first, second),) = classifier.top(pixels, k=2)
    total = sum(math.exp(v) for v in (0.2, 0.9, 0.5))
    assert (first.index, first.label, second.label) == (1, "green", "blue")
    assert first.probability == pytest.approx(math.exp(0.9) / total, rel=1e-5)


def test_top_of_many_images_is_the_top_of_each():
    classifier = channel_means()
    pixels = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    together = classifier.top(pixels, k=3)
    alone = [classifier.top(row[None], k=3)[0] for row in pixels]
    assert together == alone


def test_top_has_at_most_all_classes_and_no_labels_where_there_are_none():
    (predictions,) = channel_means().top(torch.rand(1, 3, 4, 4), k=10)
    assert [p.label for p in predictions] == [None] * 3
    assert sum(p.probability for p in predictions) == pytest.approx(1.0)


def test_probabilities_of_bfloat16_scores_are_computed_in_float32():
    pixels = torch.tensor([0.25, 0.5, 0.75]).view(1, 3, 1, 1).expand(1, 3, 4, 4)  # exact in bfloat16
    (predictions,) = channel_means().top(pixels.bfloat16(), k=3)
    (exact,) = channel_means().top(pixels, k=3)
    assert [p.probability for p in predictions] == pytest.approx([p.probability for p in exact], abs=1e-6)


def test_top_refuses_k_below_1():
    with pytest.raises(InputError, match="k must be at least 1, got 0"):
        channel_means().top(torch.rand(1, 3, 4, 4), k=0)


def test_a_wrong_number_of_labels_is_told_when_the_model_answers():
    with pytest.raises(ModelError, match="3 classes, but there are 2 labels"):
        channel_means(labels=["a", "b"]).top(torch.rand(1, 3, 4, 4))


def test_a_model_that_returns_a_map_is_no_classifier():
    with pytest.raises(ModelError, match=r"class scores \(2, classes\), got a tensor \(2, 3, 4, 4\)"):
        Classifier(nn.Identity(), mean=0.0, std=1.0, size=4).top(torch.rand(2, 3, 4, 4))


# what reports say


def test_labels_and_name_are_reachable_from_the_module_too():
    classifier = channel_means(labels=["a", "b", "c"])
    assert classifier.labels == classifier.module.labels == ("a", "b", "c")
    assert (classifier.name, channel_means(name="mine").name) == ("ChannelMeans", "mine")


def test_the_hash_follows_every_weight_name_shape_and_type():
    model = small_network()
    hashes = [weights_hash(model)]
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1e-3
    hashes.append(weights_hash(model))
    hashes.append(weights_hash(nn.ModuleList([model])))
    hashes.append(weights_hash(model.double()))
    assert len(set(hashes)) == 4
    assert all(len(text) == 64 for text in hashes)


def test_equal_weights_have_equal_hashes_whatever_their_memory_layout():
    model, copy = small_network(), small_network()
    assert weights_hash(model) == weights_hash(copy.to(memory_format=torch.channels_last))


class State(nn.Module):
    """A module with one tensor."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)


def test_the_hash_tells_shapes_and_types_of_equal_bytes_apart():
    numbers = torch.arange(6.0)
    states = [numbers.view(2, 3), numbers.view(3, 2), numbers.view(torch.int32).view(2, 3)]
    assert len({weights_hash(State(value)) for value in states}) == 3


def test_the_hash_of_a_view_is_that_of_its_numbers():
    assert weights_hash(State(torch.arange(6.0)[::2])) == weights_hash(State(torch.tensor([0.0, 2.0, 4.0])))


def test_bfloat16_and_scalar_state_can_be_hashed():
    hashes = [weights_hash(State(torch.tensor(value, dtype=torch.bfloat16))) for value in (1.0, 1.0, 2.0)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_card_survives_json_and_says_all():
    classifier = Classifier(
        small_network().eval(),
        mean=0.5,
        std=0.25,
        size=(8, 6),
        labels=list("abcde"),
        crop=0.9,
        weights="ours",
    )
    card = classifier.card()
    assert json.loads(json.dumps(card)) == card
    assert card["preprocessing"] == {
        "size": [8, 6],
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "crop": 0.9,
        "interpolation": "bicubic",
    }
    assert (card["name"], card["weights"], card["classes"]) == ("Sequential", "ours", 5)
    assert card["weights_sha256"] == classifier.weights_hash


def test_batch_norms_that_never_saw_data_are_called_random():
    model = small_network().eval()
    assert Classifier(model, mean=0.0, std=1.0, size=8, weights="a file").card()["random_weights"] is True
    model[1].running_mean.fill_(0.1)
    assert Classifier(model, mean=0.0, std=1.0, size=8, weights="a file").card()["random_weights"] is False


@pytest.mark.parametrize(("weights", "answer"), [(None, None), ("random", True), ("a file", False)])
def test_weights_without_batch_norm_are_random_only_when_so_declared(weights, answer):
    assert channel_means(weights=weights).card()["random_weights"] is answer


def test_moving_returns_the_same_classifier():
    classifier = channel_means()
    assert classifier.to("cpu") is classifier
    assert classifier.device == torch.device("cpu")


def test_the_wrapper_can_be_traced_symbolically_and_then_takes_any_batch():
    module = Classifier(small_network().eval(), mean=0.4, std=0.3, size=8).module
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        traced = torch.fx.symbolic_trace(module)
    for batch in (1, 3):
        pixels = torch.rand(batch, 3, 8, 8)
        torch.testing.assert_close(traced(pixels), module(pixels))
