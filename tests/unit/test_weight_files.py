"""Files of weights: which are read, which are refused, and that every tensor finds its place."""

import collections
import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from counterpoint.errors import InputError, ModelError
from counterpoint.models.weight_files import check_name_hash, classes_in, fit, fits, read_weights


class Net(nn.Module):
    """A convolution, a norm and a head of so many classes."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.fc = nn.Linear(2, classes)


def state(classes: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net(classes).state_dict()


def put(content, path):
    torch.save(content, path)
    return path


# what is read


@pytest.mark.parametrize(
    ("wrap", "source"),
    [
        (lambda s: s, "w.pth"),
        (lambda s: {"state_dict": s, "epoch": 3, "lr": 0.1}, "w.pth['state_dict']"),
        (lambda s: {"model": s, "optimizer": {"state": {}}}, "w.pth['model']"),
        (lambda s: {"model": {"state_dict": s}}, "w.pth['model']['state_dict']"),
        (lambda s: {f"module.{k}": v for k, v in s.items()}, "w.pth, 'module.' taken off its names"),
        (
            lambda s: {"state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()}},
            "w.pth['state_dict'], 'module._orig_mod.' taken off its names",
        ),
    ],
)
def test_a_state_dict_is_found_where_training_programs_put_it_and_the_source_says_where(
    tmp_path, wrap, source
):
    network = Net()
    file = put(wrap(state(seed=1)), tmp_path / "w.pth")
    assert fit(network, read_weights(file), what="the net") == source
    for name, value in state(seed=1).items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=0)


def test_safetensors_are_read_whatever_the_file_is_called(tmp_path):
    for name in ("w.safetensors", "weights"):
        save_file(state(seed=1), tmp_path / name)
        network = Net()
        fit(network, read_weights(tmp_path / name), what="the net")
        torch.testing.assert_close(network.fc.weight.detach(), state(seed=1)["fc.weight"], rtol=0, atol=0)


def test_a_network_whose_own_names_begin_like_a_prefix_keeps_them(tmp_path):
    network = nn.ModuleDict({"model": Net()})
    file = put({f"model.{k}": v for k, v in state(seed=1).items()}, tmp_path / "w.pth")
    fit(network, read_weights(file), what="the net")
    torch.testing.assert_close(network["model"].fc.bias.detach(), state(seed=1)["fc.bias"], rtol=0, atol=0)


def test_old_files_without_counters_and_half_precision_fit(tmp_path):
    old = {k: v.half() for k, v in state(seed=1).items() if not k.endswith("num_batches_tracked")}
    network = Net()
    fit(network, read_weights(put(old, tmp_path / "w.pth")), what="the net")
    assert network.fc.weight.dtype == torch.float32
    torch.testing.assert_close(network.fc.weight.detach(), old["fc.weight"].float(), rtol=0, atol=0)


# what does not fit


def test_what_is_missing_left_over_and_of_another_shape_is_named_and_the_network_left_alone(tmp_path):
    theirs = state(seed=1)
    del theirs["conv.weight"], theirs["conv.bias"]
    theirs |= {"head.weight": torch.zeros(1), "fc.bias": torch.zeros(7)}
    network = Net()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    weights = read_weights(put(theirs, tmp_path / "w.pth"))
    assert not fits(network, weights)
    message = (
        r"do not fit the net: missing: conv\.weight, conv\.bias; not known: head\.weight; "
        r"of another shape: fc\.bias must be \(4,\), got \(7,\)\."
    )
    with pytest.raises(ModelError, match=message):
        fit(network, weights, what="the net")
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_only_the_first_few_names_are_told(tmp_path):
    theirs = {f"layer{k}.weight": torch.zeros(1) for k in range(9)}
    with pytest.raises(
        ModelError, match=r"not known: layer0\.weight, layer1\.weight, layer2\.weight and 6 more"
    ):
        fit(Net(), read_weights(put(theirs, tmp_path / "w.pth")), what="the net")


def test_quantised_weights_are_refused(tmp_path):
    theirs = {**state(), "fc.weight": torch.zeros(4, 2, dtype=torch.int8)}
    with pytest.raises(ModelError, match=r"quantised, which has no gradients: fc\.weight"):
        fit(Net(), read_weights(put(theirs, tmp_path / "w.pth")), what="the net")


@pytest.mark.parametrize(("classes", "expected"), [(7, 7), (4, None)])
def test_another_number_of_classes_is_told_from_other_misfits(tmp_path, classes, expected):
    weights = read_weights(put(state(classes), tmp_path / "w.pth"))
    assert classes_in(Net(4), weights) == expected
    assert classes_in(nn.Linear(2, 4), weights) is None
    other = read_weights(put({**state(7), "conv.weight": torch.zeros(5, 3, 3, 3)}, tmp_path / "v.pth"))
    assert classes_in(Net(4), other) is None


# what is refused


class Hostile:
    """Pickled, it is a call of a function."""

    def __init__(self, *call) -> None:
        self.call = call

    def __reduce__(self):
        return os.mkdir, self.call


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_would_run_code_is_refused_and_the_code_does_not_run(tmp_path, legacy):
    content = {**state(), "x": Hostile(str(tmp_path / "ran"))}
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        InputError, match=r"holds more than tensors \(it asks for \w+\.mkdir\).*save its weights alone"
    ):
        read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_module_is_refused_with_the_way_out(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(
        InputError, match=r"a whole pickled module, it seems.*torch\.save\(model\.state_dict\(\)"
    ):
        read_weights(tmp_path / "w.pt")


def test_a_torchscript_archive_is_refused_with_the_way_out(tmp_path):
    # Made by hand: torch.jit warns that it is going away.
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        for name in ("w/code/__torch__.py", "w/constants.pkl", "w/data.pkl"):
            archive.writestr(name, b"")
    with pytest.raises(InputError, match=r"TorchScript archive.*torch\.jit\.load\(FILE\)\.state_dict\(\)"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pth", b"", "is empty"),
        ("w.pth", b"no weights at all", "is no file of weights, or a damaged one|holds more than tensors"),
        ("w.pth", b"PK\x03\x04 cut short", "cut short or damaged"),
        ("w.safetensors", b"\xff" * 64, "is a damaged safetensors file"),
        ("w.onnx", b"\x08\x07" * 8, "of a format that is not read"),
        ("w.h5", b"\x89HDF\r\n\x1a\n" * 2, "of a format that is not read"),
        (
            "w.pth",
            pickle.dumps([1, 2]),
            "is no file of weights|holds more than tensors|must hold a state dict",
        ),
    ],
)
def test_other_files_are_refused_in_a_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_weights(tmp_path / name)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no file of weights '.*none\.pth'"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(InputError, match=r"weights must be a file, but .* is a folder"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "must hold a state dict, names and tensors, got list"),
        ({"epoch": 3, "loss": 0.5}, r"got dict with 'epoch', 'loss'"),
        ({"state_dict": {}}, "must hold a state dict, names and tensors, got dict"),
        (collections.OrderedDict(), "must hold a state dict"),
    ],
)
def test_what_is_no_state_dict_is_described(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_weights(put(content, tmp_path / "w.pth"))


def test_a_file_whose_name_has_a_hash_must_have_it(tmp_path):
    (tmp_path / "net-00000000.pth").write_bytes(b"weights")
    with pytest.raises(ModelError, match="its SHA-256 must begin with 00000000, but is 9"):
        check_name_hash(tmp_path / "net-00000000.pth")
    (tmp_path / "net.pth").write_bytes(b"weights")
    check_name_hash(tmp_path / "net.pth")
