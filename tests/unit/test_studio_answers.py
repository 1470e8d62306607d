"""What the studio's worker answers: the same numbers as the library's, and code that makes them again."""

import contextlib
import io
import json
import math
import shlex
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("pydantic", reason="the studio's packages are not installed")

import counterpoint as cp
from bench_folders import write_folder
from counterpoint.cli import app
from counterpoint.data.photographs import sample_path
from counterpoint.metrics.curves import curves as curve_table
from counterpoint.models.cache import cached_weights
from counterpoint.report.sheet import sheet_of
from counterpoint.studio import code
from counterpoint.studio.answers import Answers
from counterpoint.studio.jobs import Jobs, Sent, Task
from counterpoint.studio.questions import (
    Cell,
    Curves,
    Deviation,
    Layers,
    Preview,
    Results,
    Sanity,
    Top,
    Verdict,
)
from counterpoint.studio.saving import zipped
from counterpoint.studio.studio import concluded, write_answer
from counterpoint.studio.worker.beginning import Beginning
from counterpoint.studio.worker.offering import catalogue_of
from counterpoint.studio.worker.running import _worked
from counterpoint.studio.worker.workshop import Workshop

MODEL = "shapes_resnet"
PHOTO = "sample-coffee"
NAMED = {PHOTO: "sample:coffee"}


class Here:
    """Jobs that are worked on in this process, at once."""

    def __init__(self, folder, **known) -> None:
        self.answers = Answers(100_000_000, folder / "example")
        self.said: list = []
        self.cancelled = SimpleNamespace(value=0)
        usual = {"models": (MODEL,), "baselines": (), "device": "cpu", "results": None, "bank": ()}
        self.workshop = Workshop(Beginning(**{**usual, **known}, folder=self.answers.folder))
        self.jobs = Jobs(
            answers=self.answers,
            most=50,
            doing=self,
            settle=lambda question: (
                f"{hash(question):x}",
                {PHOTO: Sent(str(sample_path("coffee")), "coffee.png")},
            ),
            conclude=concluded,
            write=write_answer,
        )
        self.jobs.ready()
        self.tasks: list[Task] = []

    def begin(self, task) -> None:
        self.tasks.append(task)

    def cancel(self, serial) -> None:
        self.cancelled.value = serial

    def send(self, message) -> None:
        self.said.append(message)

    def ask(self, question):
        """Its finished job."""
        key = self.jobs.ask(question).key
        while self.tasks:
            task = self.tasks.pop()
            message = _worked(self.workshop, task, self, self.cancelled)
            match type(message).__name__:
                case "Done":
                    self.jobs.done(message.serial, message.folder)
                case "Failed":
                    self.jobs.failed(message.serial, message.words)
                case "Stopped":
                    self.jobs.stopped(message.serial)
        return self.jobs.job(key)

    def answer(self, question):
        job = self.ask(question)
        assert job.state == "done", job.error
        return self.answers.answer(job.key)

    def file(self, question, name) -> bytes:
        content = self.answers.file(self.ask(question).key, name)
        assert content is not None
        return content


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    here = Here(tmp_path_factory.mktemp("studio"))
    yield here
    here.answers.close()


@pytest.fixture(scope="module")
def names(here):
    catalogue = catalogue_of(here.workshop)
    layered = frozenset(choice.name for choice in catalogue.methods if choice.level == "layer")
    return code.Names(catalogue.python_names, layered)


@pytest.fixture(scope="module")
def images():
    return cp.load_model(MODEL).preprocess([sample_path("coffee")])


def cell(**changes) -> Cell:
    usual = {"photo": PHOTO, "model": MODEL, "baseline": "blur:sigma=5", "method": "integrated_gradients"}
    return Cell(**{**usual, **changes})


IG = cell()
CAM = cell(method="grad_cam", score="probability", target=2)


def test_the_classes_are_the_models_own(here, images):
    answer = here.answer(Top(photo=PHOTO, model=MODEL))
    expected = cp.load_model(MODEL).top(images, k=5)[0]
    assert [each["index"] for each in answer["top"]] == [each.index for each in expected]
    assert [each["label"] for each in answer["top"]] == [each.label for each in expected]
    assert math.isclose(answer["top"][0]["probability"], expected[0].probability, rel_tol=1e-5)


def test_a_preview_shows_the_photograph_and_what_it_is_compared_with(here, images):
    question = Preview(photo=PHOTO, model=MODEL, baseline="blur:sigma=5")
    shown = np.asarray(Image.open(io.BytesIO(here.file(question, "baseline.png"))))
    expected = cp.baselines.Blur(sigma=5)(images)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(shown - expected).max() <= 0.51
    x = np.asarray(Image.open(io.BytesIO(here.file(question, "x.png"))))
    assert np.abs(x - images[0].permute(1, 2, 0).numpy() * 255).max() <= 0.51


def test_an_explanation_is_saved_under_the_name_that_its_photograph_was_sent_with(tmp_path):
    other = Here(tmp_path)
    sent = Sent(str(sample_path("coffee")), "my cup.jpg")
    other.jobs.settle = lambda question: (f"{hash(question):x}", {PHOTO: sent})
    question = cell(method="gradient")
    name, content = zipped(other.ask(question).key, other.answers)
    assert name == "my_cup.blur.gradient.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sorted(archive.namelist()) == ["my_cup.blur.gradient.safetensors", "my_cup.json", "my_cup.png"]
        assert json.loads(archive.read("my_cup.json"))["photograph"]["file"] == "my cup.jpg"
    other.answers.close()


def test_the_layers_are_those_of_the_command(here):
    answer = here.answer(Layers(model=MODEL))
    done = CliRunner().invoke(app, ["layers", MODEL, "--json"])
    listed = json.loads(done.stdout)
    rows = listed["layers"] if isinstance(listed, dict) else listed
    assert [each["name"] for each in answer["layers"]] == [each["name"] for each in rows]
    assert answer["default"] in {each["name"] for each in answer["layers"]}


@pytest.mark.parametrize("question", [IG, CAM, cell(method="gradient"), cell(layer="input", target=1)])
def test_an_explanation_has_the_librarys_numbers(here, images, question):
    answer = here.answer(question)
    classifier = cp.load_model(MODEL)
    score = getattr(cp, question.score)(classifier, question.target)
    method = cp.spec.build("method", question.method)
    comparison = cp.compare(score, images, baseline=cp.baselines.Blur(sigma=5), layer=answer["layer"])
    attribution = comparison.explain(method)
    for name in ("score", "baseline_score", "target", "result"):
        assert math.isclose(answer[name], float(getattr(attribution, name)), rel_tol=1e-5, abs_tol=1e-6), name
    expected = attribution.heatmap()[0]
    heat = np.frombuffer(here.file(question, "map.f32"), "<f4").reshape(answer["image_size"])
    torch.testing.assert_close(torch.from_numpy(heat.copy()), expected, rtol=1e-4, atol=1e-7)
    if answer["claim"] == "shares":
        assert math.isclose(sum(answer["budget"].values()), answer["error"], abs_tol=1e-5)
        assert answer["undefined"] is None or answer["relative_error"] is None
    else:
        assert answer["relative_error"] is None
        assert "shares" in answer["undefined"]
    assert answer["cancellation"] == pytest.approx(
        float(attribution.cancellation), rel=1e-4, nan_ok=True
    ) or (answer["claim"] != "shares" and answer["cancellation"] is None)
    assert (answer["value_error"] is None) == math.isnan(float(attribution.value_error))
    assert answer["sentence"]


@pytest.mark.parametrize("question", [IG, cell(method="gradient"), cell(method="grad_cam")])
def test_the_colour_scale_ends_where_that_of_the_saved_figure_does(here, images, question):
    answer = here.answer(question)
    comparison = cp.compare(
        cp.logit(cp.load_model(MODEL)), images, baseline=cp.baselines.Blur(sigma=5), layer=answer["layer"]
    )
    attribution = comparison.explain(cp.spec.build("method", question.method))
    row = sheet_of([attribution], images, 0, "", "", None).rows[0]
    factor = 100.0 if answer["claim"] == "shares" else 1.0
    end = factor * answer["vmax_smoothed" if answer["layer"] == "input" else "vmax"]
    # The page rounds up to two digits, as the figure does.
    assert end <= row.limit * 1.0001
    assert row.limit < 1.1001 * end
    assert rounded_up(end) == pytest.approx(row.limit)


def rounded_up(value: float) -> float:
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return math.ceil(value / unit - 1e-9) * unit


def test_what_is_saved_is_what_the_command_writes(here, tmp_path):
    question = cell(method="grad_cam")
    line = code.command_of(question, NAMED, given=code.Given())
    done = CliRunner().invoke(app, [*line.split()[1:], "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    name, content = zipped(here.ask(question).key, here.answers)
    assert name.endswith(".zip")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(tmp_path / "saved")
    ours, theirs = (json.loads((tmp_path / place / "coffee.json").read_text()) for place in ("saved", "out"))
    for each in (*ours["explanations"], *theirs["explanations"]):
        assert (tmp_path / "saved" / each.pop("values_file")).exists() or each is not ours["explanations"][0]
    assert ours == theirs
    saved = cp.load_attribution(next((tmp_path / "saved").glob("*.safetensors")))
    written = cp.load_attribution(next((tmp_path / "out").glob("*.safetensors")))
    torch.testing.assert_close(saved.values, written.values)
    assert (tmp_path / "saved" / ours["figure_file"]).read_bytes()[:4] == b"\x89PNG"


def test_curves_are_the_librarys_and_their_pictures_are_what_was_scored(here, images):
    question = Curves(cells=(IG, cell(method="gradient")), baselines=("black", "road"), steps=4)
    answer = here.answer(question)
    maps = {
        name: torch.from_numpy(np.frombuffer(here.file(each, "map.f32"), "<f4").reshape(1, 64, 64).copy())
        for name, each in zip("ab", question.cells, strict=True)
    }
    classifier = cp.load_model(MODEL)
    score = cp.logit(classifier, "top1")
    table = curve_table(score, images, maps, [cp.baselines.Black(), cp.baselines.ROAD()], steps=4)
    assert len(answer["curves"]) == 8
    for line in answer["curves"]:
        curve = table.curve(
            line["kind"], baseline=table.baselines[line["baseline"]], saliency="ab"[line["cell"]]
        )
        np.testing.assert_allclose(line["scores"], curve.scores[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(line["fractions"], curve.fractions, atol=1e-6)
        assert line["out_of_distribution"] is None
        assert len(line["pictures"]) == len(line["scores"])
        for name, expected in zip(line["pictures"], line["scores"], strict=True):
            shown = np.asarray(Image.open(io.BytesIO(here.file(question, name)))).astype(np.float32) / 255
            pixels = torch.from_numpy(shown).permute(2, 0, 1)[None]
            again = score.bind(images)(pixels, torch.tensor([0])).detach().item()
            assert math.isclose(again, expected, abs_tol=0.15)  # pictures have 8 bits
    assert "20 photographs" in answer["no_bank"]
    assert answer["agreement"][0][0] == pytest.approx(1)
    assert answer["agreement"][0][1] == answer["agreement"][1][0]


def test_with_a_folder_of_photographs_curves_say_how_far_out_of_distribution_they_are(tmp_path):
    paths = []
    for k in range(20):
        noise = np.random.default_rng(k).integers(0, 255, (70, 70, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{k}.png")
        paths.append(str(tmp_path / f"{k}.png"))
    here = Here(tmp_path, bank=tuple(paths))
    answer = here.answer(Curves(cells=(cell(method="gradient"),), baselines=("black",), steps=3))
    assert answer["no_bank"] is None
    for line in answer["curves"]:
        far = line["out_of_distribution"]
        assert far["fractions"] == line["fractions"]
        assert len(far["excesses"]) == len(far["beyond_limit"]) == 4
        # The line that the page draws is where points begin to lie beyond 95 % of real photographs.
        assert [excess > far["limit"] for excess in far["excesses"]] == far["beyond_limit"]
    here.answers.close()


def test_deviation_is_told_for_each_activation_and_fraction_beside_random_masks(here, images):
    answer = here.answer(Deviation(cell=IG))
    heat = np.frombuffer(here.file(IG, "map.f32"), "<f4").reshape(1, 64, 64).copy()
    found = cp.metrics.activation_deviation(
        cp.logit(cp.load_model(MODEL)), images, torch.from_numpy(heat), baseline=cp.baselines.Blur(sigma=5)
    )
    assert answer["layers"] == list(found.layers)
    for kind in ("insertion", "deletion"):
        np.testing.assert_allclose(
            answer["kinds"][kind]["excess"], found.values("excess", kind)[0], rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            answer["kinds"][kind]["mean_floor"], found.mean("excess", kind, floor=True)[0], rtol=1e-4
        )


def test_the_check_with_random_weights_agrees_with_the_librarys_where_it_looks(here, images):
    answer = here.answer(Sanity(cell=CAM))
    inner = here.answer(CAM)
    baseline = cp.baselines.Blur(sigma=5)

    def explain(module, inputs):
        score = cp.probability(module, inner["index"])
        return cp.compare(score, inputs, baseline=baseline, layer=inner["layer"]).explain(
            cp.methods.GradCAM()
        )

    found = cp.metrics.randomised_weights(cp.load_model(MODEL), explain, images)
    assert answer["layers"] == len(found.layers)
    assert answer["steps"][-1]["randomised"] == answer["layers"]
    for step in answer["steps"]:
        k = step["randomised"] - 1
        assert step["layer"] == found.layers[k]
        expected = float(found.similarity.spearman[k, 0])
        assert step["spearman"] == pytest.approx(expected, abs=1e-4) or math.isnan(expected)


def test_a_verdict_has_a_reason_for_each_check(here):
    answer = here.answer(Verdict(cell=IG, baselines=("black",), steps=4))
    assert [reason["check"] for reason in answer["reasons"]] == ["error", "curves", "pathway", "weights"]
    assert answer["standing"] in ("good", "doubtful", "bad", "unknown")


def test_a_saved_attribution_is_shown_with_its_numbers(here, tmp_path):
    file = tmp_path / "mine.safetensors"
    file.write_bytes(here.file(IG, "attribution.safetensors"))
    other = Here(tmp_path, results=str(file))
    answer = other.answer(Results())
    assert answer["what"] == "attribution"
    assert answer["target"] == here.answer(IG)["target"]
    assert other.file(Results(), "map.f32") == here.file(IG, "map.f32")
    other.answers.close()


def test_a_benchmark_is_shown_with_its_findings_and_its_whole_report(tmp_path):
    here = Here(tmp_path, results=str(write_folder(tmp_path / "bench")))
    answer = here.answer(Results())
    assert answer["what"] == "benchmark"
    assert answer["findings"][0]["headline"]
    assert b"<!DOCTYPE html>" in here.file(Results(), "report.html")
    here.answers.close()


@pytest.mark.parametrize(
    ("question", "word"),
    [
        (cell(baseline="blurr"), "did you mean 'blur'"),
        (cell(method="grad_camm"), "did you mean 'grad_cam'"),
        (cell(method="grad_cam", layer="nope"), "unknown layer"),
        (cell(target=99), "from 0 to 7"),
        (cell(baseline="road"), "fill"),
        (cell(baseline="blur:sigma=-1"), "sigma"),
    ],
)
def test_what_cannot_be_answered_fails_with_the_librarys_words(here, question, word):
    job = here.ask(question)
    assert job.state == "failed"
    assert word in job.error
    assert "Traceback" not in job.error


def test_a_cancelled_task_stops_and_leaves_no_files(tmp_path):
    here = Here(tmp_path)
    here.cancelled.value = 1
    job = here.ask(IG)
    assert job.state == "cancelled"
    assert not list(here.answers.folder.glob("task-*"))
    here.answers.close()


def test_the_catalogue_lists_every_method_and_baseline(names, here):
    catalogue = catalogue_of(here.workshop)
    assert [each.name for each in catalogue.methods] == list(cp.methods.METHODS)
    assert [each.name for each in catalogue.baselines] == list(cp.baselines.BASELINES)
    assert {each.name for each in catalogue.baselines if each.fill_only} >= {"road", "neighbour_mean"}
    assert not next(each for each in catalogue.baselines if each.name == "learned").available
    assert catalogue.labels(MODEL) == cp.load_model(MODEL).labels
    assert set(names.python) >= {"blur", "grad_cam", "gauss_legendre", "superpixels"}
    json.dumps(catalogue.as_dict(), allow_nan=False)


def test_the_catalogue_says_what_baselines_given_at_the_start_are_for(tmp_path):
    here = Here(tmp_path, baselines=("seamless:blur", "uniform:draws=3", "learned:file=nowhere.safetensors"))
    fill, noise, gone = catalogue_of(here.workshop).baselines[-3:]
    assert (fill.name, fill.text, fill.fill_only, fill.draws) == ("seamless", "seamless:blur", True, 1)
    assert (noise.fill_only, noise.draws) == (False, 3)
    assert gone.available
    job = here.ask(cell(baseline=gone.text))
    assert "nowhere.safetensors' cannot be read as a learned baseline" in job.error
    here.answers.close()


@pytest.mark.parametrize(("name", "word"), [("nowhere:nothing", "nowhere"), ("mtcnn", "detector")])
def test_a_model_that_cannot_be_loaded_says_why(tmp_path, name, word):
    if name == "mtcnn" and not cached_weights("mtcnn").is_file():
        pytest.skip("run `counterpoint models fetch mtcnn` to run this test")
    here = Here(tmp_path, models=(MODEL, name))
    model = catalogue_of(here.workshop).model(name)
    assert word in model.error
    here.answers.close()


def run(text: str, folder) -> tuple[dict, str]:
    """What a script leaves behind, and what it prints."""
    printed, left = io.StringIO(), {"__name__": "script"}
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        exec(compile(text, "script", "exec"), left)
    return left, printed.getvalue()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "question", [IG, CAM, cell(method="integrated_gradients:rule=gauss_legendre(8)", target=1)]
)
def test_the_python_of_an_explanation_makes_it_again(here, names, tmp_path, question, known):
    text = code.python_of(question, NAMED, names=names if known else code.Names(), given=code.Given())
    assert ("spec.build" in text) is not known
    left, _ = run(text, tmp_path)
    answer = here.answer(question)
    assert float(left["attribution"].result) == pytest.approx(answer["result"], rel=1e-5)
    assert left["attribution"].layer == answer["layer"]
    assert cp.load_attribution(tmp_path / "attribution.safetensors").layer == answer["layer"]


@pytest.mark.parametrize(
    ("question", "word"),
    [
        (Top(photo=PHOTO, model=MODEL), "0."),
        (Preview(photo=PHOTO, model=MODEL, baseline="constant:(0.1,0.2,0.3)"), "64"),
        (Layers(model=MODEL), "Conv2d"),
        (Curves(cells=(IG, cell(method="gradient")), baselines=("black", "blur"), steps=4), "deletion"),
        (Deviation(cell=CAM), "insertion"),
        (Sanity(cell=CAM), "block1"),
        (Verdict(cell=CAM, baselines=("black",), steps=4), "curves"),
    ],
)
def test_the_python_of_every_other_view_runs(names, tmp_path, question, word):
    _, printed = run(code.python_of(question, NAMED, names=names, given=code.Given()), tmp_path)
    assert word in printed


def test_the_python_of_results_runs(here, names, tmp_path):
    folder = write_folder(tmp_path / "bench")
    run(code.python_of(Results(), {}, names=names, given=code.Given(results=str(folder))), tmp_path)
    assert (folder / "report.html").exists()
    file = tmp_path / "mine.safetensors"
    file.write_bytes(here.file(IG, "attribution.safetensors"))
    _, printed = run(
        code.python_of(Results(), {}, names=names, given=code.Given(results=str(file))), tmp_path
    )
    assert "tensor" in printed


def test_the_command_states_what_is_unusual_and_quotes_it():
    usual = code.command_of(IG, NAMED, given=code.Given())
    assert (
        usual
        == f"counterpoint explain sample:coffee --model {MODEL} --baseline blur:sigma=5 --method integrated_gradients"
    )
    line = code.command_of(
        cell(target=3, score="log_odds", layer="layers.2", baseline="constant:(0.1,0.2,0.3)"),
        {PHOTO: "my cat's.jpg"},
        given=code.Given(),
    )
    assert "'my cat'\"'\"'s.jpg'" in line
    assert "--target 3 --score log_odds --baseline 'constant:(0.1,0.2,0.3)'" in line
    assert line.endswith("--layer layers.2")
    assert code.command_of(Layers(model=MODEL), {}, given=code.Given()) == f"counterpoint layers {MODEL}"


def test_a_grid_of_maps_has_a_command_and_any_other_choice_has_none():
    cells = [
        cell(method=method, baseline=baseline)
        for method in ("gradient", "grad_cam")
        for baseline in ("black", "blur")
    ]
    line = code.command_of(Curves(cells=cells, baselines=("mean",), steps=4), NAMED, given=code.Given())
    assert line.endswith(
        "--baseline black --baseline blur --method gradient --method grad_cam --check curves --judge mean --steps 4"
    )
    for some in (cells[:3], [cells[0], cells[2].model_copy(update={"layer": "layers.2"})]):
        assert code.command_of(Curves(cells=some, baselines=("mean",)), NAMED, given=code.Given()) is None


def test_a_folder_of_photographs_is_the_commands_bank():
    line = code.command_of(Verdict(cell=IG), NAMED, given=code.Given(bank="my photos"))
    assert line.endswith("--bank 'my photos'")
    text = code.python_of(Verdict(cell=IG), NAMED, names=code.Names(), given=code.Given(bank="my photos"))
    assert 'reference_of(find_photographs(["my photos"]))' in text
    compile(text, "script", "exec")


@pytest.mark.parametrize(
    "question",
    [Verdict(cell=CAM, baselines=("black", "mean"), steps=4), Deviation(cell=IG), Sanity(cell=CAM)],
)
def test_the_command_of_a_check_finds_the_same(here, tmp_path, question):
    line = code.command_of(question, NAMED, given=code.Given())
    done = CliRunner().invoke(app, [*shlex.split(line)[1:], "--out", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    found, answer = json.loads(done.stdout)["results"][0], here.answer(question)
    if question.kind == "verdict":
        for ours, theirs in zip(found["verdict"]["reasons"], answer["reasons"], strict=True):
            assert (ours["check"], ours["standing"], ours["words"]) == (
                theirs["check"],
                theirs["standing"],
                theirs["words"],
            )
            assert ours["value"] == pytest.approx(theirs["value"], rel=1e-5)
    else:
        name = {"deviation": "pathway", "sanity": "weights"}[question.kind]
        numbers = {
            "pathway": lambda facts: facts["kinds"]["deletion"]["mean"],
            "weights": lambda facts: facts["steps"][-1]["spearman"],
        }
        assert numbers[name](found["checks"][name]) == pytest.approx(numbers[name](answer), rel=1e-5)


def test_maps_are_called_by_what_they_are_in_the_python(names):
    cells = (IG, cell(method="gradient"), cell(method="gradient", layer="layers.2"))
    text = code.python_of(
        Curves(cells=cells, baselines=("mean",), steps=4), NAMED, names=names, given=code.Given()
    )
    for name in (
        "integrated_gradients against blur:sigma=5",
        "gradient against blur:sigma=5",
        "gradient at layers.2 against blur:sigma=5",
    ):
        assert f'maps["{name}"] = ' in text


def test_no_text_can_break_out_of_the_python():
    hostile = cell(baseline='black"); import os; os.system("')
    text = code.python_of(hostile, {PHOTO: 'a"b\\c.jpg'}, names=code.Names(), given=code.Given())
    compile(text, "script", "exec")
    assert 'os.system(\\"' in text
