"""Models for the commands: loaded by name, with a line on stderr where they have learned nothing."""

from pathlib import Path
from typing import TYPE_CHECKING

from counterpoint.cli.ending import say

if TYPE_CHECKING:
    from counterpoint.classifier import Classifier
    from counterpoint.detectors import Detector


def model_of(name: str, weights: Path | None = None, random_weights: bool = False) -> "Classifier | Detector":
    """The model of a name, see `load_model`; that its weights are random is said.

    Raises:
        CounterpointError: as `load_model`.
    """
    from counterpoint.models import load_model
    from counterpoint.models.naming import shown_name
    from counterpoint.report.wording import NOTHING_LEARNED

    model: Classifier | Detector = load_model(name, weights=weights, random_weights=random_weights)
    if model.card()["random_weights"]:
        # In the name, so that every figure and table has it, also of a model of the user's own.
        if "random weights" not in model.name:
            model.name = shown_name(model.name, random=True)
        say(f"warning: {model.name}: {NOTHING_LEARNED}.")
    return model


def classifier_of(name: str, weights: Path | None = None, random_weights: bool = False) -> "Classifier":
    """The classifier of a name, for commands that ask about classes.

    Raises:
        InputError: it is a detector.
        CounterpointError: as `load_model`.
    """
    from counterpoint.classifier import Classifier
    from counterpoint.errors import InputError

    model = model_of(name, weights, random_weights)
    if not isinstance(model, Classifier):
        raise InputError(
            f"'{name}' is a {type(model).__name__}; this command asks classifiers about their classes."
        )
    return model
