"""What long benchmarks share: photographs kept apart, results kept in files, tables with paired intervals."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from counterpoint.baselines.learning import TradeOffRecipe
from counterpoint.classifier import Classifier
from counterpoint.data.photographs import find_photographs
from counterpoint.files import whole_file
from counterpoint.learning import split
from counterpoint.protocols import Baseline
from photographs import folder

RESAMPLES = 2000
JUDGE: dict[str, Any] = {"start": "local_mean", "selectivity": 3, "steps": 16}
"""What makes `learned_per_image`, pasted in, a judge of maps: docs/learned-baseline.md, for metrics."""


def held_out(count: int) -> list[Path]:
    """Photographs that no learned baseline of `counterpoint baseline learn` saw, with its usual seed; at most 40."""
    paths = find_photographs([str(folder())])
    _, places = split(len(paths), TradeOffRecipe.least_images, 0, 40, None)
    return [paths[k] for k in places[:count]]


def confident(classifier: Classifier, paths: Sequence[Path], least: float = 0.1) -> tuple[list[Path], Tensor]:
    """The photographs whose top class has at least this probability, and their pixels; the others are named."""
    images = classifier.preprocess(list(paths))
    with torch.no_grad():
        p = torch.cat([classifier.module(part).softmax(1).amax(1) for part in images.split(8)])
    for path, low in zip(paths, p.tolist(), strict=True):
        if low < least:
            print(f"left out: {path.stem}, whose top class has p = {low:.2f}", flush=True)
    chosen = [k for k, high in enumerate((p >= least).tolist()) if high]
    return [paths[k] for k in chosen], images[chosen]


@dataclass(frozen=True)
class Pictures(Baseline):
    """One picture for each of some images, made beforehand: every judge sees the same."""

    sha256: str
    images: Tensor = field(repr=False, compare=False)
    pictures: Tensor = field(repr=False, compare=False)

    def __call__(self, inputs: Tensor) -> Tensor:
        places = [next(k for k, image in enumerate(self.images) if torch.equal(image, x)) for x in inputs]
        return self.pictures[places]


def tensors(file: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of the file, which is made if it is not there."""
    if not file.exists():
        found = {name: each.detach().contiguous() for name, each in make().items()}
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as partial:
            save_file(found, partial)
    return load_file(file)


def record(file: Path, make: Callable[[], Any]) -> Any:
    """The same for what JSON can say."""
    if not file.exists():
        found = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file) as partial:
            partial.write_text(json.dumps(found))
    return json.loads(file.read_text())


class Results:
    """Numbers in one JSON file: photograph -> name -> what was found, and how; written whole after each."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._found: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.exists() else {}

    def known(self, photograph: str, name: str, how: Sequence[str]) -> bool:
        """Whether it is there, found in this way."""
        return bool(self._found.get(photograph, {}).get(name, {}).get("how") == list(how))

    def add(self, photograph: str, name: str, how: Sequence[str], found: dict[str, Any]) -> None:
        """Put it in the file, in the place of what was found in another way."""
        self._found.setdefault(photograph, {})[name] = {"how": list(how), **found}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self._file) as partial:
            partial.write_text(_lines(self._found))

    def by_name(self) -> dict[str, dict[str, Any]]:
        """Name -> photograph -> what was found; names in the order in which they came."""
        found: dict[str, dict[str, Any]] = {}
        for photograph, each in self._found.items():
            for name, here in each.items():
                found.setdefault(name, {})[photograph] = here
        return found


def _lines(found: dict[str, dict[str, Any]]) -> str:
    """A line for each name, so that what is added shows as what was added."""
    parts = [
        f"{json.dumps(photograph)}: {{\n"
        + ",\n".join(f"  {json.dumps(name)}: {json.dumps(here)}" for name, here in each.items())
        + "\n}"
        for photograph, each in found.items()
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def results_file(benchmark: str, model: str) -> Path:
    """Where this repository keeps what was measured."""
    return Path(__file__).parent / "results" / f"{benchmark}-{model}.json"


def paired(differences: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval over images."""
    values = torch.tensor(differences, dtype=torch.float64)
    values = values[values.isfinite()]
    draws = torch.randint(
        len(values), (RESAMPLES, len(values)), generator=torch.Generator().manual_seed(seed)
    )
    means = values[draws].mean(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return float(values.mean()), low, high


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print it in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    print("\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines), flush=True)
