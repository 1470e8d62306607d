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
from counterpoint.studio.textform import parts_of


@dataclass(frozen=True)
class Names:
    """What things are called in Python; empty while the worker is loading."""

    python: Mapping[str, str] = field(default_factory=dict)
    """Name in text form -> "cp.baselines.Blur"."""
    layered: frozenset[str] = frozenset()
    """Methods that explain layers only."""


_SAMPLE = "sample:"


@dataclass(frozen=True)
class Given:
    """What the studio was started with, as the command line takes it."""

    results: str = "DIR"
    bank: str | None = None
    """The folder whose photographs say what is in distribution; None where it has too few."""


def command_of(question: Question, photographs: Mapping[str, str], *, given: Given) -> str | None:
    """The command line that makes it; None where no command does.

    Args:
        question: What the page shows.
        photographs: Id -> what names the photograph on the command line.
        given: What the studio was started with.
    """
    match question:
        case Cell():
            words = ["explain", *_asked([question], photographs)]
        case Layers():
            words = ["layers", question.model]
        case Verdict():
            words = ["trust", *_asked([question.cell], photographs), *_judged(question.curves, given)]
        case Curves():
            if not _is_grid(question.cells):
                return None
            words = ["trust", *_asked(question.cells, photographs), "--check", "curves"]
            words += _judged(question, given)
        case Deviation():
            words = ["trust", *_asked([question.cell], photographs), "--check", "pathway"]
        case Sanity():
            words = ["trust", *_asked([question.cell], photographs), "--check", "weights"]
        case Results() if not given.results.endswith(".safetensors"):
            words = ["report", given.results]
        case _:
            return None
    return shlex.join(["counterpoint", *words])


def _asked(cells: Sequence[Cell], photographs: Mapping[str, str]) -> list[str]:
    """Photograph, model, class and score, and every baseline, method and layer."""
    first = cells[0]
    words = [photographs[first.photo], "--model", first.model]
    if first.target != "top1":
        words += ["--target", str(first.target)]
    if first.score != "logit":
        words += ["--score", first.score]
    for option, texts in (
        ("--baseline", [cell.baseline for cell in cells]),
        ("--method", [cell.method for cell in cells]),
        ("--layer", [cell.layer for cell in cells if cell.layer]),
    ):
        for text in dict.fromkeys(texts):
            words += [option, text]
    return words


def _is_grid(cells: Sequence[Cell]) -> bool:
    """Whether the cells are every method against every baseline, all at one layer: what a command can ask for."""
    grid = {(b.baseline, m.method) for b in cells for m in cells}
    return len({cell.layer for cell in cells}) == 1 and {(c.baseline, c.method) for c in cells} == grid


def _judged(curves: Curves, given: Given) -> list[str]:
    words = [word for text in curves.baselines for word in ("--judge", text)]
    if curves.steps != 10:
        words += ["--steps", str(curves.steps)]
    return words if given.bank is None else [*words, "--bank", given.bank]


def python_of(question: Question, photographs: Mapping[str, str], *, names: Names, given: Given) -> str:
    """A Python script that makes it.

    Args:
        question: What the page shows.
        photographs: Id -> what names the photograph on the command line.
        names: What methods, baselines and rules are called.
        given: What the studio was started with.
    """
    if isinstance(question, Results):
        return _joined(_results(given.results))
    return _joined([*_opening(question, photographs), "", *_body(question, names, given)])


def _body(question: Question, names: Names, given: Given) -> list[str]:
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
                "for layer in cp.inspect_layers(classifier):",
                "    print(layer.name, layer.kind, layer.shape, layer.cut_text, layer.role)",
            ]
        case Cell():
            return [
                *_asking(question, names),
                "attribution = comparison.explain(method)",
                "print(attribution.target, attribution.result, attribution.error, attribution.budget())",
                'attribution.save("attribution.safetensors")',
            ]
        case Curves():
            return _curves(question, names)
        case Deviation():
            return [
                *_asking(question.cell, names),
                'found = cp.trust(comparison, method, checks=["pathway"])',
                'for kind, numbers in found.facts["pathway"]["kinds"].items():',
                '    print(kind, numbers["mean"], numbers["mean_floor"])',
            ]
        case Sanity():
            return [
                *_asking(question.cell, names),
                'found = cp.trust(comparison, method, checks=["weights"])',
                'for step in found.facts["weights"]["steps"]:',
                '    print(step["randomised"], step["layer"], step["spearman"], step["absolute_spearman"])',
            ]
        case Verdict():
            judges = ", ".join(expression("baseline", text, names) for text in question.baselines)
            banked = [] if given.bank is None else _bank(given.bank)
            bank = ", bank=bank" if banked else ""
            return [
                *_asking(question.cell, names),
                *banked,
                f"found = cp.trust(comparison, method, judges=[{judges}], steps={question.steps}{bank})",
                "print(found.standing, found.words)",
                "for reason in found.verdict.reasons:",
                "    print(reason.check, reason.standing, reason.words)",
            ]
    raise TypeError(f"no such question: {question!r}")


def _opening(question: Question, photographs: Mapping[str, str]) -> list[str]:
    """Imports, model and images."""
    cell = _cell_of(question)
    model = cell.model if cell is not None else question.model  # type: ignore[union-attr]
    lines = ["import counterpoint as cp"]
    ids = photos_of(question)
    argument = photographs[ids[0]] if ids else ""
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


def _compared(cell: Cell, names: Names, *, score: bool) -> list[str]:
    layer = f", layer={_quoted(cell.layer)}" if cell.layer and cell.layer != "input" else ""
    baseline = expression("baseline", cell.baseline, names)
    return [
        *([_score(cell)] if score else []),
        f"baseline = {baseline}",
        f"comparison = cp.compare(score, images, baseline=baseline{layer})",
    ]


def _asking(cell: Cell, names: Names, *, score: bool = True) -> list[str]:
    return [
        *_compared(cell, names, score=score),
        f"method = {expression('method', cell.method, names)}",
        *_settled(cell, names),
    ]


def _settled(cell: Cell, names: Names) -> list[str]:
    """The usual layer, for a method that explains layers only."""
    name = cell.method.partition(":")[0]
    known = name in names.python
    if cell.layer or (known and name not in names.layered):
        return []
    there = "comparison = comparison.at(default_map_layer(classifier.module, images))"
    return [there] if known else ['if method.level == "layer":', f"    {there}"]


def _bank(folder: str) -> list[str]:
    return [
        f"paths = reference_of(find_photographs([{_quoted(folder)}]))",
        "bank = cp.metrics.Bank.of(classifier, (classifier.preprocess([path]) for path in paths))",
    ]


def _curves(question: Curves, names: Names) -> list[str]:
    lines = [_score(question.cells[0]), "maps = {}"]
    for cell in question.cells:
        lines += [
            *_asking(cell, names, score=False),
            f"maps[{_quoted(_map_name(cell))}] = comparison.explain(method)",
            "",
        ]
    baselines = ", ".join(expression("baseline", text, names) for text in question.baselines)
    return [
        *lines,
        f"table = cp.metrics.curves(score, images, maps, [{baselines}], steps={question.steps})",
        "for row in table.to_records():",
        '    print(row["kind"], row["baseline"], row["saliency"], row["area"])',
    ]


def _map_name(cell: Cell) -> str:
    """No two maps of a question have the same."""
    return f"{cell.method}{f' at {cell.layer}' if cell.layer else ''} against {cell.baseline}"


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
    return f"{called}({', '.join(_argument(part, names) for part in parts_of(rest))})"


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
        inner = ", ".join(_argument(part, names) for part in parts_of(rest[:-1]))
        if not name:
            return f"({inner},)"
        return f"{names.python.get(name.strip(), name.strip())}({inner})"
    return f"{names.python[text]}()" if text in names.python else _quoted(text)


def _joined(lines: Sequence[str]) -> str:
    text = "\n".join(lines) + "\n"
    if "default_map_layer(" in text:
        text = text.replace(
            "\nclassifier =", "from counterpoint.places import default_map_layer\n\nclassifier =", 1
        )
    if "reference_of(" in text:
        text = text.replace(
            "\nclassifier =", "from counterpoint.trusting.reference import reference_of\n\nclassifier =", 1
        )
    if "find_photographs(" in text and "import find_photographs" not in text:
        text = text.replace(
            "import counterpoint as cp\n",
            "import counterpoint as cp\nfrom counterpoint.data.photographs import find_photographs\n",
            1,
        )
    if "spec.build(" in text:
        text = text.replace(
            "import counterpoint as cp\n", "import counterpoint as cp\nfrom counterpoint import spec\n", 1
        )
    return text


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
