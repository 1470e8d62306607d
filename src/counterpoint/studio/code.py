"""Copy as code: the Python and the command line that make what a page shows."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from counterpoint.studio.questions import (
    Cell,
    Curves,
    Deviation,
    Layers,
    Preview,
    Question,
    Results,
    Sanity,
    Top,
    Verdict,
    photos_of,
)


@dataclass(frozen=True)
class Names:
    """What things are called in Python; empty while the worker is loading."""

    python: Mapping[str, str] = field(default_factory=dict)
    """Name in text form -> "cp.baselines.Blur"."""
    layered: frozenset[str] = frozenset()
    """Methods that explain layers only."""


_SAMPLE = "sample:"
# Methods that refine to a tolerance, which random weights hardly ever let them reach.
_REFINED = ("integrated_gradients", "revised_ig")


def command_of(question: Question, photographs: Mapping[str, str]) -> str | None:
    """The command line that makes it; None where no command does.

    Args:
        question: What the page shows.
        photographs: Id -> what names the photograph on the command line.
    """
    match question:
        case Cell():
            words = ["explain", photographs[question.photo], "--model", question.model]
            if question.target != "top1":
                words += ["--target", str(question.target)]
            if question.score != "logit":
                words += ["--score", question.score]
            words += ["--baseline", question.baseline, "--method", question.method]
            if question.layer:
                words += ["--layer", question.layer]
        case Layers():
            words = ["layers", question.model]
        case _:
            return None
    return shlex.join(["counterpoint", *words])


def python_of(
    question: Question, photographs: Mapping[str, str], *, names: Names, results: str = "DIR"
) -> str:
    """A Python script that makes it.

    Args:
        question: What the page shows.
        photographs: Id -> what names the photograph on the command line.
        names: What methods, baselines and rules are called.
        results: What names the results on the command line.
    """
    if isinstance(question, Results):
        return _joined(_results(results))
    return _joined([*_opening(question, photographs), "", *_body(question, names)])


def _body(question: Question, names: Names) -> list[str]:
    match question:
        case Top():
            return [
                "for index, label, probability in classifier.top(images, k=5)[0]:",
                "    print(index, label, round(probability, 4))",
            ]
        case Preview():
            return [
                f"baseline = {expression('baseline', question.baseline, names)}",
                'comparison = cp.compare(cp.logit(classifier, "top1"), images, baseline=baseline)',
                "print(comparison.baseline_inputs.shape, comparison.score, comparison.baseline_score)",
            ]
        case Layers():
            return [
                "for layer in inspect_layers(classifier):",
                "    print(layer.name, layer.kind, layer.shape, layer.cut_text, layer.role)",
            ]
        case Cell():
            return [
                *_explained(question, names),
                "print(attribution.target, attribution.result, attribution.error, attribution.budget())",
                'attribution.save("attribution.safetensors")',
            ]
        case Curves():
            return _curves(question, names)
        case Deviation():
            return [
                *_explained(question.cell, names),
                "deviation = cp.metrics.activation_deviation(score, images, attribution, baseline=baseline)",
                'print(deviation.layers, deviation.values("excess"), deviation.values("excess", floor=True))',
            ]
        case Sanity():
            return _sanity(question.cell, names)
        case Verdict():
            return [
                *_curves(question.curves, names),
                "",
                "# The first map again: it is the one that is judged, the second was its control.",
                *_explained(question.cell, names),
                "deviation = cp.metrics.activation_deviation(score, images, attribution, baseline=baseline)",
                'print(deviation.mean("excess"), deviation.mean("excess", floor=True))',
                "",
                *_sanity(question.cell, names, settled=True),
            ]
    raise TypeError(f"no such question: {question!r}")


def _opening(question: Question, photographs: Mapping[str, str]) -> list[str]:
    """Imports, model and images."""
    cell = _cell_of(question)
    model = cell.model if cell is not None else question.model  # type: ignore[union-attr]
    lines = ["import counterpoint as cp"]
    ids = photos_of(question)
    argument = photographs[ids[0]] if ids else ""
    if isinstance(question, Layers):
        lines.append("from counterpoint.inspection import inspect_layers")
    if argument.startswith(_SAMPLE):
        lines.append("from counterpoint.data.photographs import find_photographs")
    lines += ["", f"classifier = cp.load_model({_quoted(model)})"]
    if argument:
        paths = (
            f"find_photographs([{_quoted(argument)}])"
            if argument.startswith(_SAMPLE)
            else f"[{_quoted(argument)}]"
        )
        lines.append(f"images = classifier.preprocess({paths})")
    return lines


def _cell_of(question: Question) -> Cell | None:
    match question:
        case Cell():
            return question
        case Curves():
            return question.cells[0]
        case Deviation() | Sanity() | Verdict():
            return question.cell
    return None


def _score(cell: Cell) -> str:
    return f"score = cp.{cell.score}(classifier, {json.dumps(cell.target)})"


def _compared(cell: Cell, names: Names, *, score: bool = True) -> list[str]:
    layer = f", layer={_quoted(cell.layer)}" if cell.layer and cell.layer != "input" else ""
    baseline = expression("baseline", cell.baseline, names)
    return [
        *([_score(cell)] if score else []),
        f"baseline = {baseline}",
        f"comparison = cp.compare(score, images, baseline=baseline{layer})",
    ]


def _explained(cell: Cell, names: Names) -> list[str]:
    return [
        *_compared(cell, names),
        f"method = {expression('method', cell.method, names)}",
        *_at_layer(cell, names),
    ]


def _at_layer(cell: Cell, names: Names) -> list[str]:
    explained = ["attribution = comparison.explain(method)"]
    name = cell.method.partition(":")[0]
    known = name in names.python
    if cell.layer or (known and name not in names.layered):
        return explained
    there = "comparison = comparison.at(default_map_layer(classifier.module, images))"
    return [there, *explained] if known else ['if method.level == "layer":', f"    {there}", *explained]


def _curves(question: Curves, names: Names) -> list[str]:
    lines = [_score(question.cells[0]), "maps = {}"]
    for place, cell in enumerate(question.cells, 1):
        lines += [
            *_compared(cell, names, score=False),
            f"method = {expression('method', cell.method, names)}",
            *_at_layer(cell, names),
            f'maps["map {place}"] = attribution',
            "",
        ]
    baselines = ", ".join(expression("baseline", text, names) for text in question.baselines)
    return [
        *lines,
        f"table = cp.metrics.curves(score, images, maps, [{baselines}], steps={question.steps})",
        "for row in table.to_records():",
        '    print(row["kind"], row["baseline"], row["saliency"], row["area"])',
    ]


def _sanity(cell: Cell, names: Names, *, settled: bool = False) -> list[str]:
    compared = [] if settled else _explained(cell, names)
    bounded = (
        ["method = replace(method, budget=max(32, int(attribution.gradient_evaluations[0])))"]
        if cell.method.partition(":")[0] in _REFINED
        else []
    )
    return [
        *compared,
        *bounded,
        "target = score.bind(images).classes.tolist()",
        "",
        "",
        "def explain(model, images):",
        f"    random = cp.{cell.score}(model, target)",
        "    at = cp.compare(random, images, baseline=baseline, layer=comparison.layer)",
        "    return at.explain(method)",
        "",
        "",
        "check = cp.metrics.randomised_weights(classifier, explain, images)",
        "print(check.layers, check.similarity.spearman)",
    ]


def _results(results: str) -> list[str]:
    if results.endswith(".safetensors"):
        return [
            "import counterpoint as cp",
            "",
            f"attribution = cp.load_attribution({_quoted(results)})",
            "print(attribution.target, attribution.result, attribution.error)",
        ]
    return [
        "from counterpoint.report.page import write_report",
        "",
        f"print(write_report({_quoted(results)}))",
    ]


def expression(kind: str, text: str, names: Names) -> str:
    """What makes the object of a text: `cp.baselines.Blur(sigma=20)`, or `spec.build("baseline", "blur:sigma=20")` for an unknown name."""
    name, _, rest = text.partition(":")
    called = names.python.get(name.strip())
    if called is None:
        return f"spec.build({_quoted(kind)}, {_quoted(text)})"
    return f"{called}({', '.join(_argument(part, names) for part in _split(rest))})"


def _argument(text: str, names: Names) -> str:
    head, equals, tail = text.partition("=")
    if equals and "(" not in head:
        return f"{head.strip()}={_value(tail.strip(), names)}"
    return _value(text, names)


def _value(text: str, names: Names) -> str:
    lower = text.lower()
    if lower in ("true", "false", "none"):
        return lower.capitalize()
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", lower):
        return text.removeprefix("+")
    if text.endswith(")") and "(" in text:
        name, _, rest = text.partition("(")
        inner = ", ".join(_argument(part, names) for part in _split(rest[:-1]))
        if not name:
            return f"({inner},)"
        return f"{names.python.get(name.strip(), name.strip())}({inner})"
    return f"{names.python[text]}()" if text in names.python else _quoted(text)


def _split(text: str) -> Sequence[str]:
    """`text` cut at its commas, those within brackets left alone."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _joined(lines: Sequence[str]) -> str:
    text = "\n".join(lines) + "\n"
    if "default_map_layer(" in text:
        text = text.replace(
            "\nclassifier =", "from counterpoint.places import default_map_layer\n\nclassifier =", 1
        )
    if " replace(method" in text:
        text = f"from dataclasses import replace\n\n{text}"
    if "spec.build(" in text:
        text = text.replace(
            "import counterpoint as cp\n", "import counterpoint as cp\nfrom counterpoint import spec\n", 1
        )
    return text


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
