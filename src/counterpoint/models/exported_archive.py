"""Archives of `torch.export.save`, made safe to load.

`torch.export.load` unpickles what an archive asks it to (weights of unusual kinds, custom objects, example inputs), evaluates the text of
symbolic sizes and compiles the text of guards. So the archive is read here first: what would be run is refused or left out, and torch is
handed a copy that holds nothing else than what was read.
"""

import ast
import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from counterpoint.errors import InputError

_OPERATORS = (
    *(
        "getitem",
        "add",
        "sub",
        "mul",
        "floordiv",
        "truediv",
        "mod",
        "pow",
        "neg",
        "pos",
        "eq",
        "ne",
        "lt",
        "le",
    ),
    *("gt", "ge", "and_", "or_", "not_"),
)
"""Of Python's `operator`, between sizes."""
_FUNCTIONS = re.compile(
    r"Symbol|Integer|Float|Rational|Add|Mul|Pow|Min|Max|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|ModularIndexing|IntTrueDiv|FloatTrueDiv|"
    r"CeilToInt|FloorToInt|TruncToInt|RoundToInt|ToFloat|Identity|PowByNatural|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not"
)
_SYMBOL = re.compile(r"_?[a-z]+\d+|true|false|True|False|oo|int_oo")
_NODES = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.Constant, ast.Name, ast.Call),
    *(ast.keyword, ast.Load, ast.operator, ast.unaryop, ast.cmpop, ast.boolop),
)


def safe_archive(path: Path) -> tuple[io.BytesIO, dict[str, Any], dict[str, str]]:
    """A copy of an archive that runs nothing when torch loads it.

    Returns:
        The copy, the graph as plain data, and the extra files by name.

    Raises:
        InputError: no such archive, or one that would run code; the message says what.
    """
    try:
        with zipfile.ZipFile(path) as opened:
            names = opened.namelist()
            if len(set(names)) != len(names):
                raise InputError(f"'{path}' holds two files of one name.")
            files = {name: opened.read(name) for name in names}
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise InputError(f"'{path}' is no archive of torch.export.save: {error}.") from error
    roots = {name.split("/", 1)[0] for name in files}
    inside = {name.split("/", 1)[1]: content for name, content in files.items() if "/" in name}
    if "constants.pkl" in inside:
        raise InputError(
            f"'{path}' is a TorchScript archive, which is not read; use torch.export.export and torch.export.save."
        )
    if len(roots) != 1 or "models/model.json" not in inside:
        raise InputError(
            f"'{path}' is no archive of torch.export.save, or of a torch before 2.8; export and save the model again."
        )
    try:
        graph = json.loads(inside["models/model.json"])
        _check_files(inside)
        _check_graph(graph)
        plain = _plainer(graph)
    except InputError as error:
        raise InputError(f"'{path}' is refused: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"'{path}' is damaged: {error!r}.") from error
    kept = {
        name: content
        for name, content in inside.items()
        if not name.startswith(("extra/", "data/sample_inputs/"))
    }
    kept["models/model.json"] = json.dumps(plain).encode()
    kept["data/sample_inputs/model.pt"] = b""  # a pickle; without it there are no example inputs
    copy = io.BytesIO()
    (root,) = roots
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as written:
        for name, content in kept.items():
            written.writestr(f"{root}/{name}", content)
    copy.seek(0)
    extra = {
        name.removeprefix("extra/"): content.decode("utf-8", "replace")
        for name, content in inside.items()
        if name.startswith("extra/")
    }
    return copy, plain, extra


def _check_files(inside: dict[str, bytes]) -> None:
    """Nothing but one graph, plain numbers, and what is not read."""
    for name in inside:
        if name.startswith("data/aotinductor"):
            raise InputError("it holds compiled code; save the exported program itself.")
        if name.startswith("models/") and name != "models/model.json":
            raise InputError("it holds several models; save one.")
        if name in ("data/weights/model.pt", "data/constants/model.pt"):
            raise InputError("its weights are pickled, as torch before 2.8 did; save it again.")
    for kind in ("weights", "constants"):
        entries = json.loads(inside[f"data/{kind}/model_{kind}_config.json"])["config"]
        for name, entry in entries.items():
            if entry["use_pickle"] or not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
                raise InputError(
                    f"'{name}' is pickled, which loading would run as code; only plain tensors are read."
                )


def _check_graph(graph: dict[str, Any]) -> None:
    """Only operators of torch, and sizes that are sums and products."""
    module = graph["graph_module"]
    if module["graph"]["custom_obj_values"]:
        raise InputError("it has custom objects, which are pickled; only plain tensors are read.")
    for node in module["graph"]["nodes"]:
        target = str(node["target"])
        family, _, name = target.rpartition(".")
        if not (
            (target.startswith("torch.ops.aten.") and ".from_file" not in target)
            or (family == "_operator" and name in _OPERATORS)
            or re.fullmatch(r"torch\.sym_\w+|math\.(ceil|floor|trunc)", target)
        ):
            raise InputError(f"its graph asks for '{target}', which is no operator of torch's own (aten).")
    for text in _sizes(graph):
        _check_size(text)


def _sizes(data: Any) -> Iterator[str]:
    """The text of every symbolic size."""
    if isinstance(data, dict):
        for name, value in data.items():
            if name == "expr_str":
                yield value
            else:
                yield from _sizes(value)
    elif isinstance(data, list):
        for value in data:
            yield from _sizes(value)


def _check_size(text: Any) -> None:
    """Refuse what is no arithmetic: the text is evaluated as Python when it is loaded."""
    said = f"its graph has a size {str(text)[:60]!r}, which is no arithmetic of sizes."
    try:
        tree = ast.parse(text, mode="eval") if isinstance(text, str) and len(text) < 10_000 else None
    except (SyntaxError, ValueError):
        tree = None
    if tree is None:
        raise InputError(said)
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        known = isinstance(node, _NODES)
        if isinstance(node, ast.Call):
            known = isinstance(node.func, ast.Name) and bool(_FUNCTIONS.fullmatch(node.func.id))
        elif isinstance(node, ast.Name) and node not in called:
            known = bool(_SYMBOL.fullmatch(node.id))
        elif isinstance(node, ast.Constant):
            known = type(node.value) in (int, float, bool) or (
                isinstance(node.value, str) and bool(_SYMBOL.fullmatch(node.value))
            )
        if not known:
            raise InputError(said)


def _plainer(graph: dict[str, Any]) -> dict[str, Any]:
    """The graph without guards, which are compiled, and of the notes only which layer an operator is of."""
    graph = {**graph, "guards_code": []}
    for node in graph["graph_module"]["graph"]["nodes"]:
        notes = node["metadata"]
        node["metadata"] = {name: notes[name] for name in ("nn_module_stack",) if name in notes}
    return graph
