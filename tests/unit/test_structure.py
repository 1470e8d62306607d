"""The house's plan: imports run one way, and public names can be had."""

import ast
import subprocess
import sys
from pathlib import Path

import counterpoint as cp

SOURCE = Path(cp.__file__).parent

# Each part imports only from those before it.
ORDER = (
    "errors plain_table numerals checks progress protocols spec files batching quadrature refinement layers layouts token_grids "
    "outputs adapting images preprocessing classifier scores activations state equality layout_finding graph folding "
    "everything_through compute cutting cut default_layers evaluation layer_baseline attribution comparison visualisation "
    "metrics baselines methods data detectors models store places audit bench report inspection one_by_one explain trusting detecting "
    "auditing learning visualising terminal arguments studio cli"
).split()


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[str]:
    """Parts that a file imports when it runs; imports for type checkers only are no dependency."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "counterpoint":
            parts = node.module.split(".")
            names += [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [a.name.split(".")[1] for a in node.names if a.name.startswith("counterpoint.")]
    return [name for name in names if not name.startswith("__")]


def test_every_part_has_its_place_in_the_order():
    parts = {part_of(path) for path in SOURCE.rglob("*.py")} - {"__init__", "__main__"}
    assert parts <= set(ORDER)


def test_each_part_imports_only_from_those_above_it():
    wrong = [
        f"{path.relative_to(SOURCE)} imports {name}"
        for path in SOURCE.rglob("*.py")
        if part_of(path) in ORDER
        for name in imports_of(path)
        if ORDER.index(name) > ORDER.index(part_of(path))
    ]
    assert wrong == []


def test_no_import_is_relative():
    wrong = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert wrong == []


def test_every_public_name_can_be_had():
    for name in cp.__all__:
        assert getattr(cp, name) is not None
    assert set(dir(cp)) == set(cp.__all__)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, counterpoint; print([m for m in ('torch', 'numpy', 'scipy', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
