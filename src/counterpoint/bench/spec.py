"""The spec of a benchmark: everything that its results depend on, checked before any work starts."""

import json
import re
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from counterpoint import spec as objects
from counterpoint.bench.metrics import METRICS
from counterpoint.errors import CounterpointError, InputError, UnknownNameError
from counterpoint.models.naming import shown_name

Engine = Literal["in_process", "pool", "ray"]
Precision = Literal["float32", "float64", "bfloat16"]


def _method(text: str) -> str:
    objects.build("method", text)
    return text.strip()


def _baseline(text: str) -> str:
    objects.build("baseline", text)
    return text.strip()


def _different_objects(kind: objects.Kind, texts: Sequence[str]) -> Any:
    known: dict[str, str] = {}
    for text in texts:
        same = known.setdefault(objects.describe(objects.build(kind, text)).fingerprint, text)
        if same is not text:
            raise InputError(f"'{text}' is the same as '{same}'; one of them is enough.")
    return texts


def _different_methods(texts: Sequence[str]) -> Any:
    return _different_objects("method", _different(texts))


def _different_baselines(texts: Sequence[str]) -> Any:
    return _different_objects("baseline", _different(texts))


def _metric(text: str) -> str:
    if text not in METRICS:
        raise UnknownNameError.among("metric", text, METRICS, shown=len(METRICS))
    return text


def _different(texts: Sequence[Any]) -> Any:
    if twice := [text for k, text in enumerate(texts) if text in texts[:k]]:
        raise InputError(f"'{twice[0]}' is given twice.")
    return texts


def _file(text: str) -> str:
    # Workers may run in another folder.
    return str(Path(text).expanduser().absolute())


WeightsText = Annotated[str, AfterValidator(_file)]
MethodText = Annotated[str, AfterValidator(_method)]
BaselineText = Annotated[str, AfterValidator(_baseline)]
MetricText = Annotated[str, AfterValidator(_metric)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=False)


class ModelPart(_Part):
    """A model to explain."""

    name: str = Field(min_length=1)
    """As `counterpoint models` lists it, torchvision:NAME, timm:NAME, hf:NAME, FILE.pt2, or package.module:function."""
    weights: WeightsText | None = None
    """A file of weights for it."""
    random_weights: bool = False
    """Random weights instead, from seed 0."""
    output: str | int | None = None
    """Which part of the model's output holds the class scores, where it has several: a key, a field or an index."""
    precision: Precision = "float32"
    layers: Annotated[tuple[str, ...], AfterValidator(_different)] | None = Field(default=None, strict=False)
    """Instead of the layers of [explain]."""

    @model_validator(mode="after")
    def _one_kind_of_weights(self) -> "ModelPart":
        if self.random_weights and self.weights is not None:
            raise InputError("give weights or random_weights, not both.")
        return self

    @property
    def title(self) -> str:
        """What tables and the report call it: the name, weights of a file or random ones, and the output where one is picked."""
        name = shown_name(self.name, weights=self.weights, random=self.random_weights)
        return name if self.output is None else f"{name} (output {self.output})"


class ExplainPart(_Part):
    """Which maps are made."""

    methods: Annotated[tuple[MethodText, ...], AfterValidator(_different_methods)] = Field(
        min_length=1, strict=False
    )
    against: Annotated[tuple[BaselineText, ...], AfterValidator(_different_baselines)] = Field(
        min_length=1, strict=False
    )
    layers: Annotated[tuple[str, ...], AfterValidator(_different)] = Field(default=(), strict=False)
    """Where; "input" for the pixels. Empty: methods for layers at the model's last layer with maps, all others at the input."""
    bypass: Literal["refuse", "intervene"] = "refuse"
    score: Literal["logit", "probability", "log_probability", "log_odds", "label_probability"] = "logit"
    target: str | int = "top1"
    """"top1", "label" (what the data set says), a label or an index."""
    seeds: Annotated[tuple[int, ...], AfterValidator(_different)] = Field(
        default=(0,), min_length=1, strict=False
    )
    """Methods with a seed run once with each."""
    fold: bool = True
    """Explain an equal, faster copy of the model where there is one."""


class EvaluatePart(_Part):
    """What is measured on each map."""

    metrics: Annotated[tuple[MetricText, ...], AfterValidator(_different)] = Field(default=(), strict=False)
    baselines: Annotated[tuple[BaselineText, ...], AfterValidator(_different_baselines)] = Field(
        default=(), strict=False
    )
    score: Literal["probability", "logit"] = "probability"
    order: Literal["signed", "absolute"] = "signed"
    steps: int = Field(default=10, ge=2, le=1000)
    bank: int = Field(default=50, ge=3)
    """For out_of_distribution: so many images of the data set say what is in distribution."""
    samples: int = Field(default=4, ge=1)
    """For sensitivity: disturbed images."""
    seed: int = 0

    @model_validator(mode="after")
    def _complete(self) -> "EvaluatePart":
        lacking = [name for name in self.metrics if METRICS[name].per_baseline]
        if lacking and not self.baselines:
            raise InputError(
                f"metric '{lacking[0]}' removes pixels: name what they become, baselines = [\"mean\", ...]."
            )
        return self


class KeepPart(_Part):
    """What is kept beside the numbers."""

    gallery: int = Field(default=24, ge=0)
    """Small pictures and maps of the first so many images, for the report."""
    curves: bool = True
    """Every point of every curve, not only the areas."""
    maps: bool = False
    """Whole attributions, in files of their own."""


class RunPart(_Part):
    """How the work is done. Only what is marked changes results by rounding, and is fixed when a folder is begun."""

    engine: Engine = "in_process"
    workers: int | None = Field(default=None, ge=1)
    """Processes; by default one for each processor core."""
    threads: int = Field(default=1, ge=1)
    """Of each worker; fixed."""
    micro_batch: int | None = Field(default=None, ge=1)
    """Rows that go through the model at once; fixed. By default chosen for the device."""
    device: str = "cpu"
    """Fixed."""
    gpus: float = Field(default=0, ge=0)
    """Of each worker, for Ray: 0.25 puts four on one GPU."""
    retries: int = Field(default=2, ge=0)
    """How often work is tried again after its worker died or ran out of memory."""
    address: str = ""
    """Of a Ray cluster; empty starts one on this machine."""


class BenchSpec(_Part):
    """A benchmark: models, images, methods, baselines, measures."""

    name: str = "benchmark"
    images: dict[str, Any]
    """A data set, see docs/datasets.md."""
    model: tuple[ModelPart, ...] = Field(min_length=1, strict=False)
    explain: ExplainPart
    evaluate: EvaluatePart = EvaluatePart()
    keep: KeepPart = KeepPart()
    run: RunPart = RunPart()

    @model_validator(mode="after")
    def _distinct(self) -> "BenchSpec":
        _different([f"{each.title} in {each.precision}" for each in self.model])
        return self

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""
        found: dict[str, Any] = json.loads(self.model_dump_json())
        return found


def read_spec(file: str | Path) -> tuple[BenchSpec, str]:
    """A spec, checked, and its text.

    Args:
        file: TOML.

    Raises:
        InputError: it cannot be read, is no TOML, or something in it is wrong; the message names the line.
    """
    path = Path(file)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the spec '{path}': {getattr(error, 'strerror', None) or error}."
        ) from error
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not TOML: {error}.") from error
    return checked(given, text, str(path)), text


def checked(given: dict[str, Any], text: str = "", where: str = "spec") -> BenchSpec:
    """A spec from plain data.

    Args:
        given: As in TOML.
        text: The TOML, to name lines by.
        where: Its file.

    Raises:
        InputError: something in it is wrong; every problem is named, with its line where there is a text.
    """
    try:
        return BenchSpec.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False)
        # A list of which an item is wrong is also said to be too short: once is enough.
        within = {each["loc"][:-1] for each in found}
        told = [each for each in found if not (each["type"] == "too_short" and each["loc"] in within)]
        problems = [_problem(each, text, where) for each in told or found]
        raise InputError("; ".join(problems)) from error


def _problem(error: Any, text: str, where: str) -> str:
    place = [part for part in error["loc"] if part not in ("tuple", "str", "int")]
    name = "".join(f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    line = line_of(text, place)
    reason = error.get("ctx", {}).get("error")
    words = str(reason) if isinstance(reason, CounterpointError) else _words(error)
    return f"{where}{f', line {line}' if line else ''}: {name + ': ' if name else ''}{words.rstrip('.')}."


def _words(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        name, table = str(error["loc"][-1]), _table(error["loc"][:-1])
        elsewhere = [
            each for each in ("explain", "evaluate", "keep", "run") if name in _PARTS[each].model_fields
        ]
        hint = f" in [{table}]; it belongs to [{elsewhere[0]}]" if table and elsewhere else ""
        near = get_close_matches(name, _PARTS[table].model_fields if table in _PARTS else (), n=1)
        return f"there is no such setting{hint or (f'; did you mean {near[0]!r}?' if near else '')}"
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "too_short":
        return "must name at least one"
    if error["type"] in ("tuple_type", "list_type"):
        table = "write [[model]], with two brackets" if error["loc"] == ("model",) else "write [...]"
        return f"must be a list: {table}"
    if error["type"] in ("model_type", "dict_type"):
        return "must be a table: write [" + ".".join(str(each) for each in error["loc"]) + "]"
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}, got {error['input']!r}"


def _table(place: Sequence[str | int]) -> str:
    """The table that a setting was written in; empty for the top."""
    return next((str(part) for part in place if isinstance(part, str)), "")


_PARTS: dict[str, type[BaseModel]] = {
    "": BenchSpec,
    "model": ModelPart,
    "explain": ExplainPart,
    "evaluate": EvaluatePart,
    "keep": KeepPart,
    "run": RunPart,
}


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """The line of a TOML text that a place in its data stands in: the nearest enclosing table or key that is written there."""
    lines = text.splitlines()
    found: int | None = None
    first, last = 0, len(lines)
    names = [part for part in place if isinstance(part, str)]
    for depth, name in enumerate(names):
        key = re.compile(rf'^\s*"?{re.escape(name)}"?\s*=')
        header = re.compile(rf"^\s*\[\[?\s*{re.escape('.'.join(names[: depth + 1]))}\s*\]\]?")
        after = place[list(place).index(name) + 1 :]
        number = after[0] if after and isinstance(after[0], int) else 0
        headers = [k for k in range(first, last) if header.match(lines[k])]
        if depth == 0 and headers:
            found = headers[min(number, len(headers) - 1)]
            first = found + 1
            last = next(
                (k for k in range(first, last) if re.match(r"^\s*\[\[?[^\[]*\]\]?\s*(#.*)?$", lines[k])), last
            )
            continue
        here = next((k for k in range(first, last) if key.match(lines[k])), None)
        if here is None:
            break
        found = here
        if isinstance(number, int) and after and isinstance(after[0], int):
            found = _line_of_item(lines, here, last, number)
        break
    return None if found is None else found + 1


def _line_of_item(lines: Sequence[str], first: int, last: int, number: int) -> int:
    """The line where item `number` of the array that begins in line `first` stands."""
    seen = 0
    for k in range(first, last):
        text = lines[k].split("=", 1)[1] if k == first else lines[k]
        for _ in re.finditer(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[-\w.]+', re.sub(r"#[^\"']*$", "", text)):
            if seen == number:
                return k
            seen += 1
    return first
