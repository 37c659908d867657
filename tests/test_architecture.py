"""The rules of the house: who may import whom, what stays light, how long a file may be, what must be explained."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("adm_core", "tasks", "suites", "results")
FILES = [
    *sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py")),
    ROOT / "adm_bench.py",
    ROOT / "adm_files.py",
]
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


def lint_imports(folder: Path) -> str:
    """What import-linter says about the packages of a folder."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=300)
    return " ".join((done.stdout + done.stderr).split())


def test_import_contracts_hold():
    told = lint_imports(ROOT)
    assert ", 0 broken." in told and "Contracts: 0 kept" not in told, told


SPOILT = [
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
]
"""Imports that must not be: by whom, of what, and the contract that says so."""
CIRCLE = ("tasks/language/gpt2.py", "tasks.language.networks")
"""By whom and of what: the imported file imports the other itself, inside a function."""


@pytest.fixture(scope="module")
def told_of_spoilt(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What import-linter says about a copy of the packages with all wrong imports in it."""
    folder = tmp_path_factory.mktemp("copied")
    for file in FILES:
        place = folder / file.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for importer, imported in (*((importer, imported) for importer, imported, _ in SPOILT), CIRCLE):
        with (folder / importer).open("a") as file:
            file.write(f"\nimport {imported}\n")
    return lint_imports(folder)


@pytest.mark.parametrize(("importer", "imported", "contract"), SPOILT)
def test_a_wrong_import_breaks_its_contract(told_of_spoilt, importer, imported, contract):
    details = told_of_spoilt.split("Broken contracts")[1]
    titles = "|".join(contract for _, _, contract in SPOILT)
    (of_contract,) = re.findall(rf"{contract}.*?(?={titles}|$)", details)
    assert f"{importer.removesuffix('.py').replace('/', '.')} -> {imported} (l." in of_contract


def test_a_circle_of_imports_breaks_its_contract(told_of_spoilt):
    details = told_of_spoilt.split("Broken contracts")[1]
    told = re.search(r"No cycles are allowed in tasks\.language\. It could be made acyclic.*? - (\S+ -> \S+)", details)
    assert told and told[1] in (".gpt2 -> .networks", ".networks -> .gpt2")


def test_tasks_do_not_import_each_other():
    """``tasks.datasets`` is shared; everything else under ``tasks`` keeps to itself."""
    folders = {path.name for path in (ROOT / "tasks").iterdir() if (path / "__init__.py").exists()}
    for file in (ROOT / "tasks").rglob("*.py"):
        own = file.relative_to(ROOT / "tasks").parts[0]
        for module in imports(file):
            other = module.split(".")[1] if module.startswith("tasks.") else own
            assert other in (own, "datasets") or other not in folders, f"{named(file)} imports {module}"


def test_every_declared_dependency_is_used():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    named = {re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower() for line in declared}
    imported = {module.split(".")[0] for file in FILES for module in imports(file)}
    installed = packages_distributions()
    used = {name.lower().replace("_", "-") for root in imported for name in installed.get(root, ())}
    without_import = {
        **dict.fromkeys(("mmcv-lite", "ftfy", "regex"), "mmsegmentation imports it"),
        "pyarrow": "pandas writes Parquet with it",
        "scikit-learn": "its digits and photographs are read as files",
    }
    assert named - used == without_import.keys()


def test_results_imports_neither_torch_nor_anything_of_ours():
    for file in (ROOT / "results").rglob("*.py"):
        roots = {module.split(".")[0] for module in imports(file)}
        assert not roots & {"torch", "adm_core", "tasks", "suites"}, named(file)


LISTS = ("methods", "tasks", "benchmarks", "networks", "protocols", "suites", "executors")
LIGHT = [["--help"], *[["list", what] for what in LISTS], ["plan", "quick"], ["plan", "cifar100-offline", "--json"]]
LIGHT += [["status", "smoke"], *[[command, "--help"] for command in ("report", "export", "compare", "insight", "run")]]
LIGHT += [["new-method", "--help"]]
RUN = """
import contextlib, io, json, sys
import adm_bench
for arguments in json.loads(sys.argv[1]):
    sys.argv, out, code = ["adm", *arguments], io.StringIO(), 0
    with contextlib.redirect_stdout(out):
        try:
            adm_bench.main()
        except SystemExit as end:
            code = end.code
    print(json.dumps([arguments, code or 0, len(out.getvalue()), sorted(sys.modules)]))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, int, list[str]]]:
    """Exit status, length of the output and what is loaded after each light command, run one after the other."""
    store = ["--store", str(tmp_path_factory.mktemp("store"))]
    commands = [[*command, *(store if command[0] in ("plan", "status") else [])] for command in LIGHT]
    done = subprocess.run([sys.executable, "-c", RUN, json.dumps(commands)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = map(json.loads, done.stdout.splitlines())
    return {" ".join(command): (*seen,) for command, (_, *seen) in zip(LIGHT, told, strict=True)}


@pytest.mark.parametrize("command", map(" ".join, LIGHT))
def test_commands_that_train_nothing_load_nothing_heavy(loaded, command):
    code, length_of_output, modules = loaded[command]
    assert code == 0 and length_of_output
    assert sorted(set(modules) & set(HEAVY)) == []


@pytest.mark.parametrize("package", ["mmseg", "mmengine", "mmcv", "diffusers", "transformers"])
def test_large_frameworks_stay_in_their_own_tasks(package):
    homes = {"diffusers": "tasks/diffusion/", "transformers": "tasks/language/"}
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


def test_all_generators_of_torch_are_seeded_by_workers_alone():
    """``torch.manual_seed`` reseeds GPUs, whose state ``fork_rng(devices=[])`` does not give back."""
    seeding = [named(file) for file in FILES if "torch.manual_seed(" in file.read_text(encoding="utf-8")]
    assert seeding and [file for file in seeding if not file.startswith("suites/worker/")] == []
