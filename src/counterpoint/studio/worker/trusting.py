"""Two checks of a finished map: the pathway of the network, and random weights."""

from typing import Any

from counterpoint.studio.jobs import Task
from counterpoint.studio.questions import Deviation, Sanity
from counterpoint.studio.worker.answering import Folder, read_answer, read_map
from counterpoint.studio.worker.workshop import Workshop
from counterpoint.trusting.pathway import pathway_facts
from counterpoint.trusting.weights import weight_facts


def deviation(workshop: Workshop, question: Deviation, task: Task, folder: Folder) -> dict[str, Any]:
    """How far activations leave the original ones, beside random masks."""
    loaded, inputs, baseline, _ = workshop.of(question.cell, task)
    place = task.needs[task.keys[question.cell]]
    score = loaded.score(question.cell.score, read_answer(place)["index"])
    return pathway_facts(score, inputs, read_map(place, inputs.shape[2:]), baseline)


def sanity(workshop: Workshop, question: Sanity, task: Task, folder: Folder) -> dict[str, Any]:
    """How alike the map stays while weights become random, from the last layer to the first."""
    loaded, inputs, baseline, method = workshop.of(question.cell, task)
    place = task.needs[task.keys[question.cell]]
    answer = read_answer(place)
    return weight_facts(
        loaded.score(question.cell.score, answer["index"]),
        inputs,
        read_map(place, inputs.shape[2:]),
        baseline=baseline,
        method=method,
        layer=answer["layer"],
        gradients=answer["cost"]["gradients"],
    )
