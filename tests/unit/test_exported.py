"""Programs of torch.export: what they are asked, and archives that would run code."""

import io
import json
import pickle
import zipfile
from contextlib import suppress

import pytest
import torch
from torch import nn

import counterpoint as cp
from counterpoint.errors import InputError, ModelError
from counterpoint.layers import layer_names
from counterpoint.models import load_model
from counterpoint.models.exported_archive import _check_size

FACTS = {"mean": 0.5, "std": 0.25}


class Net(nn.Module):
    """Convolution, norm, dropout and a head, in two blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(self.drop(self.pool(self.body(x)).flatten(1)))


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net().eval()


BATCH = ({0: torch.export.Dim.DYNAMIC},)


def export(path, network, shape=(2, 3, 8, 8), facts=FACTS, shapes=BATCH):
    """Save a network, with how photographs are prepared in the archive."""
    program = torch.export.export(network, (torch.rand(shape),), dynamic_shapes=shapes)
    extra = {} if facts is None else {"counterpoint.json": json.dumps(facts)}
    torch.export.save(program, path, extra_files=extra)
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return export(tmp_path_factory.mktemp("exported") / "net.pt2", net())


# what is read


def test_a_program_computes_what_the_network_did_in_batches_of_any_size(archive):
    classifier = load_model(str(archive))
    for batch in (1, 2, 5):
        pixels = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(batch))
        with torch.no_grad():
            torch.testing.assert_close(
                classifier.module(pixels), net()((pixels - 0.5) / 0.25), rtol=0, atol=0
            )
    assert (classifier.name, classifier.weights) == ("net.pt2", "net.pt2")
    assert classifier.preprocessing.size == (8, 8)


def test_its_layers_have_the_names_that_they_had(archive):
    assert layer_names(load_model(str(archive)).module) == layer_names(net())


def test_it_can_be_explained_at_a_layer(archive):
    classifier, pixels = load_model(str(archive)), torch.rand(2, 3, 8, 8)
    plain = cp.Classifier(net(), mean=0.5, std=0.25, size=8)
    values = [
        cp.compare(cp.logit(each, 1), pixels, baseline=cp.baselines.Black(), layer="body")
        .explain(cp.methods.GradCAM())
        .values
        for each in (classifier, plain)
    ]
    torch.testing.assert_close(*values)


def test_photographs_are_prepared_as_the_file_beside_it_says(tmp_path):
    export(tmp_path / "net.pt2", net(), facts=None)
    facts = {
        "mean": [0.1, 0.2, 0.3],
        "std": [1, 1, 0.5],
        "crop": 0.5,
        "interpolation": "nearest",
        "labels": ["a", "b", "c"],
        "size": 8,
        "stretched": True,
    }
    (tmp_path / "net.json").write_text(json.dumps(facts))
    classifier = load_model(str(tmp_path / "net.pt2"))
    found = classifier.card()["preprocessing"]
    assert found == {
        "size": [8, 8],
        "mean": [0.1, 0.2, 0.3],
        "std": [1.0, 1.0, 0.5],
        "crop": 0.5,
        "interpolation": "nearest",
        "stretched": True,
    }
    assert classifier.labels == ("a", "b", "c")


def test_a_program_for_images_of_any_size_needs_one(tmp_path):
    any_size = ({axis: torch.export.Dim.DYNAMIC for axis in (0, 2, 3)},)
    file = str(export(tmp_path / "net.pt2", net(), shapes=any_size))
    with pytest.raises(InputError, match="lacks size: the program takes images of any"):
        load_model(file)
    file = str(export(tmp_path / "net.pt2", net(), facts={**FACTS, "size": [6, 10]}, shapes=any_size))
    assert load_model(file).module(torch.rand(3, 3, 6, 10)).shape == (3, 3)


def test_an_output_of_several_parts_is_picked_from(tmp_path):
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x):
            return {"features": x.mean((2, 3)), "logits": self.net(x)}

    file = export(tmp_path / "net.pt2", Two().eval(), facts={**FACTS, "output": "logits"})
    pixels = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(
            load_model(str(file)).module(pixels), net()((pixels - 0.5) / 0.25), rtol=0, atol=0
        )


# what is said


def test_a_program_alone_is_answered_with_what_to_write_and_that_works(tmp_path):
    file = export(tmp_path / "net.pt2", net(), facts=None)
    with pytest.raises(InputError, match=r"Write '.*net\.json' beside it, such as \{") as raised:
        load_model(str(file))
    message = str(raised.value)
    text = message[message.index("{") : message.index("}") + 1]
    (tmp_path / "net.json").write_text(text)
    assert load_model(str(file)).labels == ("cat", "dog")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"mean": 0.5}, r"counterpoint\.json in '.*net\.pt2' lacks std, in units of pixels"),
        ({**FACTS, "mena": 0.5}, "has 'mena', which is not known; did you mean 'mean'"),
        ({**FACTS, "size": 9}, "has size 9, but the program was exported for 8 x 8"),
        ({"mean": 120, "std": 60}, "mean must be in units of pixels in .0, 1."),
        ({**FACTS, "interpolation": "cubic"}, "interpolation must be one of"),
        ([1, 2], "must be a JSON object, got list"),
    ],
)
def test_what_is_wrong_with_its_facts_is_said(tmp_path, facts, message):
    with pytest.raises(InputError, match=message):
        load_model(str(export(tmp_path / "net.pt2", net(), facts=facts)))


def test_facts_that_are_no_json_are_refused(tmp_path):
    export(tmp_path / "net.pt2", net(), facts=None)
    (tmp_path / "net.json").write_text("mean = 0.5")
    with pytest.raises(InputError, match=r"'.*net\.json' is no JSON"):
        load_model(str(tmp_path / "net.pt2"))


def test_a_program_for_batches_of_one_size_is_told_how_to_be_exported(tmp_path):
    file = export(tmp_path / "net.pt2", net(), shapes=None)
    with pytest.raises(ModelError, match=r"for batches of exactly 2\. Export it again with dynamic_shapes="):
        load_model(str(file))


def test_a_program_in_training_mode_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"exported in training mode \(torch\.ops\.aten\.\w+"):
        load_model(str(export(tmp_path / "net.pt2", net().train())))


def test_images_of_another_size_are_answered_in_words(archive):
    with pytest.raises(ModelError, match=r"was exported for inputs \('any', 3, 8, 8\), got \(2, 3, 9, 8\)"):
        load_model(str(archive)).module(torch.rand(2, 3, 9, 8))


def test_a_program_of_two_inputs_is_refused(tmp_path):
    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    program = torch.export.export(Two(), (torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)))
    torch.export.save(program, tmp_path / "net.pt2")
    with pytest.raises(ModelError, match="must take one tensor, but takes 2 inputs"):
        load_model(str(tmp_path / "net.pt2"))


# archives that would run code


def rewritten(archive, tmp_path, change):
    """A copy of an archive, its files changed by name."""
    with zipfile.ZipFile(archive) as opened:
        files = {name.split("/", 1)[1]: opened.read(name) for name in opened.namelist()}
    change(files)
    copy = tmp_path / "changed.pt2"
    with zipfile.ZipFile(copy, "w") as written:
        for name, content in files.items():
            written.writestr(f"changed/{name}", content)
    return str(copy)


class Hostile:
    """Pickled, it is a call of a function."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        import os

        return os.mkdir, (self.path,)


def pickled(path) -> bytes:
    stream = io.BytesIO()
    torch.save(Hostile(path), stream)
    return stream.getvalue()


def in_json(name, change):
    def apply(files):
        data = json.loads(files[name])
        change(data)
        files[name] = json.dumps(data).encode()

    return apply


GRAPH = "models/model.json"
WEIGHTS, CONSTANTS = (f"data/{kind}/model_{kind}_config.json" for kind in ("weights", "constants"))


def test_a_copy_that_is_not_changed_loads(archive, tmp_path):
    assert load_model(rewritten(archive, tmp_path, lambda files: None)).name == "changed.pt2"


def test_a_pickled_weight_is_refused_and_not_run(archive, tmp_path):
    def change(files):
        in_json(WEIGHTS, lambda d: d["config"]["fc.weight"].update(use_pickle=True))(files)
        path = json.loads(files[WEIGHTS])["config"]["fc.weight"]["path_name"]
        files[f"data/weights/{path}"] = pickled(tmp_path / "ran")

    copy = rewritten(archive, tmp_path, change)
    with pytest.raises(InputError, match=r"'fc\.weight' is pickled, which loading would run as code"):
        load_model(copy)
    assert not (tmp_path / "ran").exists()
    with suppress(
        Exception
    ):  # so it is: torch itself runs it, and only then finds fault with what came of it
        torch.export.load(copy)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("prefix", ["custom_obj_0", "opaque_obj_0"])
def test_pickled_objects_are_refused(archive, tmp_path, prefix):
    def change(files):
        entry = {"path_name": prefix, "is_param": False, "use_pickle": True, "tensor_meta": None}
        in_json(CONSTANTS, lambda d: d["config"].update(x=entry))(files)
        files[f"data/constants/{prefix}"] = pickle.dumps(Hostile(tmp_path / "ran"))

    with pytest.raises(InputError, match="'x' is pickled"):
        load_model(rewritten(archive, tmp_path, change))
    assert not (tmp_path / "ran").exists()


def test_example_inputs_are_left_out_as_they_are_a_pickle(archive, tmp_path):
    def change(files):
        files["data/sample_inputs/model.pt"] = pickled(tmp_path / "ran")

    load_model(rewritten(archive, tmp_path, change))
    assert not (tmp_path / "ran").exists()


def test_guards_are_left_out_as_they_are_compiled(archive, tmp_path):
    code = f"__import__('os').mkdir({str(tmp_path / 'ran')!r})"
    copy = rewritten(archive, tmp_path, in_json(GRAPH, lambda d: d.update(guards_code=[code])))
    load_model(copy).module(torch.rand(2, 3, 8, 8))
    assert not (tmp_path / "ran").exists()


def test_a_size_that_is_code_is_refused_and_not_evaluated(archive, tmp_path):
    def change(data):
        for value in data["graph_module"]["graph"]["tensor_values"].values():
            for side in value["sizes"]:
                if "as_expr" in side:
                    side["as_expr"]["expr_str"] = f"__import__('os').mkdir({str(tmp_path / 'ran')!r})"

    with pytest.raises(InputError, match=r"has a size .* which is no arithmetic of sizes"):
        load_model(rewritten(archive, tmp_path, in_json(GRAPH, change)))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "text",
    [
        "3",
        "s77 + 1",
        "Symbol('s77', positive=True, integer=True)",
        "Mul(Integer(64), Symbol('s77', positive=True, integer=True))",
        "Max(1, s0//2) - (s1*u3)",
    ],
)
def test_sizes_that_are_arithmetic_are_accepted(text):
    _check_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "().__class__",
        "s0.real",
        "s0[0]",
        "eval('1')",
        "open('x')",
        "Symbol('s0; x')",
        "(lambda: 1)()",
        "[s0 for s0 in (1,)]",
        "f'{s0}'",
        "exec",
        "s0; s1",
        "1 if s0 else 2",
        "Symbol(*s0)",
        "(s0 := 1)",
        3,
        None,
    ],
)
def test_sizes_that_are_anything_else_are_refused(text):
    with pytest.raises(InputError, match="no arithmetic of sizes"):
        _check_size(text)


@pytest.mark.parametrize(
    "target",
    [
        "torch.hub.load",
        "_operator.methodcaller",
        "torch.ops.aten.from_file.default",
        "torch.ops.mine.run.default",
        "os.system",
    ],
)
def test_operators_that_are_not_torchs_own_are_refused(archive, tmp_path, target):
    change = in_json(GRAPH, lambda d: d["graph_module"]["graph"]["nodes"][0].update(target=target))
    with pytest.raises(InputError, match=rf"its graph asks for '{target}'"):
        load_model(rewritten(archive, tmp_path, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update({"data/aotinductor/model/x.so": b""}), "it holds compiled code"),
        (lambda f: f.update({"models/other.json": b"{}"}), "it holds several models"),
        (
            lambda f: f.update({"data/weights/model.pt": b""}),
            "its weights are pickled, as torch before 2.8 did",
        ),
        (lambda f: f.pop(GRAPH), "of a torch before 2.8"),
        (lambda f: f.update({GRAPH: b"{}"}), "is damaged"),
        (lambda f: f.update({GRAPH: b"no json"}), "is damaged"),
        (lambda f: f.update({"constants.pkl": b""}), "is a TorchScript archive"),
    ],
)
def test_other_archives_are_refused(archive, tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        load_model(rewritten(archive, tmp_path, change))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(archive, tmp_path):
    copy = rewritten(archive, tmp_path, lambda files: None)
    with zipfile.ZipFile(copy, "a") as opened:
        opened.writestr(f"changed/{GRAPH}", b"{}")
    with pytest.raises(InputError, match="two files of one name"):
        load_model(copy)


def test_a_weight_that_is_cut_short_is_refused(archive, tmp_path):
    def change(files):
        files["data/weights/weight_0"] = files["data/weights/weight_0"][:8]

    with pytest.raises(ModelError, match=r"cannot be loaded by torch"):
        load_model(rewritten(archive, tmp_path, change))


@pytest.mark.parametrize(("name", "content"), [("none.pt2", None), ("x.pt2", b""), ("x.pt2", b"no archive")])
def test_what_is_no_archive_is_refused(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"no exported program|is no archive"):
        load_model(str(tmp_path / name))


def test_a_program_takes_no_other_weights(archive):
    for options in ({"weights": "w.pth"}, {"random_weights": True}):
        with pytest.raises(InputError, match="holds its own weights"):
            load_model(str(archive), **options)
