"""What long benchmarks share: photographs kept apart, results kept in a folder, tables with paired intervals."""

import json
from collections.abc import Callable, Sequence
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
from photographs import folder

RESAMPLES = 2000


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
