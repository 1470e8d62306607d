"""Networks of transformers: folders, the cache of the hub, architectures; how photographs are prepared, and what is refused."""

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

import counterpoint as cp
from counterpoint.errors import InputError, MissingPackageError, ModelError, UnknownNameError
from counterpoint.layers import layer_names
from counterpoint.models import load_model
from counterpoint.models.image_processors import BlueFirst, check_same, prepared_like
from counterpoint.models.stretched import Stretched, stretched

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def tiny_vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=32,
        image_size=32,
        patch_size=8,
        id2label={0: "cat", 1: "dog", 2: "rocket"},
        label2id={"cat": 0, "dog": 1, "rocket": 2},
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return transformers.ViTForImageClassification(config).eval()


@pytest.fixture
def folder(tmp_path):
    """A tiny ViT as save_pretrained writes it, with its image processor."""
    place = tmp_path / "vit"
    tiny_vit().save_pretrained(place)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(place)
    return place


@pytest.fixture(autouse=True)
def empty_hub(tmp_path, monkeypatch):
    """A cache of the test's own, and no way to anywhere else."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    return tmp_path / "hub"


# a folder


def test_a_folder_gives_a_classifier_of_logits_with_its_labels_and_layer_names(folder):
    classifier = load_model(f"hf:{folder}")
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = tiny_vit()(pixel_values=(pixels - 0.5) / 0.5).logits
        torch.testing.assert_close(classifier.module(pixels), expected, rtol=1e-5, atol=1e-6)
    assert classifier.labels == ("cat", "dog", "rocket")
    assert layer_names(classifier.module)[0] == "vit"
    assert classifier.name == f"hf:{folder}"
    assert classifier.card()["random_weights"] is False
    assert not any(module.training for module in classifier.module.modules())


def test_its_photographs_are_stretched_as_its_processor_does(folder):
    found = load_model(f"hf:{folder}").preprocessing
    assert isinstance(found, Stretched)
    assert (found.size, found.crop, found.interpolation) == ((32, 32), 1.0, "bilinear")
    assert (found.mean, found.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_attention_is_run_as_plain_operations(folder):
    assert load_model(f"hf:{folder}").network.config._attn_implementation == "eager"


def test_it_can_be_explained(folder):
    classifier = load_model(f"hf:{folder}")
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    comparison = cp.compare(cp.logit(classifier, "dog"), images, baseline=cp.baselines.Black())
    attribution = comparison.explain(cp.methods.IntegratedGradients(tolerance=0.05))
    assert float(attribution.relative_error.abs()) < 0.05


def test_a_name_in_the_cache_of_the_hub_is_found(folder, empty_hub):
    snapshot = empty_hub / "models--owner--tiny" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    (empty_hub / "models--owner--tiny" / "refs").mkdir()
    (empty_hub / "models--owner--tiny" / "refs" / "main").write_text("abc")
    classifier = load_model("hf:owner/tiny")
    assert (classifier.name, classifier.weights) == ("hf:owner/tiny", "transformers, owner/tiny")
    assert classifier.labels == ("cat", "dog", "rocket")


def test_weights_of_a_file_take_the_place_of_those_in_the_folder(folder, tmp_path):
    state = {name: value + 0.01 for name, value in tiny_vit().state_dict().items()}
    save_file(state, tmp_path / "mine.safetensors")
    classifier = load_model(f"hf:{folder}", weights=tmp_path / "mine.safetensors")
    for name, value in state.items():
        torch.testing.assert_close(classifier.network.state_dict()[name], value, rtol=0, atol=0)
    assert classifier.name == f"hf:{folder} (mine.safetensors)"


# random weights


def test_an_architecture_alone_has_random_weights_from_seed_0():
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        first = load_model("hf:mobilevit", random_weights=True)
        torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)
        torch.manual_seed(12345)
        second = load_model("hf:mobilevit", random_weights=True)
    assert first.weights_hash == second.weights_hash
    assert (first.name, first.weights) == ("hf:mobilevit (random weights)", "random")
    assert first.preprocessing.size == (256, 256)


def test_an_architecture_with_several_networks_is_the_first_of_them():
    assert type(load_model("hf:deit", random_weights=True).network).__name__ == "DeiTForImageClassification"


def test_a_folder_with_random_weights_keeps_its_config_and_needs_no_processor(folder):
    (folder / "preprocessor_config.json").unlink()
    classifier = load_model(f"hf:{folder}", random_weights=True)
    assert (classifier.weights, classifier.labels) == ("random", ("cat", "dog", "rocket"))
    assert classifier.preprocessing.size == (32, 32)


# segmentation, detection


def test_segmentation_returns_class_maps(tmp_path):
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 8, 8],
        num_attention_heads=[1, 1, 1, 1],
        depths=[1, 1, 1, 1],
        decoder_hidden_size=8,
        num_labels=3,
    )
    transformers.SegformerForSemanticSegmentation(config).save_pretrained(tmp_path / "s")
    transformers.SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "s")
    classifier = load_model(f"hf:{tmp_path / 's'}")
    assert classifier.module(torch.rand(1, 3, 64, 64)).shape == (1, 3, 16, 16)


def test_a_detector_of_queries_is_a_detector(tmp_path):
    from counterpoint.detectors import Detector

    config = transformers.YolosConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=32,
        image_size=[64, 64],
        patch_size=16,
        num_detection_tokens=5,
        num_labels=3,
    )
    transformers.YolosForObjectDetection(config).save_pretrained(tmp_path / "d")
    transformers.YolosImageProcessor(size={"height": 64, "width": 64}).save_pretrained(tmp_path / "d")
    detector = load_model(f"hf:{tmp_path / 'd'}")
    assert isinstance(detector, Detector)
    assert detector.name == f"hf:{tmp_path / 'd'}"


# what is refused


def test_weights_that_lack_a_layer_are_refused_rather_than_drawn_at_random(folder):
    state = load_file(folder / "model.safetensors")
    del state["classifier.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError,
        match=r"do not fit its config: missing: classifier\.weight; what is missing would be random",
    ):
        load_model(f"hf:{folder}")


def test_a_pickle_beside_the_config_runs_nothing(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(
        b"\x80\x02cos\nmkdir\n(S'" + str(tmp_path / "ran").encode() + b"'\ntR."
    )
    with pytest.raises(ModelError, match=r"the weights of .* cannot be loaded"):
        load_model(f"hf:{folder}")
    assert not (tmp_path / "ran").exists()


def test_code_that_comes_with_a_model_is_not_run(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"import os; os.mkdir({str(tmp_path / 'ran')!r})")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(f"hf:{folder}")
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_a_processor_is_told_what_to_save(folder):
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(
        ModelError, match=r"does not say how photographs are prepared.*processor\.save_pretrained\(folder\)"
    ):
        load_model(f"hf:{folder}")


def test_a_model_of_another_kind_is_named(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["ViTForMaskedImageModeling"]}))
    with pytest.raises(
        ModelError, match="holds a ViTForMaskedImageModeling; networks for image classification"
    ):
        load_model(f"hf:{folder}")


@pytest.mark.parametrize(
    ("name", "random", "error", "message"),
    [
        (
            "owner/none",
            False,
            MissingPackageError,
            r"neither a folder nor in the cache .*`hf download owner/none`",
        ),
        ("./none", False, InputError, r"no folder '\./none'"),
        (
            "vit",
            False,
            InputError,
            "an architecture without weights: ask for random ones with --random-weights",
        ),
        (
            "vitt",
            True,
            UnknownNameError,
            "transformers has no network 'vitt'; near it: vit, .*models --search",
        ),
        ("dinat", True, ModelError, "cannot build 'hf:dinat' from its config alone: ImportError"),
    ],
)
def test_a_name_that_is_wrong_is_answered(name, random, error, message):
    with pytest.raises(error, match=message) as raised:
        load_model(f"hf:{name}", random_weights=random)
    assert type(raised.value) is error


def test_a_file_and_a_folder_without_a_model_are_refused(folder):
    with pytest.raises(InputError, match=r"takes a folder that save_pretrained wrote, but .* is a file"):
        load_model(f"hf:{folder / 'config.json'}")
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no config\.json"):
        load_model(f"hf:{folder / 'empty'}")


# image processors


def prepared(processor, size=None):
    """A classifier that prepares photographs as we read the processor."""

    class Config:
        image_size = size

    how = prepared_like(processor, Config, 3, "it")
    classifier = cp.Classifier(
        nn.Flatten().eval(),
        mean=how.mean,
        std=how.std,
        size=how.size,
        crop=how.crop,
        interpolation=how.interpolation,
    )
    return (stretched(classifier) if how.stretched else classifier), how


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ViTImageProcessor", {}),
        ("DeiTImageProcessor", {}),
        ("BeitImageProcessor", {}),
        ("BitImageProcessor", {}),
        ("CLIPImageProcessor", {}),
        ("ConvNextImageProcessor", {}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}}),
        ("EfficientNetImageProcessor", {}),
        (
            "EfficientNetImageProcessor",
            {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
        ),
        ("LevitImageProcessor", {}),
        ("MobileNetV1ImageProcessor", {}),
        ("MobileNetV2ImageProcessor", {}),
        ("MobileViTImageProcessor", {"size": {"shortest_edge": 288}}),
        ("PoolFormerImageProcessor", {}),
        ("PvtImageProcessor", {}),
        ("SegformerImageProcessor", {}),
        ("SiglipImageProcessor", {}),
        ("ViTImageProcessor", {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}),
    ],
)
def test_photographs_are_prepared_as_the_processor_does(name, settings):
    processor = getattr(transformers, name)(**settings)
    classifier, how = prepared(processor)
    check_same(classifier, processor, blue_first=how.blue_first)
    assert how.blue_first == (name == "MobileViTImageProcessor")


def test_a_processor_that_does_something_else_is_refused():
    for processor in (transformers.PerceiverImageProcessor(), transformers.MobileViTImageProcessor()):
        classifier, how = prepared(processor)
        with pytest.raises(
            ModelError,
            match="prepares photographs in a way that is not known here: of a test picture it made",
        ):
            check_same(classifier, processor, blue_first=how.blue_first)


def test_the_check_notices_a_wrong_crop_a_wrong_mean_and_swapped_colours():
    processor = transformers.DeiTImageProcessor()
    right = {"mean": 0.5, "std": 0.5, "size": 224, "crop": 224 / 256}
    check_same(stretched(cp.Classifier(nn.Flatten().eval(), **right)), processor, blue_first=False)
    for wrong in ({"crop": 1.0}, {"mean": 0.48}, {"std": 0.55}):
        classifier = stretched(cp.Classifier(nn.Flatten().eval(), **{**right, **wrong}))
        with pytest.raises(ModelError, match="apart on average"):
            check_same(classifier, processor, blue_first=False)
    with pytest.raises(ModelError, match="apart on average"):
        check_same(stretched(cp.Classifier(nn.Flatten().eval(), **right)), processor, blue_first=True)
    with pytest.raises(ModelError, match="apart on average"):  # not stretched
        check_same(cp.Classifier(nn.Flatten().eval(), **right), processor, blue_first=False)


def test_a_network_that_takes_blue_first_gets_it():
    images = torch.rand(1, 3, 2, 2)
    torch.testing.assert_close(BlueFirst(nn.Identity())(images), images[:, [2, 1, 0]], rtol=0, atol=0)


def test_a_resize_that_is_not_known_is_refused():
    processor = transformers.ViTImageProcessor(size={"longest_edge": 100})
    with pytest.raises(ModelError, match=r"resizes photographs to .*longest_edge.*not known here"):
        prepared(processor)
