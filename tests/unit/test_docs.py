"""The docs name everything that is public, and their numbers are printed by scripts."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

import counterpoint as cp
from counterpoint.baselines import BASELINES
from counterpoint.methods import METHODS
from counterpoint.quadrature import RULES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ALL = "\n".join(page.read_text() for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("name", [name for name in cp.__all__ if name != "__version__"])
def test_every_public_name_is_in_the_docs(name):
    assert re.search(rf"\bcp\.{name}\b", ALL)


@pytest.mark.parametrize("name", [*METHODS, *BASELINES])
def test_every_method_and_baseline_has_a_row(name):
    page = (ROOT / "docs" / ("methods.md" if name in METHODS else "baselines.md")).read_text()
    assert re.search(rf"^\| .*`{name}[`:]", page, re.MULTILINE)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_in_the_docs(name):
    assert "".join(part.capitalize() for part in name.split("_")) in ALL


def test_the_table_of_known_shares_is_what_the_example_prints():
    table = runpy.run_path(str(ROOT / "examples" / "known_shares.py"))["table"]()
    assert table in (ROOT / "docs" / "methods.md").read_text()


def test_the_readmes_example_runs(tmp_path, monkeypatch):
    from counterpoint.data.photographs import find_photographs

    (photograph,) = find_photographs(["sample:chelsea"])
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    monkeypatch.chdir(tmp_path)
    exec(code.replace('"cat.jpg"', f"{str(photograph)!r}"), {})
    assert {path.name for path in tmp_path.iterdir()} == {"cat.png", "cat.safetensors"}


def test_the_examples_of_the_page_on_models_run(tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "models.md").read_text(), re.DOTALL)
    assert len(blocks) == 5
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert names["classifier"].labels == ("cat", "dog")
    torch.save(names["build"]().network.state_dict(), "mine.pth")
    (tmp_path / "mine_of_the_page.py").write_text(blocks[-1])
    assert cp.load_model("mine_of_the_page:build", weights="mine.pth").name == "Sequential (mine.pth)"
    monkeypatch.delitem(sys.modules, "mine_of_the_page")


def examples_of_the_layers_page():
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "layers.md").read_text(), re.DOTALL)


@pytest.mark.slow
def test_the_tree_of_the_layers_page_is_printed(capsys):
    exec(examples_of_the_layers_page()[0], {})
    assert "blocks.10 (197, 192) tokens 1 + 14 x 14 yes" in capsys.readouterr().out


def test_the_joint_cut_of_the_layers_page_runs():
    found: dict = {}
    exec(examples_of_the_layers_page()[1], found)
    attribution = found["attribution"]
    assert (attribution.layer, attribution.cut) == ("fine+coarse", "replaced")
    assert attribution.values.shape == (1, 4 * 32 * 32 + 4 * 16 * 16)
    assert attribution.heatmap().shape == (1, 32, 32)
