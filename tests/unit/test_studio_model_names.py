"""Names of models that can be none are refused before anything is loaded, and without torch."""

import subprocess
import sys

import pytest

from counterpoint.errors import CounterpointError, InputError, MissingPackageError
from counterpoint.models import MODELS, SOURCES
from counterpoint.studio import model_names
from counterpoint.studio.model_names import check_models


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("raise RuntimeError('this runs nothing')")
    (tmp_path / "mine" / "nets.py").write_text("def small(): ...")
    (tmp_path / "flat.py").write_text("from mine.nets import *")
    (tmp_path / "program.pt2").write_bytes(b"")
    monkeypatch.chdir(tmp_path)


def test_every_name_that_may_be_a_models_is_let_through(here, monkeypatch):
    monkeypatch.setattr(model_names.PathFinder, "find_spec", _found(model_names.PathFinder.find_spec))
    check_models([*MODELS, *(f"{source}:anything" for source in SOURCES)])
    check_models(["mine.nets:small", "flat:anything", "program.pt2"])


def _found(real):
    packages = {source.package for source in SOURCES.values()}
    return lambda name, path=None: object() if name in packages and path is None else real(name, path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nosuch", "unknown model 'nosuch'"),
        ("resnet5", "did you mean 'resnet50'"),
        ("", "unknown model"),
        ("torchvision:", "names no network"),
        ("gone.pt2", "there is no file 'gone.pt2'"),
        ("weights.pth", "unknown model"),
        ("nowhere:net", "no module 'nowhere'"),
        ("mine.nowhere:net", "no module 'mine.nowhere'"),
        ("mine.nets.deeper:net", "no module 'mine.nets.deeper'"),
        ("mine.nets:large", "has no function 'large'"),
        ("mine/nets.py:small", "package.module:function"),
        ("mine.nets:", "package.module:function"),
    ],
)
def test_what_can_be_no_model_is_refused_in_one_sentence(here, name, words):
    with pytest.raises(InputError) as refused:
        check_models(["shapes_resnet", name])
    assert words in str(refused.value)


def test_a_library_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(model_names.PathFinder, "find_spec", lambda name, path=None: None)
    with pytest.raises(MissingPackageError, match=r"counterpoint\[huggingface\]"):
        check_models(["hf:some/network"])


def test_names_are_checked_without_torch():
    code = "import sys; from counterpoint.studio.model_names import check_models; check_models(['resnet50']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
    assert issubclass(MissingPackageError, CounterpointError)
