"""`counterpoint studio` as it is started: it answers before torch is there, works, and leaves nothing behind."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
pytest.importorskip("starlette", reason="the studio's packages are not installed")

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

MODEL = "shapes_resnet"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Started:
    """The command, and how to ask it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.port = free_port()
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "counterpoint",
                "studio",
                "--no-open",
                "--port",
                str(self.port),
                *arguments,
            ],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(self.temporary)},
        )
        self.address = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.address, headers={"Origin": self.address}, timeout=30)
        self.waited_for(lambda: self.client.get("/api/photos").status_code == 200)

    def waited_for(self, ready, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                if found := ready():
                    return found
            assert self.process.poll() is None, self.process.stderr.read()
            time.sleep(0.1)
        raise TimeoutError

    def job(self, question):
        key = self.client.post("/api/jobs", json=question).json()["key"]

        def finished():
            job = self.client.get(f"/api/jobs/{key}").json()
            return job if job["state"] in ("done", "failed", "cancelled") else None

        return self.waited_for(finished)

    def workers(self) -> list[int]:
        return [
            int(each)
            for each in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]


@pytest.fixture
def start(tmp_path) -> Iterator:
    started = []

    def starting(*arguments):
        started.append(Started(tmp_path, *arguments))
        return started[-1]

    yield starting
    for each in started:
        each.client.close()
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait()
        each.process.stderr.close()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:  # one that nobody has waited for yet
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def are_gone(processes: list[int], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not all(gone(pid) for pid in processes):
        time.sleep(0.1)
    assert all(gone(pid) for pid in processes)


CELL = {"kind": "cell", "photo": "sample-chelsea", "model": MODEL, "baseline": "blur", "method": "grad_cam"}


def test_the_server_never_loads_torch():
    code = f"""
import sys
from starlette.testclient import TestClient
from counterpoint.studio.app import studio_app
from counterpoint.studio.settings import Settings
from counterpoint.studio.studio import Studio

studio = Studio(Settings(models=({MODEL!r},)))
client = TestClient(studio_app(studio), base_url="http://127.0.0.1:8000", headers={{"Origin": "http://127.0.0.1:8000"}})
for path in ("/", "/explain", "/compare", "/trust", "/results", "/api/catalogue", "/api/photos", "/photos/sample-chelsea.png"):
    assert client.get(path).status_code == 200, path
cell = {CELL!r}
assert client.post("/api/jobs", json=cell).status_code == 202
assert client.post("/api/jobs", json={{"kind": "verdict", "cell": cell}}).status_code == 202
studio.close()
print([name for name in ("torch", "matplotlib", "scipy", "skimage") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.slow
def test_a_studio_explains_cancels_and_leaves_nothing_behind(start):
    studio = start("--model", MODEL)
    assert studio.client.get("/").status_code == 200
    job = studio.job(CELL)
    assert job["state"] == "done"
    answer = studio.client.get(f"/api/answers/{job['key']}").json()
    assert answer["target"] == pytest.approx(answer["score"] - answer["baseline_score"], abs=1e-4)
    assert len(studio.client.get(f"/answers/{job['key']}/map.f32").content) == 4 * 64 * 64
    long = {**CELL, "method": "rise:masks=200000"}
    key = studio.client.post("/api/jobs", json=long).json()["key"]
    studio.waited_for(lambda: studio.client.get(f"/api/jobs/{key}").json()["progress"]["done"] > 0)
    began = time.monotonic()
    assert studio.client.post(f"/api/jobs/{key}/cancel").json()["state"] == "cancelled"
    assert studio.job({**CELL, "method": "gradient"})["state"] == "done"
    assert time.monotonic() - began < 15
    workers = studio.workers()
    assert list(studio.temporary.glob("counterpoint-studio-*"))
    studio.process.send_signal(signal.SIGINT)
    assert studio.process.wait(20) in (0, 130)
    assert list(studio.temporary.glob("counterpoint-studio-*")) == []
    are_gone(workers)


@pytest.mark.slow
@pytest.mark.parametrize("loaded", [True, False])
def test_where_the_server_is_killed_its_worker_and_files_go_too(start, loaded):
    studio = start("--model", MODEL)
    if loaded:
        studio.waited_for(lambda: not studio.client.get("/api/catalogue").json()["loading"])
    workers = studio.workers()
    studio.process.kill()
    studio.process.wait()
    are_gone(workers)
    assert list(studio.temporary.glob("counterpoint-studio-*")) == []


@pytest.mark.slow
def test_twenty_users_at_once_get_no_error(tmp_path):
    from studio_load import load, studio

    with studio(MODEL) as (address, pid):
        counted = load(address, pid, users=20, seconds=8, warm_up=6)
    assert counted.errors == []
    assert sum(counted.statuses.values()) > 50
    assert len(counted.keys) < counted.asked
    before, after = counted.memory["server"]
    assert after - before < 50


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "counterpoint", "studio", "--no-open", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--images", "nowhere"], "no file or folder 'nowhere'"),
        (["--results", "nowhere"], "'nowhere' does not exist"),
        (["--results", "."], "manifest.json"),
        (["--host", "203.0.113.7"], "--host must be a name or an address of this machine"),
        (["--host", "nosuch.invalid"], "--host must be a name or an address of this machine"),
        (["--model", "nosuch"], "unknown model 'nosuch'"),
        (["--model", "nowhere:net"], "no module 'nowhere'"),
    ],
)
def test_what_cannot_be_served_is_one_line(tmp_path, arguments, words):
    done = run("--port", str(free_port()), *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_port_that_is_taken_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("--port", str(taken.getsockname()[1]))
    assert done.returncode == 2
    assert "choose another --port" in done.stderr
    assert json.dumps(done.stdout) == '""'
