"""Two checks of a finished map: the pathway of the network, and random weights."""

from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from counterpoint import progress
from counterpoint.attribution import Attribution
from counterpoint.comparison import compare
from counterpoint.layers import unwrapped
from counterpoint.methods import IntegratedGradients
from counterpoint.metrics import activation_deviation, randomised_weights
from counterpoint.scores import ClassScore
from counterpoint.studio.jobs import Task
from counterpoint.studio.questions import Deviation, Sanity
from counterpoint.studio.worker.answering import Folder, read_answer, read_map
from counterpoint.studio.worker.workshop import Workshop

# Explanations of a model with random weights, evenly spaced over its layers from the last to the first.
_STEPS = 4
# Gradients that integrated gradients may spend on each, where the map itself took fewer.
_FEWEST = 32


def deviation(workshop: Workshop, question: Deviation, task: Task, folder: Folder) -> dict[str, Any]:
    """How far activations leave the original ones, beside random masks."""
    loaded, inputs, baseline, _ = workshop.of(question.cell, task)
    place = task.needs[task.keys[question.cell]]
    heat = read_map(place, inputs.shape[2:])[None].to(inputs)
    score = loaded.score(question.cell.score, read_answer(place)["index"])
    found = activation_deviation(score, inputs, heat, baseline=baseline)
    return {
        "layers": list(found.layers),
        "fractions": found.fractions.tolist(),
        "kinds": {
            kind: {
                "excess": found.values("excess", kind)[0].tolist(),
                "floor": found.values("excess", kind, floor=True)[0].tolist(),
                "mean": float(found.mean("excess", kind)[0]),
                "mean_floor": float(found.mean("excess", kind, floor=True)[0]),
            }
            for kind in found.kinds
        },
    }


def sanity(workshop: Workshop, question: Sanity, task: Task, folder: Folder) -> dict[str, Any]:
    """How alike the map stays while weights become random, from the last layer to the first."""
    loaded, inputs, baseline, method = workshop.of(question.cell, task)
    place = task.needs[task.keys[question.cell]]
    answer = read_answer(place)
    # On random weights a tolerance is hardly ever reached: no more gradients than the map itself took.
    if isinstance(method, IntegratedGradients):
        method = replace(method, budget=max(_FEWEST, answer["cost"]["gradients"]))
    layers = _layers_with_weights(loaded.classifier.module)
    looked = sorted({max(1, round((k + 1) * layers / _STEPS)) for k in range(_STEPS)})
    last: Tensor | Attribution = read_map(place, inputs.shape[2:])[None].to(inputs)
    calls = 0

    def explain(module: nn.Module, images: Tensor) -> Tensor | Attribution:
        """The map at the steps that are looked at, and the one before in between: each costs a whole explanation."""
        nonlocal calls, last
        if calls in looked:
            before = max([step for step in looked if step < calls], default=0)
            score = ClassScore(module, answer["index"], question.cell.score)
            with progress.stage(before, calls, layers):
                comparison = compare(score, images, baseline=baseline, layer=answer["layer"])
                last = comparison.explain(method).heatmap()
        calls += 1
        return last

    with progress.stage(0, 1, 1, "random weights"):
        found = randomised_weights(loaded.classifier, explain, inputs)
    kept = [step - 1 for step in looked]
    similarity = found.similarity
    return {
        "layers": len(found.layers),
        "steps": [
            {
                "randomised": k + 1,
                "layer": found.layers[k],
                "spearman": float(similarity.spearman[k, 0]),
                "absolute_spearman": float(similarity.absolute_spearman[k, 0]),
                "ssim": float(similarity.ssim[k, 0]),
            }
            for k in kept
        ],
    }


def _layers_with_weights(module: nn.Module) -> int:
    """How many layers are randomised: those with parameters of their own that can be drawn anew."""
    return sum(
        any(parameter is not None for parameter in layer._parameters.values())
        and callable(getattr(layer, "reset_parameters", None))
        for name, layer in unwrapped(module)[1].named_modules()
        if name
    )
