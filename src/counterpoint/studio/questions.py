"""What can be asked of the studio. Each question is one job; equal questions are one job.

A question is plain data from the outside: lengths are limited, photographs and models are named by what is offered, and no text can name a
file. Torch is not needed to ask.
"""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from counterpoint.studio.refusals import Refused

MOST_CELLS = 8
MOST_BASELINES = 6
USUAL_BASELINES = ("black", "blur", "mean")
CONTROL = "random_map"
"""The map that a verdict compares with: what curves look like where pixels come in a random order."""

FILE_READERS = ("learned", "learned_per_image")
"""Baselines that read a file: only those that were given on the command line can be asked for."""

PhotoId = Annotated[str, Field(pattern=r"^(sample|folder|upload)-[a-z0-9]{1,64}$")]
ModelName = Annotated[str, Field(min_length=1, max_length=200)]
# The text form of the command line: a name, then parameters, also in call form. No slash, no quote, no space but after commas.
BaselineText = Annotated[str, Field(min_length=1, max_length=400)]
MethodText = Annotated[str, Field(max_length=200, pattern=r"^[a-z][a-z0-9_]*(:[A-Za-z0-9_=.,()+ -]+)?$")]
LayerName = Annotated[str, Field(max_length=200, pattern=r"^[\w.+-]*$")]
Score = Literal["logit", "probability", "log_probability", "log_odds"]
Target = Literal["top1"] | Annotated[int, Field(ge=0, le=1_000_000)]


class _Question(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    brief: ClassVar[bool] = False
    """Whether it is answered at once: a page is not to wait for it behind what takes long."""

    def needs(self) -> "tuple[Question, ...]":
        """The questions whose answers this one is worked out from."""
        return ()


class Top(_Question):
    """Which classes the model sees: the five most probable."""

    brief: ClassVar[bool] = True
    kind: Literal["top"] = "top"
    photo: PhotoId
    model: ModelName


class Preview(_Question):
    """What a photograph is compared with: x and x'."""

    brief: ClassVar[bool] = True
    kind: Literal["preview"] = "preview"
    photo: PhotoId
    model: ModelName
    baseline: BaselineText


class Layers(_Question):
    """The layers of a model, and where it can be cut."""

    brief: ClassVar[bool] = True
    kind: Literal["layers"] = "layers"
    model: ModelName


class Cell(_Question):
    """One explanation of one photograph."""

    kind: Literal["cell"] = "cell"
    photo: PhotoId
    model: ModelName
    target: Target = "top1"
    score: Score = "logit"
    baseline: BaselineText
    method: MethodText
    layer: LayerName = ""
    """"" for the usual one: the input, or the last layer with maps for a method that explains layers only."""


class Curves(_Question):
    """Insertion and deletion curves of some maps of one score, under some baselines."""

    kind: Literal["curves"] = "curves"
    cells: tuple[Cell, ...] = Field(min_length=1, max_length=MOST_CELLS)
    baselines: tuple[BaselineText, ...] = Field(min_length=1, max_length=MOST_BASELINES)
    steps: int = Field(default=10, ge=2, le=20)

    @model_validator(mode="after")
    def _one_score(self) -> "Curves":
        if len({(cell.photo, cell.model, cell.target, cell.score) for cell in self.cells}) > 1:
            raise ValueError("cells must have one photograph, model, target and score")
        if len(set(self.cells)) < len(self.cells) or len(set(self.baselines)) < len(self.baselines):
            raise ValueError("cells and baselines must differ from one another")
        return self

    def needs(self) -> "tuple[Question, ...]":
        """The maps."""
        return self.cells


class Deviation(_Question):
    """How far activations leave the model's own pathway while pixels come in the order of a map."""

    kind: Literal["deviation"] = "deviation"
    cell: Cell

    def needs(self) -> "tuple[Question, ...]":
        """The map."""
        return (self.cell,)


class Sanity(_Question):
    """Whether a map changes when the model's weights become random."""

    kind: Literal["sanity"] = "sanity"
    cell: Cell

    def needs(self) -> "tuple[Question, ...]":
        """The map."""
        return (self.cell,)


class Verdict(_Question):
    """How far a map can be trusted, in words with their reasons."""

    kind: Literal["verdict"] = "verdict"
    cell: Cell
    baselines: tuple[BaselineText, ...] = Field(
        default=USUAL_BASELINES, min_length=1, max_length=MOST_BASELINES
    )
    steps: int = Field(default=10, ge=2, le=20)

    @property
    def control(self) -> Cell:
        """A random map of the same question."""
        return self.cell.model_copy(update={"method": CONTROL, "layer": "input"})

    @property
    def curves(self) -> Curves:
        """Its curves: of the map, and of the control."""
        cells = (self.cell,) if self.cell.method == CONTROL else (self.cell, self.control)
        return Curves(cells=cells, baselines=self.baselines, steps=self.steps)

    @property
    def deviation(self) -> Deviation:
        """Its activation deviation."""
        return Deviation(cell=self.cell)

    @property
    def sanity(self) -> Sanity:
        """Its check with random weights."""
        return Sanity(cell=self.cell)

    def needs(self) -> "tuple[Question, ...]":
        """The map, its curves, its deviation, and the check with random weights."""
        return (self.cell, self.curves, self.deviation, self.sanity)


class Results(_Question):
    """What the benchmark, or the saved attribution, says that was given on the command line."""

    kind: Literal["results"] = "results"


Question = Top | Preview | Layers | Cell | Curves | Deviation | Sanity | Verdict | Results
KINDS = ("top", "preview", "layers", "cell", "curves", "deviation", "sanity", "verdict", "results")

_QUESTION: TypeAdapter[Question] = TypeAdapter(Annotated[Question, Field(discriminator="kind")])


def question_of(data: Any) -> Question:
    """The question in plain data from the outside.

    Raises:
        Refused: 422, with the field and what is wrong with it.
    """
    try:
        return _QUESTION.validate_python(data)
    except ValidationError as error:
        raise Refused(422, words_of(error)) from error


def words_of(error: ValidationError) -> str:
    """The first thing that is wrong, in one sentence."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"] if part not in KINDS)
    if "target" in first["loc"]:
        return (
            'the question is not understood: target must be "top1" or the index of a class, a whole number from 0 to 1,000,000; '
            "/api/catalogue has the labels by index."
        )
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if first["type"] == "string_pattern_mismatch":
        message = "it has signs that it cannot have, or not the form that it must have"
    return (
        f"the question is not understood: {place + ': ' if place else ''}{message[:1].lower()}{message[1:]}."
    )


def names_a_file(text: str) -> bool:
    """Whether a baseline or method in text form would read a file."""
    return any(word in FILE_READERS for word in re.findall(r"[a-z_][a-z0-9_]*", text.lower()))


def is_plain_text_form(text: str) -> bool:
    """Whether a text from the outside is of the form name or name:parameter=value,... and names no file."""
    return re.fullmatch(r"[a-z][a-z0-9_]*(:[A-Za-z0-9_=.,()+ -]+)?", text) is not None and not names_a_file(
        text
    )


def photos_of(question: Question) -> tuple[str, ...]:
    """The photographs that a question is about."""
    own = getattr(question, "photo", None)
    return tuple(
        dict.fromkeys([*([own] if own else []), *(p for q in question.needs() for p in photos_of(q))])
    )


def models_of(question: Question) -> tuple[str, ...]:
    """The models that a question is about."""
    own = getattr(question, "model", None)
    return tuple(
        dict.fromkeys([*([own] if own else []), *(m for q in question.needs() for m in models_of(q))])
    )


def baselines_of(question: Question) -> tuple[str, ...]:
    """The baselines that a question names."""
    own = [getattr(question, "baseline", None), *getattr(question, "baselines", ())]
    inner = [text for each in question.needs() for text in baselines_of(each)]
    return tuple(dict.fromkeys([*(text for text in own if text), *inner]))


def methods_of(question: Question) -> tuple[str, ...]:
    """The methods that a question names."""
    own = getattr(question, "method", None)
    return tuple(
        dict.fromkeys([*([own] if own else []), *(m for q in question.needs() for m in methods_of(q))])
    )
