"""What a command explains: a class, a region of a class map, a number of the output, the likeness to another photograph."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from counterpoint.classifier import Classifier

_WORDS = ("predicted", "all")


@dataclass(frozen=True)
class Asked:
    """A score that is not of one class for the whole image, as the options say it."""

    option: str
    what: Any
    """The region, the index, or the photograph."""

    @classmethod
    def of(cls, region: str | None, value: str | None, similar_to: str | None) -> "Asked | None":
        """What is asked for, checked without a model; None where it is a class.

        Raises:
            InputError: two scores at once, a text that is no region or no index, no such photograph.
        """
        from counterpoint.data.photographs import find_photographs
        from counterpoint.errors import InputError

        given = {"--region": region, "--value": value, "--similar-to": similar_to}
        named = {option: text for option, text in given.items() if text is not None}
        if len(named) > 1:
            raise InputError(f"{' and '.join(named)} are scores of their own: ask for one at a time.")
        for option, text in named.items():
            if option == "--similar-to":
                return cls(option, find_photographs([text])[0])
            if option == "--region":
                words = f"{', '.join(_WORDS)}, or a box y0,x0,y1,x1"
                return cls(option, text if text in _WORDS else _numbers(option, text, words, 4))
            return cls(option, _numbers(option, text, "an index, such as 0 or 0,120,80", None))
        return None

    def score(self, classifier: "Classifier", target: int | str, kind: str) -> Any:
        """The score of a model.

        Raises:
            InputError: a class or a kind of score that it does not read.
        """
        import counterpoint as cp
        from counterpoint.errors import InputError

        if self.option == "--region":
            if kind not in ("logit", "probability"):
                raise InputError(f"--score of a region must be logit or probability, got {kind}.")
            return cp.region(classifier, target, self.what, kind=kind)  # type: ignore[arg-type]
        if target != "top1" or kind != "logit":
            raise InputError(f"{self.option} asks for no class: leave --target and --score out.")
        if self.option == "--value":
            return cp.output_value(classifier, self.what)
        path: Path = self.what
        return cp.similarity(classifier, classifier.preprocess([path]))


def _numbers(option: str, text: str, expected: str, count: int | None) -> tuple[int, ...]:
    from counterpoint.errors import InputError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or count not in (None, len(parts)):
        raise InputError(f"{option} must be {expected}, got '{text}'.")
    return tuple(int(part) for part in parts)
