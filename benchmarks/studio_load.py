"""What the studio does when many people click at once.

    python benchmarks/studio_load.py [--users 20] [--seconds 60] [--warm-up 10] [--model shapes_resnet] [--images DIR]

It starts a studio of its own on a free port. Every user opens pages, asks questions of a small common set (many of them are the same),
waits for some of the answers, fetches their files, cancels now and then, and sends a photograph. Counted are requests, what was refused
with 503 (in words: that is right), errors (anything else), how many jobs there were, and the resident memory of the server and of its
worker, before and after the main part.
"""

import argparse
import asyncio
import contextlib
import io
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

METHODS = ("gradient", "grad_cam", "integrated_gradients", "gradient_times_input", "layer_cam")
BASELINES = ("black", "blur", "mean", "white")
PAGES = ("/", "/explain", "/compare", "/trust", "/static/studio.css", "/api/catalogue", "/api/photos")


@dataclass
class Counted:
    """What happened."""

    statuses: Counter[int] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    asked: int = 0
    keys: set[str] = field(default_factory=set)
    slowest: float = 0.0
    memory: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Process -> resident megabytes after the warm-up, and at the end."""

    @property
    def growth(self) -> int:
        """Of the resident memory of server and worker together, in megabytes."""
        return sum(after - before for before, after in self.memory.values())


@contextlib.contextmanager
def studio(model: str, images: str | None = None) -> Iterator[tuple[str, int]]:
    """Address and process of a studio that runs within the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "counterpoint",
        "studio",
        "--no-open",
        "--port",
        str(port),
        "--model",
        model,
    ]
    process = subprocess.Popen(
        [*command, *(["--images", images] if images else [])], stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(lambda: httpx.get(f"{address}/api/photos").status_code == 200)
        _wait(lambda: not httpx.get(f"{address}/api/catalogue").json()["loading"])
        yield address, process.pid
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()


def load(address: str, pid: int, *, users: int, seconds: float, warm_up: float, seed: int = 0) -> Counted:
    """Let so many users click for so long."""
    model = httpx.get(f"{address}/api/catalogue").json()["models"][0]["name"]
    photos = [photo["id"] for photo in httpx.get(f"{address}/api/photos").json()][:6]
    cells = [
        {"kind": "cell", "photo": photo, "model": model, "baseline": baseline, "method": method}
        for photo, baseline, method in itertools.product(photos, BASELINES, METHODS)
    ]
    asyncio.run(_clicks(address, cells, Counted(), users, warm_up, seed))
    before = memory_of(pid)
    counted = Counted()
    asyncio.run(_clicks(address, cells, counted, users, seconds, seed + 1))
    after = memory_of(pid)
    counted.memory = {name: (before[name], after.get(name, 0)) for name in before}
    return counted


async def _clicks(
    address: str, cells: list[dict[str, Any]], counted: Counted, users: int, seconds: float, seed: int
) -> None:
    end = time.monotonic() + seconds
    headers = {"Origin": address}
    async with httpx.AsyncClient(base_url=address, headers=headers, timeout=30) as client:
        await asyncio.gather(
            *(_user(client, cells, counted, end, random.Random(1000 * seed + user)) for user in range(users))
        )


async def _user(
    client: httpx.AsyncClient, cells: list[dict[str, Any]], counted: Counted, end: float, dice: random.Random
) -> None:
    while time.monotonic() < end:
        click = dice.random()
        if click < 0.3:
            await _asked(client, counted, "GET", dice.choice(PAGES))
        elif click < 0.4:
            photo = dice.choice(cells)["photo"]
            await _asked(client, counted, "GET", f"/photos/{photo}.png")
        elif click < 0.43:
            files = {"photo": ("mine.png", _photograph(dice.randrange(10)))}
            await _asked(client, counted, "POST", "/api/photos", files=files)
        else:
            await _explained(client, counted, dice, dice.choice(cells))
        await asyncio.sleep(dice.uniform(0, 0.2))


async def _explained(
    client: httpx.AsyncClient, counted: Counted, dice: random.Random, cell: dict[str, Any]
) -> None:
    """Ask, look now and then whether it is finished, and fetch what there is."""
    question = (
        cell
        if dice.random() < 0.9
        else {"kind": "curves", "cells": [cell], "baselines": ["black"], "steps": 5}
    )
    counted.asked += 1
    response = await _asked(client, counted, "POST", "/api/jobs", json=question)
    if response is None or response.status_code != 202:
        return
    key = response.json()["key"]
    counted.keys.add(key)
    for _ in range(dice.randrange(1, 20)):
        response = await _asked(client, counted, "GET", f"/api/jobs/{key}", gone=True)
        if response is None or response.status_code == 404:
            return
        job = response.json()
        if job["state"] == "failed":
            counted.errors.append(job["error"])
        if job["state"] == "done":
            for name in ("map.f32", "photo.png"):
                if question["kind"] == "cell":
                    await _asked(client, counted, "GET", f"/answers/{key}/{name}", gone=True)
            await _asked(client, counted, "GET", f"/api/answers/{key}", gone=True)
        if job["state"] in ("done", "failed", "cancelled"):
            return
        if dice.random() < 0.02:
            await _asked(client, counted, "POST", f"/api/jobs/{key}/cancel", gone=True)
        await asyncio.sleep(0.2)


async def _asked(
    client: httpx.AsyncClient, counted: Counted, method: str, path: str, *, gone: bool = False, **options: Any
) -> httpx.Response | None:
    """One request; what is neither right nor a full queue in words is an error."""
    began = time.monotonic()
    try:
        response = await client.request(method, path, **options)
    except httpx.HTTPError as error:
        counted.errors.append(f"{path}: {error!r}")
        return None
    counted.slowest = max(counted.slowest, time.monotonic() - began)
    counted.statuses[response.status_code] += 1
    full = response.status_code == 503 and "busy" in json.loads(response.text)["error"]
    if not (response.is_success or full or (gone and response.status_code == 404)):
        counted.errors.append(f"{method} {path}: {response.status_code} {response.text[:200]}")
    return response


def _photograph(number: int) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").rotate(number * 7).resize((400, 300)).convert("RGB").save(stream, "PNG")
    return stream.getvalue()


def memory_of(pid: int) -> dict[str, int]:
    """Resident megabytes of the server and of its worker; only Linux tells."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = {"server": _resident(pid)}
    for child in children:
        if (megabytes := _resident(int(child))) > found.get("worker", 0):
            found["worker"] = megabytes
    return found


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 2**20


def _wait(ready: Any, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            if ready():
                return
        time.sleep(0.1)
    raise TimeoutError("the studio does not answer.")


def main() -> None:
    """Load one, and print what happened."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warm-up", type=float, default=10)
    parser.add_argument("--model", default="shapes_resnet")
    parser.add_argument("--images")
    given = parser.parse_args()
    with studio(given.model, given.images) as (address, pid):
        counted = load(address, pid, users=given.users, seconds=given.seconds, warm_up=given.warm_up)
    print(f"requests by status: {dict(counted.statuses)}; slowest {counted.slowest:.2f} s")
    print(f"questions asked: {counted.asked}, different jobs: {len(counted.keys)}")
    print(f"errors: {len(counted.errors)}", *counted.errors[:10], sep="\n  ")
    for name, (before, after) in counted.memory.items():
        print(f"{name}: {before} MB after the warm-up, {after} MB at the end")


if __name__ == "__main__":
    main()
