"""Photographs in; a learned baseline, its audit on other photographs and its figures out. Used by the command."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from counterpoint import progress
from counterpoint.audit import REMOVALS, BaselineAudit, as_seen_by, audit_baselines
from counterpoint.auditing import baseline_table
from counterpoint.baselines import Black, Learned, PublishedRecipe, TradeOffRecipe
from counterpoint.baselines.learned import paper_b
from counterpoint.classifier import Classifier
from counterpoint.comparison import compare
from counterpoint.data.photographs import output_names
from counterpoint.errors import InputError
from counterpoint.files import whole_file, writable_folder
from counterpoint.methods import GradCAM
from counterpoint.metrics.bank import model_hash
from counterpoint.places import default_map_layer
from counterpoint.protocols import Baseline
from counterpoint.report.figures import save_png
from counterpoint.scores import logit
from counterpoint.spec import content_hash
from counterpoint.store import key_of
from counterpoint.visualisation import Moment

AnyRecipe = PublishedRecipe | TradeOffRecipe
Rivals = Sequence[tuple[str, Baseline]]
NAME = "learned"

_MAPS_AT_ONCE = 8
# Fewer are done sooner than a folded copy is made and checked.
_FOLD_FROM = 64
_SAVED_EVERY = 10


@dataclass(frozen=True)
class Reported:
    """How much of a learned baseline is reported, and on what."""

    photographs: int
    """At most; none of them is learned from."""
    steps: int
    """Points of each deletion path."""
    crops: int = 2
    """Of each photograph, in the bank that says what is in distribution."""


@dataclass(frozen=True)
class Effort:
    """How much is done beside the recipe's own steps."""

    reported: Reported
    at_most: int | None = None
    """Photographs to learn from."""
    grad_cam: bool = True
    """Whether pixels go in the order of Grad-CAM; otherwise in that of the gradient, smoothed, at a third of the price."""


FULL = Effort(Reported(photographs=40, steps=4))
QUICK = Effort(Reported(photographs=8, steps=2, crops=1), at_most=30, grad_cam=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class Taught:
    """A learned baseline on disk, and what is known of it."""

    baseline: Learned
    words: tuple[str, ...]
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    files: tuple[Path, ...]
    facts: Mapping[str, Any]


def learn(
    classifier: Classifier,
    paths: Sequence[Path],
    out: Path,
    *,
    recipe: AnyRecipe,
    layer: str = "penultimate",
    rivals: Rivals | None = None,
    witness: Classifier | None = None,
    seed: int = 0,
    effort: Effort = FULL,
) -> Taught:
    """Learn a baseline from some photographs, and report on the others.

    A run that was stopped goes on from its last saved step, if everything asked for is the same.

    Args:
        classifier: The model.
        paths: Photographs. Nearly a third of them, at random, are kept for the report.
        out: The safetensors file; figures are written beside it.
        recipe: How to learn.
        layer: Whose output counts as features; "penultimate" for what the last linear layer reads.
        rivals: Names and baselines to be better than; by default paper B's and road.
        witness: Another model, in whose features distances are measured once more.
        seed: Of all draws.
        effort: How much is learned from, and reported.

    Raises:
        InputError: too few photographs; see `Learned.fit` for the rest.
        OutputError: a file cannot be written.
    """
    from counterpoint.report.learned_figure import learned_figure

    if out.suffix != ".safetensors":
        raise InputError(f"--out must end in .safetensors, got '{out}'.")
    rivals = list(paper_b() if rivals is None else rivals)
    reported = effort.reported
    fitted, held_out = split(len(paths), recipe.least_images, seed, reported.photographs, effort.at_most)
    writable_folder(out.parent)
    unfinished = out.with_suffix(".unfinished.safetensors")
    with progress.stage(0, 0.02, 1, "reading photographs"):
        images = classifier.preprocess([paths[i] for i in (*fitted, *held_out)])
    mine, others = images[: len(fitted)], images[len(fitted) :]
    with progress.stage(0.02, 0.1, 1, "maps"):
        followed = effort.grad_cam and isinstance(recipe, TradeOffRecipe)
        saliency = grad_cams(classifier, mine) if followed else None
    with progress.stage(0.1, 0.6, 1, "learning"):
        baseline = _fitted(
            classifier,
            mine,
            saliency,
            recipe=recipe,
            layer=layer,
            rivals=rivals,
            seed=seed,
            unfinished=unfinished,
        )
    names = [output_names(paths)[i] for i in held_out]
    trial = _Trial(others, names, rivals, baseline, reported, seed)
    with progress.stage(0.6, 0.85 if witness else 0.99, 1, "report"):
        audit = trial.audited(classifier)
    opinions = {classifier.name: audit}
    if witness is not None:
        with progress.stage(0.85, 0.99, 1, f"witness {witness.name}"):
            opinions[witness.name] = trial.witnessed(witness, audit, grad_cams(classifier, others))
    words = tuple(_verdict(name, opinion, name == classifier.name) for name, opinion in opinions.items())
    baseline = baseline.with_facts(
        audit={
            "photographs": names,
            "steps": reported.steps,
            "opinions": {name: _summary(opinion) for name, opinion in opinions.items()},
            "words": list(words),
        }
    )
    baseline.save(out)
    unfinished.unlink(missing_ok=True)
    figure = out.with_suffix(".png")
    save_png(learned_figure(baseline, audit, classifier.name), figure)
    headings, rows = baseline_table(audit)
    return Taught(
        baseline=baseline,
        words=words,
        headings=headings,
        rows=rows,
        files=(out, figure),
        facts={"file": str(out), **baseline.facts},
    )


def split(
    count: int, least: int, seed: int, reported: int, at_most: int | None
) -> tuple[list[int], list[int]]:
    """Which photographs to learn from, and which to report on: no photograph is in both.

    Raises:
        InputError: too few for both.
    """
    kept = min(reported, max(3, round(0.3 * count)))
    if count - kept < least:
        raise InputError(
            f"photographs must be at least {least + max(3, round(0.45 * least))} for this recipe, so that some are left to report on, "
            f"got {count}."
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return order[kept:][:at_most], order[:kept]


def grad_cams(classifier: Classifier, images: Tensor) -> Float[Tensor, "images height width"]:
    """Grad-CAM, a few images at a time."""
    layer = default_map_layer(classifier.module, images[:1])
    found = []
    for part in torch.split(images, _MAPS_AT_ONCE):
        comparison = compare(
            logit(classifier), part, baseline=Black(), layer=layer, fold=len(images) >= _FOLD_FROM
        )
        found.append(comparison.explain(GradCAM()).heatmap().detach())
        progress.advance(len(found) * _MAPS_AT_ONCE, len(images), "maps")
    return torch.cat(found)


def _fitted(
    classifier: Classifier,
    images: Float[Tensor, "images channel height width"],
    saliency: Float[Tensor, "images height width"] | None,
    *,
    recipe: AnyRecipe,
    layer: str,
    rivals: Rivals,
    seed: int,
    unfinished: Path,
) -> Learned:
    """The baseline, from where an earlier run to the same question was stopped."""
    key = key_of(
        {
            "model": model_hash(classifier.module),
            "images": content_hash(images),
            "recipe": recipe.name,
            "settings": {each.name: getattr(recipe, each.name) for each in fields(recipe)},
            "layer": layer,
            "seed": seed,
        }
    )
    return Learned.fit(
        classifier,
        layer,
        images=images,
        recipe=recipe,
        rivals=rivals,
        saliency=saliency,
        seed=seed,
        state=_saved(unfinished, key),
        on_step=_Saving(unfinished, key),
    )


@dataclass(frozen=True, eq=False)
class _Trial:
    """A learned baseline beside its rivals, on photographs that it was not learned from."""

    images: Float[Tensor, "images channel height width"]
    names: Sequence[str]
    rivals: Rivals
    baseline: Learned
    reported: Reported
    seed: int

    def audited(self, classifier: Classifier) -> BaselineAudit:
        """In the eyes of its own model."""
        audit = audit_baselines(
            classifier,
            self.images,
            [*(rival for _, rival in self.rivals), self.baseline],
            names=self.names,
            crops=self.reported.crops,
            steps=self.reported.steps,
            insertion=False,
            occlusions=0,
            seed=self.seed,
        )
        return replace(audit, names=(*(name for name, _ in self.rivals), NAME))

    def witnessed(
        self, witness: Classifier, audit: BaselineAudit, saliency: Float[Tensor, "images height width"]
    ) -> BaselineAudit:
        """The same audit in the eyes of another model, along the same maps."""
        return as_seen_by(
            witness,
            audit,
            self.images,
            saliency,
            [*(rival for _, rival in self.rivals), replace(self.baseline, any_model=True)],
            crops=self.reported.crops,
            steps=self.reported.steps,
            seed=self.seed,
        )


class _Saving:
    """Keeps the state of every tenth step beside the result, under the question that it belongs to."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key

    def __call__(self, moment: Moment) -> None:
        if moment.step % _SAVED_EVERY == 0 and moment.step < moment.steps:
            with whole_file(self._path) as partial:
                partial.write_bytes(
                    save({k: v.contiguous() for k, v in moment.state().items()}, {"key": self._key})
                )


def _saved(path: Path, key: str) -> dict[str, Tensor] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            same = (file.metadata() or {}).get("key") == key
        return load_file(path) if same else None
    except (OSError, SafetensorError):  # half a file, or another program's: begin anew
        return None


def _verdict(judge: str, audit: BaselineAudit, own: bool) -> str:
    """Whom the learned baseline beats, and who beats it, in one sentence."""
    here = audit.names.index(NAME)
    beats = [audit.names[i] for i in audit.dominated[here].nonzero().flatten().tolist()]
    beaten = [audit.names[i] for i in audit.dominated[:, here].nonzero().flatten().tolist()]
    eyes = "By its own model's features" if own else f"By the features of {judge}, which took no part"
    rivals = [name for name in audit.names if name != NAME]
    others = [name for name in rivals if name not in beats]
    return (
        f"{eyes}, on {len(audit.images)} photographs that it was not learned from: better than {len(beats)} of {len(rivals)} rivals both "
        "at staying in distribution and at removing information (paired 95 %, two of three scores)"
        + (f", all but {', '.join(others)}" if 0 < len(others) <= 6 else "")
        + (f"; worse than {', '.join(beaten)} at both." if beaten else "; worse than none at both.")
    )


def _summary(audit: BaselineAudit) -> dict[str, Any]:
    here = audit.names.index(NAME)
    return {
        "means": {
            name: {measure: float(audit.means(measure)[b]) for measure in ("excess", *REMOVALS)}
            for b, name in enumerate(audit.names)
        },
        "dominates": [audit.names[i] for i in audit.dominated[here].nonzero().flatten().tolist()],
        "dominated_by": [audit.names[i] for i in audit.dominated[:, here].nonzero().flatten().tolist()],
    }
