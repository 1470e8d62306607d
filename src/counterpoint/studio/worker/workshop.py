"""What tasks share: models that are loaded, and what is known of each."""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from counterpoint import progress, scores, spec
from counterpoint.arguments import as_device
from counterpoint.classifier import Classifier
from counterpoint.errors import CounterpointError, InputError
from counterpoint.metrics import Bank
from counterpoint.models import load_model
from counterpoint.places import default_map_layer
from counterpoint.protocols import Baseline, Method
from counterpoint.studio.jobs import Task
from counterpoint.studio.questions import Cell, Score, Target
from counterpoint.studio.worker.beginning import Beginning

# Models that stay in memory, the last ones used.
_MOST_MODELS = 2


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model that is in memory."""

    classifier: Classifier
    bank_paths: tuple[str, ...]

    @cached_property
    def card(self) -> dict[str, Any]:
        """What cards say about it; its hash takes a while."""
        return self.classifier.card()

    @cached_property
    def _map_layers(self) -> dict[str, str]:
        return {}

    def map_layer(self, inputs: Tensor) -> str:
        """The layer for class activation maps where none is named.

        Raises:
            LayerError: there is none.
        """
        if "" not in self._map_layers:
            self._map_layers[""] = default_map_layer(self.classifier.module, inputs)
        return self._map_layers[""]

    def inputs(self, path: str) -> Tensor:
        """The photograph as the model takes it.

        Raises:
            ImageError: it cannot be read.
        """
        inputs: Tensor = self.classifier.preprocess([path])
        return inputs

    def score(self, kind: Score, target: Target) -> scores.ClassScore:
        """What is read of a class."""
        return scores.ClassScore(self.classifier, target, kind)

    @cached_property
    def bank(self) -> Bank | None:
        """Features of the folder's photographs; None where too few were given, or the model has no features to compare."""
        if not self.bank_paths:
            return None
        read: list[Tensor] = []
        for k, path in enumerate(self.bank_paths):
            progress.advance(k, len(self.bank_paths), "looking at the folder's photographs")
            try:
                read.append(self.inputs(path))
            except CounterpointError:
                continue
        with progress.stage(0, 1, 1, "looking at the folder's photographs"):
            try:
                return Bank.of(self.classifier, iter(read))
            except CounterpointError:
                return None


class Workshop:
    """The worker's models.

    Args:
        beginning: What it was started with.

    Raises:
        InputError: a device that cannot be used.
    """

    def __init__(self, beginning: Beginning) -> None:
        self.beginning = beginning
        self._device = as_device(beginning.device)
        self._models: OrderedDict[str, Loaded] = OrderedDict()

    def model(self, name: str) -> Loaded:
        """A model, loaded where it is not.

        Raises:
            CounterpointError: it cannot be loaded; see `load_model`.
        """
        if name not in self._models:
            while len(self._models) >= _MOST_MODELS:
                self._models.popitem(last=False)
            found = load_model(name)
            if not isinstance(found, Classifier):
                raise InputError(
                    f"'{name}' is a detector, and the studio has classifiers only; see `counterpoint explain --model {name}`."
                )
            classifier = found.to(self._device)
            self._models[name] = Loaded(classifier, self.beginning.bank)
        self._models.move_to_end(name)
        return self._models[name]

    def of(self, cell: Cell, task: Task) -> tuple[Loaded, Tensor, Baseline, Method]:
        """What an explanation is made of.

        Raises:
            CounterpointError: a text that stands for nothing, or a photograph that cannot be read.
        """
        # What costs little is checked first.
        baseline: Baseline = spec.build("baseline", cell.baseline)
        method: Method = spec.build("method", cell.method)
        loaded = self.model(cell.model)
        return loaded, loaded.inputs(task.photos[cell.photo].path), baseline, method
