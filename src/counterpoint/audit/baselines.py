"""Which baseline for this model and these images? Every candidate asked on every image, a few images at a time."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from counterpoint import progress, spec
from counterpoint.audit.baseline_audit import BaselineAudit
from counterpoint.audit.measures import numbers_of
from counterpoint.audit.question import Question
from counterpoint.baselines import Black
from counterpoint.checks import check_range
from counterpoint.classifier import Classifier
from counterpoint.errors import InputError
from counterpoint.methods import GradCAM
from counterpoint.metrics import Bank
from counterpoint.places import default_map_layer
from counterpoint.protocols import Baseline, Method
from counterpoint.spec import content_hash
from counterpoint.store import Store, key_of

# Images that are explained and scored together; small, so that a run that is stopped has lost little.
_TOGETHER = 4
# Of the progress the bank takes one part, the rest is for the images.
_PARTS = 20

_COLUMNS = {
    "image": "VARCHAR",
    "position": "INTEGER",
    "baseline": "VARCHAR",
    "class_target": "INTEGER",
    "clean_distance": "DOUBLE",
    "fractions": "DOUBLE[]",
    "distances": "DOUBLE[]",
    "sigmoid_sums": "DOUBLE[]",
    "confidences_lost": "DOUBLE[]",
    "entropies": "DOUBLE[]",
    "negative_divergences": "DOUBLE[]",
    "insertion_distances": "DOUBLE[]",
    "insertion_confidences_lost": "DOUBLE[]",
    "r_oms": "DOUBLE",
}


def audit_baselines(
    classifier: Classifier,
    images: Float[Tensor, "images channel height width"],
    baselines: Sequence[Baseline],
    *,
    names: Sequence[str] | None = None,
    method: Method | None = None,
    against: Baseline | None = None,
    layer: str | None = None,
    bank: Bank | None = None,
    crops: int = 2,
    steps: int = 20,
    insertion: bool = True,
    occlusions: int = 10,
    resamples: int = 2000,
    seed: int = 0,
    folder: str | Path | None = None,
) -> BaselineAudit:
    """Hold baselines against two demands, to remove information and to stay in distribution, along the path of a map.

    Forwards for each image: 2 and the map's own; for each baseline steps - 1, as many again and one for `insertion`, and `occlusions`.

    Args:
        classifier: The model.
        images: Pixels in [0, 1]; their top class is followed.
        baselines: The candidates.
        names: What the images are called, in results and in the bank; numbers by default.
        method: Whose heat map says what is removed first; Grad-CAM, read at zero features, by default, as published.
        against: What that method compares with; must be given with a method.
        layer: Where a method for layers works; the model's default for maps if left out.
        bank: Features of real images; by default these images and crops of them. What is of the scored image's own photograph is left out.
        crops: Crops of each image in that bank.
        steps: Points of each path, 0 to the last below 1.
        insertion: Also follow the insertion path, which says where its area is earned.
        occlusions: Random occlusions of each image for R-OMS; 0 leaves it out, as NaN.
        resamples: Of the bootstrap over images.
        seed: Of ties, crops, occlusions and the bootstrap.
        folder: Keeps results as they come, so that a run that was stopped goes on where it was.

    Raises:
        InputError: fewer than 3 images, fewer than 2 baselines, one twice, or another number of names than images; the folder holds the
            results to another question; see `cp.metrics.trade_off` for the rest.
        LayerError: the layer cannot be cut at.
        OutputError: the folder cannot be written.
        MissingPackageError: a folder, without DuckDB.

    Reference: Picard et al. 2025, arXiv:2512.11433; `excess`, the three removal scores, intervals, dominance and choice are ours.
    """
    if len(images) < 3:
        raise InputError(f"images must be at least 3, so that means have intervals, got {len(images)}.")
    labels = [spec.unusual("baseline", spec.describe(each)).text for each in baselines]
    if len(labels) < 2 or len(set(labels)) < len(labels):
        raise InputError(f"baselines must be at least 2 different ones, got {', '.join(labels) or 'none'}.")
    known = [str(n) for n in (range(len(images)) if names is None else names)]
    if len(known) != len(images) or len(set(known)) < len(known):
        raise InputError(
            f"names must be one for each of {len(images)} images, all different, got {len(known)}."
        )
    check_range("occlusions", occlusions, 0)
    check_range("steps", steps, 2)
    if (method is None) != (against is None):
        raise InputError(
            "give method and against together: a map is made against a baseline, which must be named."
        )
    # Grad-CAM as published reads no baseline of the input.
    method, against = (GradCAM(), Black()) if method is None or against is None else (method, against)
    if layer is None and method.level == "layer":
        layer = default_map_layer(classifier.module, images[:1])
    pictures = [content_hash(image) for image in images]
    if bank is None:
        # A bank made here is known by what it is made of: its features have other last digits with another number of threads.
        identity = key_of({"photographs": list(zip(known, pictures, strict=True)), "crops": crops})
        with progress.stage(0, 1, _PARTS, "bank"):
            bank = Bank.of(classifier, images, groups=known, crops=crops, seed=seed)
    else:
        identity = bank.fingerprint
    bank.check_model(classifier.module)
    facts = {
        "audit": "baselines 1",
        "model": bank.model,
        "bank": identity,
        "method": spec.describe(method).as_dict(),
        "against": spec.describe(against).as_dict(),
        "layer": layer or "input",
        "steps": steps,
        "insertion": insertion,
        "occlusions": occlusions,
        "seed": seed,
    }
    store = None if folder is None else Store(folder, facts, _COLUMNS)
    asked = Question(classifier, method, against, layer, bank, steps, insertion, occlusions, seed)
    with progress.stage(1, _PARTS, _PARTS):
        rows = _rows(asked, images, known, pictures, baselines, labels, facts, store)
    return BaselineAudit(
        names=tuple(labels),
        images=tuple(known),
        numbers=numbers_of(rows, labels, known, bank),
        facts=facts,
        resamples=resamples,
        seed=seed,
    )


def _rows(
    asked: Question,
    images: Tensor,
    names: Sequence[str],
    pictures: Sequence[str],
    baselines: Sequence[Baseline],
    labels: Sequence[str],
    facts: Mapping[str, Any],
    store: Store | None,
) -> dict[str, dict[str, Any]]:
    """Key -> row, from the store where it is there, computed and stored where it is not."""
    keys = {
        (i, b): key_of({**facts, "image": pictures[i], "baseline": spec.describe(baseline).fingerprint})
        for i in range(len(images))
        for b, baseline in enumerate(baselines)
    }
    rows = {} if store is None else {row["key"]: row for row in store.rows()}
    missing = {place for place, key in keys.items() if key not in rows}
    chunks = _chunks(missing, len(images))
    for k, (chunk, lacking) in enumerate(chunks):
        with progress.stage(k, k + 1, len(chunks), f"image {chunk[0] + 1} of {len(images)}"):
            chosen = [baselines[b] for b in lacking]
            found = asked.answered(images[chunk], [names[i] for i in chunk], chosen)
        fresh = [
            {"key": keys[i, b], "image": names[i], "position": i, "baseline": labels[b], **found[n][m]}
            for n, b in enumerate(lacking)
            for m, i in enumerate(chunk)
        ]
        rows.update({row["key"]: row for row in fresh})
        if store is not None:
            store.add(fresh)
    # Under today's names: what was stored may have been called otherwise, such as by a file that has moved.
    return {key: {**rows[key], "baseline": labels[b]} for (_, b), key in keys.items()}


def _chunks(missing: Iterable[tuple[int, int]], images: int) -> list[tuple[list[int], list[int]]]:
    """A few images at a time that lack the same baselines."""
    lacking: dict[int, list[int]] = {}
    for i, b in sorted(missing):
        lacking.setdefault(i, []).append(b)
    chunks: list[tuple[list[int], list[int]]] = []
    for i in range(images):
        if i not in lacking:
            continue
        if chunks and chunks[-1][1] == lacking[i] and len(chunks[-1][0]) < _TOGETHER:
            chunks[-1][0].append(i)
        else:
            chunks.append(([i], lacking[i]))
    return chunks
