"""The rules of the house: who may import whom, what stays light, how long a file may be, what must be explained."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("adm_core", "tasks", "suites", "results")
FILES = [*sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py")), ROOT / "adm_bench.py"]
LONGEST_FILE, LONGEST_FUNCTION = 300, 60
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc"}
HEAVY = ("torch", "torchvision", "timm", "accelerate", "numpy", "scipy", "pandas", "sklearn", "matplotlib", "PIL")
"""What a command that trains nothing must not load."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def named(file: Path) -> str:
    return str(file.relative_to(ROOT))


def functions(node: ast.AST) -> Iterator[Function]:
    return (child for child in ast.walk(node) if isinstance(child, Function))


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def length(function: Function) -> int:
    first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
    return int(function.end_lineno or first) - first + 1


def public(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Functions, classes and methods that others may use: no leading underscore, not inside a function."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.ClassDef) and not child.name.startswith("_"):
            yield f"{prefix}{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from public(child, f"{child.name}.")


def adm(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, which tells at its end what it has loaded."""
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('LOADED', *sorted(sys.modules), file=sys.stderr))\n"
        "import adm_bench\n"
        f"sys.argv = ['adm', *{arguments!r}]\n"
        "adm_bench.main()\n"
    )
    given = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=given)


def lint_imports(folder: Path) -> str:
    """What import-linter says about the packages of a folder."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=300)
    return " ".join((done.stdout + done.stderr).split())


def test_import_contracts_hold():
    told = lint_imports(ROOT)
    assert ", 0 broken." in told and "Contracts: 0 kept" not in told, told


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages and their contracts, to be spoilt."""
    folder = tmp_path_factory.mktemp("copied")
    for file in FILES:
        place = folder / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize(
    ("importer", "imported", "contract"),
    [
        ("adm_core/taps.py", "tasks.catalogue", "arrows run one way"),
        ("results/report.py", "suites.spec.expand", "results stands alone"),
        ("tasks/catalogue.py", "results.records.schema", "the core and the tasks read no records"),
        ("suites/plan/plan.py", "suites.run.verdict", "inside suites"),
        ("suites/plan/plan.py", "suites.executors.base", "inside suites"),
        ("suites/spec/expand.py", "suites.work.folder", "inside suites"),
        ("suites/worker/training.py", "suites.executors.base", "inside suites"),
        ("suites/look/compare.py", "suites.run.runner", "inside suites"),
        ("suites/run/runner.py", "suites.cli.console", "inside suites"),
        ("suites/executors/local.py", "suites.worker.training", "what a worker does inside is its own"),
        ("suites/run/runner.py", "suites.worker.opening", "cells are opened by workers"),
    ],
)
def test_a_wrong_import_breaks_its_contract(copied, importer, imported, contract):
    file = copied / importer
    whole = file.read_text()
    file.write_text(f"{whole}\nimport {imported}\n")
    try:
        told = lint_imports(copied)
    finally:
        file.write_text(whole)
    assert re.search(rf"{contract}(?:(?!KEPT).)*? BROKEN", told), told


def test_tasks_do_not_import_each_other():
    """``tasks.datasets`` is shared; everything else under ``tasks`` keeps to itself."""
    folders = {path.name for path in (ROOT / "tasks").iterdir() if (path / "__init__.py").exists()}
    for file in (ROOT / "tasks").rglob("*.py"):
        own = file.relative_to(ROOT / "tasks").parts[0]
        for module in imports(file):
            other = module.split(".")[1] if module.startswith("tasks.") else own
            assert other in (own, "datasets") or other not in folders, f"{named(file)} imports {module}"


def test_results_imports_neither_torch_nor_anything_of_ours():
    for file in (ROOT / "results").rglob("*.py"):
        roots = {module.split(".")[0] for module in imports(file)}
        assert not roots & {"torch", "adm_core", "tasks", "suites"}, named(file)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        *[
            ("list", what)
            for what in ("methods", "tasks", "benchmarks", "networks", "protocols", "suites", "executors")
        ],
        ("plan", "quick"),
        ("plan", "cifar100-offline", "--json"),
        ("status", "smoke"),
        ("report", "--help"),
        ("export", "--help"),
        ("compare", "--help"),
        ("insight", "--help"),
        ("run", "--help"),
        ("new-method", "--help"),
    ],
    ids=" ".join,
)
def test_commands_that_train_nothing_load_nothing_heavy(arguments, tmp_path):
    store = ("--store", str(tmp_path)) if arguments[0] in ("plan", "status") else ()
    done = adm(*arguments, *store)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stderr.rsplit("LOADED", 1)[1].split())
    assert sorted(loaded & set(HEAVY)) == []
    assert done.stdout.strip()


@pytest.mark.parametrize("package", ["mmseg", "mmengine", "mmcv", "diffusers"])
def test_large_frameworks_stay_in_their_own_tasks(package):
    homes = {"diffusers": "tasks/diffusion/"}
    for file in FILES:
        if package in {module.split(".")[0] for module in imports(file)}:
            assert named(file).startswith(homes.get(package, "tasks/segmentation/")), named(file)


def test_files_are_short():
    lengths = {named(file): len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_functions_are_short():
    found = {f"{named(file)}:{f.name}": length(f) for file in FILES for f in functions(tree(file))}
    assert {name: lines for name, lines in found.items() if lines > LONGEST_FUNCTION} == {}


def test_public_names_have_docstrings():
    """A method that overrides a documented one of its own package's base class still says what is its own."""
    silent = [named(file) for file in FILES if tree(file).body and not ast.get_docstring(tree(file))]
    for file in FILES:
        silent += [f"{named(file)}: {name}" for name, node in public(tree(file)) if not ast.get_docstring(node)]
    assert silent == []


def test_public_functions_are_fully_annotated():
    bare = []
    for file in FILES:
        for name, node in public(tree(file)):
            if isinstance(node, ast.ClassDef):
                continue
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            lacking = [a.arg for a in given if a.annotation is None and a.arg not in ("self", "cls")]
            if lacking or node.returns is None:
                bare.append(f"{named(file)}: {name} {lacking or 'return'}")
    assert bare == []


def test_no_module_has_a_name_that_says_nothing():
    names = [file.relative_to(ROOT) for file in FILES]
    vague = [str(path) for path in names if FORBIDDEN_NAMES & {part.removesuffix(".py") for part in path.parts}]
    assert vague == []
