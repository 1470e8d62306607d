"""Networks of torchvision and timm by name: preprocessing, labels, weights, and what is said where something is missing."""

import hashlib
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import counterpoint as cp
from counterpoint.errors import InputError, MissingPackageError, ModelError, UnknownNameError
from counterpoint.models import SOURCES, load_model
from counterpoint.models.imagenet import imagenet_labels
from counterpoint.models.stretched import Stretched


@pytest.fixture(autouse=True)
def empty_caches(tmp_path, monkeypatch):
    """Caches of the test's own, without anything in them."""
    from huggingface_hub import constants

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def small(source: str) -> str:
    return {"torchvision": "torchvision:squeezenet1_1", "timm": "timm:test_resnet"}[source]


def changed(classifier: cp.Classifier) -> dict[str, torch.Tensor]:
    """The weights of a classifier, each a little larger."""
    return {
        name: value + 0.01 if value.is_floating_point() else value
        for name, value in classifier.network.state_dict().items()
    }


# random weights


@pytest.mark.parametrize("source", ["torchvision", "timm"])
def test_random_weights_are_the_same_each_time_and_leave_torchs_generator_alone(source):
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        first = load_model(small(source), random_weights=True)
        torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)
        torch.manual_seed(12345)
        second = load_model(small(source), random_weights=True)
    assert first.weights_hash == second.weights_hash


@pytest.mark.parametrize("source", ["torchvision", "timm"])
def test_random_weights_are_said_by_name_and_card(source):
    classifier = load_model(small(source), random_weights=True)
    assert (classifier.name, classifier.weights) == (f"{small(source)} (random weights)", "random")
    assert classifier.card()["random_weights"] is True
    assert not any(module.training for module in classifier.module.modules())
    assert {parameter.dtype for parameter in classifier.module.parameters()} == {torch.float32}


# weights from a file


@pytest.mark.parametrize("source", ["torchvision", "timm"])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_a_file_give_equal_outputs(tmp_path, source, suffix):
    random = load_model(small(source), random_weights=True)
    state, file = changed(random), tmp_path / f"mine.{suffix}"
    save_file(state, file) if suffix == "safetensors" else torch.save({"state_dict": state}, file)
    loaded = load_model(small(source), weights=file)
    random.network.load_state_dict(state)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(loaded.module(images), random.module(images), rtol=0, atol=0)
    assert loaded.name == f"{small(source)} (mine.{suffix})"
    assert loaded.weights.startswith(f"mine.{suffix}")
    assert loaded.card()["random_weights"] is False


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:test_resnet"])
def test_weights_of_another_number_of_classes_bring_that_number_and_no_labels(tmp_path, name):
    import timm
    import torchvision

    builder = torchvision.models.resnet18 if name.startswith("torch") else timm.models.test_resnet
    torch.save(builder(num_classes=5).state_dict(), tmp_path / "five.pth")
    classifier = load_model(name, weights=tmp_path / "five.pth")
    assert classifier.labels is None
    assert classifier.module(torch.rand(1, 3, 64, 64)).shape == (1, 5)


@pytest.mark.parametrize("source", ["torchvision", "timm"])
def test_weights_of_another_network_are_refused_with_names(tmp_path, source):
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "w.pth")
    with pytest.raises(
        ModelError, match=rf"do not fit {source}'s .*missing: .* more; not known: weight, bias"
    ):
        load_model(small(source), weights=tmp_path / "w.pth")


def test_a_network_with_auxiliary_heads_is_built_as_its_weights_need_it(tmp_path):
    import torchvision

    network = torchvision.models.googlenet(
        init_weights=False, aux_logits=True
    )  # as published: with the heads
    torch.save(network.state_dict(), tmp_path / "w.pth")
    classifier = load_model("torchvision:googlenet", weights=tmp_path / "w.pth")
    assert classifier.network.transform_input
    assert classifier.network.aux1 is None


def test_torchvisions_entry_is_afterwards_as_it_was(tmp_path):
    import torchvision

    entry = torchvision.models.SqueezeNet1_1_Weights.DEFAULT
    torch.save(changed(load_model("torchvision:squeezenet1_1", random_weights=True)), tmp_path / "w.pth")
    load_model("torchvision:squeezenet1_1", weights=tmp_path / "w.pth")
    assert "get_state_dict" not in vars(entry)


# weights from the libraries' caches


def test_torchvisions_weights_come_from_the_cache_of_torch_hub_if_the_hash_in_their_name_is_right(
    tmp_path, monkeypatch
):
    from counterpoint.models import torchvision_models

    state = changed(load_model("torchvision:squeezenet1_1", random_weights=True))
    torch.save(state, tmp_path / "w.pth")
    digest = hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    file = (tmp_path / "w.pth").rename(tmp_path / f"squeezenet1_1-{digest[:8]}.pth")
    monkeypatch.setattr(torchvision_models, "_cache_file", lambda entry: file)
    classifier = load_model("torchvision:squeezenet1_1")
    torch.testing.assert_close(
        classifier.network.state_dict()["features.0.bias"], state["features.0.bias"], rtol=0, atol=0
    )
    assert classifier.name == "torchvision:squeezenet1_1"
    assert classifier.weights == f"torchvision SqueezeNet1_1_Weights.IMAGENET1K_V1, {file.name}"
    assert classifier.card()["random_weights"] is False


def test_a_damaged_file_in_the_cache_of_torch_hub_is_refused(tmp_path):
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "squeezenet1_1-b8a52dc0.pth").write_bytes(b"cut short")
    with pytest.raises(ModelError, match="by its name its SHA-256 must begin with b8a52dc0"):
        load_model("torchvision:squeezenet1_1")


@pytest.mark.parametrize("tag", ["", ".r160_in1k"])
def test_timms_weights_come_from_the_cache_of_the_hugging_face_hub(tmp_path, tag):
    state = changed(load_model("timm:test_resnet", random_weights=True))
    repository = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    save_file(state, repository / "snapshots" / "abc" / "model.safetensors")
    classifier = load_model(f"timm:test_resnet{tag}")
    torch.testing.assert_close(
        classifier.network.state_dict()["fc.weight" if "fc.weight" in state else "head.fc.weight"],
        state["fc.weight" if "fc.weight" in state else "head.fc.weight"],
        rtol=0,
        atol=0,
    )
    assert classifier.weights == f"timm test_resnet{tag}, timm/test_resnet.r160_in1k model.safetensors"


def test_weights_as_published_are_read_by_timms_own_filter(tmp_path):
    # The first ViT of DeiT's authors: their file has the state under "model", some of it under other names.
    import timm

    network = timm.create_model("test_vit")
    theirs = {
        "model": {
            name.replace("patch_embed.proj", "patch_embedding"): v for name, v in network.state_dict().items()
        }
    }
    torch.save(theirs, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"missing: patch_embed\.proj\.weight"):
        load_model("timm:test_vit", weights=tmp_path / "w.pth")
    # A projection that is written as a linear layer is one of those that timm knows.
    flat = {
        name: value.flatten(1) if name == "patch_embed.proj.weight" else value
        for name, value in network.state_dict().items()
    }
    torch.save(flat, tmp_path / "flat.pth")
    classifier = load_model("timm:test_vit", weights=tmp_path / "flat.pth")
    for name, value in network.state_dict().items():
        torch.testing.assert_close(classifier.network.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (
            "torchvision:squeezenet1_1",
            r"torch/hub/checkpoints/squeezenet1_1-b8a52dc0\.pth, and nothing is downloaded",
        ),
        (
            "timm:test_resnet",
            r"model\.safetensors of 'timm/test_resnet\.r160_in1k' in the cache .*/hub\), and nothing",
        ),
    ],
)
def test_weights_that_are_nowhere_are_asked_for_with_the_file_that_was_looked_for(name, place):
    with pytest.raises(MissingPackageError, match=rf"{place}.*--weights FILE .*--random-weights"):
        load_model(name)


# preprocessing and labels


def test_torchvisions_preprocessing_is_that_of_its_entry():
    first = load_model("torchvision:mobilenet_v2.IMAGENET1K_V1", random_weights=True).preprocessing
    second = load_model("torchvision:mobilenet_v2.IMAGENET1K_V2", random_weights=True).preprocessing
    assert (first.size, first.crop) == ((224, 224), 224 / 256)
    assert (second.size, second.crop) == ((224, 224), 224 / 232)
    assert first.interpolation == second.interpolation == "bilinear"
    assert (first.mean, first.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_timms_preprocessing_is_that_of_its_config():
    found = load_model("timm:test_vit", random_weights=True).preprocessing
    assert (found.size, found.crop, found.interpolation) == ((160, 160), 0.95, "bicubic")
    assert (found.mean, found.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_a_network_of_timm_that_squashes_photographs_is_given_squashed_ones(monkeypatch):
    import timm

    resolve = timm.data.resolve_model_data_config
    for mode, message in (
        ("squash", None),
        ("border", "crop_mode 'border'; 'center' and 'squash' are known"),
    ):
        monkeypatch.setattr(
            timm.data, "resolve_model_data_config", lambda n, m=mode: {**resolve(n), "crop_mode": m}
        )
        if message is None:
            assert isinstance(load_model("timm:test_vit", random_weights=True).preprocessing, Stretched)
            continue
        with pytest.raises(ModelError, match=message):
            load_model("timm:test_vit", random_weights=True)


def test_all_three_name_the_classes_of_imagenet_in_one_order():
    import timm

    ours = imagenet_labels()
    theirs = load_model("torchvision:squeezenet1_1", random_weights=True).labels
    same = [a.lower() == b.lower() for a, b in zip(ours, theirs, strict=True)]
    assert sum(same) >= 997
    assert load_model("timm:test_resnet", random_weights=True).labels == ours
    info = timm.data.ImageNetInfo("imagenet-1k")
    known = [label.lower() in info.index_to_description(k).lower() for k, label in enumerate(ours)]
    assert sum(known) >= 998  # "crane bird" and "maillot tank suit" are told apart by words of our own


def test_segmentation_returns_class_maps_and_has_the_labels_of_its_weights():
    classifier = load_model("torchvision:lraspp_mobilenet_v3_large", random_weights=True)
    assert classifier.module(torch.rand(1, 3, 64, 96)).shape == (1, 21, 64, 96)
    assert classifier.preprocessing.size == (520, 520)
    assert (classifier.labels[0], classifier.labels[8]) == ("__background__", "cat")


@pytest.mark.slow
def test_a_detector_of_torchvision_is_a_detector():
    from counterpoint.detectors import Detector

    detector = load_model("torchvision:ssdlite320_mobilenet_v3_large", random_weights=True)
    assert isinstance(detector, Detector)
    assert (detector.weights, detector.labels[17]) == ("random", "cat")
    assert detector.name == "torchvision:ssdlite320_mobilenet_v3_large (random weights)"


# what is wrong with a name


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "torchvision:resnet5",
            UnknownNameError,
            r"no network 'resnet5'; near it: .*resnet50.*models --search",
        ),
        ("timm:vit_smal_patch16_224", UnknownNameError, "near it: .*vit_small_patch16_224"),
        ("torchvision:resnet18.V2", UnknownNameError, r"weights of torchvision:resnet18 'V2'.*IMAGENET1K_V1"),
        (
            "timm:test_vit.r161_in1k",
            UnknownNameError,
            r"weights of timm:test_vit 'r161_in1k'; did you mean 'r160_in1k'",
        ),
        ("torchvision:r3d_18", InputError, "quantised or takes no single photograph"),
        ("torchvision:quantized_resnet18", InputError, "quantised or takes no single photograph"),
        ("torchvision:", InputError, r"names no network: write torchvision:resnet50"),
    ],
)
def test_a_name_that_is_wrong_is_answered(name, error, message):
    with pytest.raises(error, match=message) as raised:
        load_model(name, random_weights=True)
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("package", "name", "extra"),
    [
        ("torchvision", "torchvision:resnet18", "torchvision"),
        ("timm", "timm:test_vit", "torchvision"),
        ("transformers", "hf:vit", "huggingface"),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_the_extra_that_brings_it(
    monkeypatch, package, name, extra
):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.models", None)
    monkeypatch.setitem(sys.modules, "transformers.models.auto", None)
    with pytest.raises(
        MissingPackageError, match=rf'{package} is not installed: pip install "counterpoint\[{extra}\]"'
    ):
        load_model(name, random_weights=True)


def test_every_source_says_what_it_is_and_lists_its_networks():
    for name, source in SOURCES.items():
        assert source.summary
        assert source.example.startswith(f"{name}:")
        assert len(source.names()) > 60
