"""The files that a configuration of MMEngine is made of, found by reading them. Runs nothing and loads no torch."""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adm_core.errors import AdmError
from adm_core.yaml_file import read_mapping

_LIBRARY = "mmseg"
"""The package whose configurations are part of the library's version and not the user's."""


def config_files(file: Path) -> list[Path]:
    """The configuration files that one builds on, at any remove: its ``_base_``, or what ``read_base()`` imports.

    Raises:
        AdmError: one of them is missing or cannot be read.
    """
    return list(_all(file, (file.resolve(),)))


def _all(file: Path, within: tuple[Path, ...]) -> Iterator[Path]:
    for base in _bases(file):
        if base.resolve() in within:
            raise AdmError(f"configuration {file.name}: its base {base.name} leads back to it")
        yield base
        yield from _all(base, (*within, base.resolve()))


def _bases(file: Path) -> list[Path]:
    """The files that one names itself, in order; those of MMSegmentation are left out."""
    try:
        if file.suffix == ".py":
            return _bases_of_code(file, ast.parse(file.read_text(encoding="utf-8")).body)
        is_json = file.suffix == ".json"
        content: Any = json.loads(file.read_text(encoding="utf-8")) if is_json else read_mapping(file)
        return _named(file, content.get("_base_", []) if isinstance(content, dict) else [])
    except (OSError, SyntaxError, ValueError) as error:
        raise AdmError(f"configuration {file.name} cannot be read: {error}") from error


def _bases_of_code(file: Path, statements: list[ast.stmt]) -> list[Path]:
    found: list[Path] = []
    for node in statements:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "_base_" for t in node.targets):
            found += _named(file, ast.literal_eval(node.value))
        if isinstance(node, ast.With) and any(_reads_base(item.context_expr) for item in node.items):
            for inner in node.body:
                if not isinstance(inner, ast.ImportFrom) or inner.module is None:
                    raise AdmError(
                        f"configuration {file.name}: line {inner.lineno}: what stands below read_base() should be "
                        "'from FILE import ...'"
                    )
                path = _imported(file, inner.module, inner.level)
                found += [path] if path else []
    return found


def _named(file: Path, bases: str | list[str]) -> list[Path]:
    """Files that ``_base_`` names; ``mmseg::NAME`` is MMSegmentation's."""
    return [file.parent / base for base in ([bases] if isinstance(bases, str) else bases) if "::" not in base]


def _reads_base(called: ast.expr) -> bool:
    function = called.func if isinstance(called, ast.Call) else None
    return isinstance(function, ast.Name | ast.Attribute) and ast.unparse(function).endswith("read_base")


def _imported(file: Path, module: str, level: int) -> Path | None:
    """The file that MMEngine takes for an import below ``read_base()``; None where it is MMSegmentation's."""
    if level:
        return file.parent.joinpath(*[".."] * (level - 1), *module.split(".")).with_suffix(".py")
    package, *rest = module.split(".")
    if package == _LIBRARY:
        return None
    spec = importlib.util.find_spec(package)
    places = list(spec.submodule_search_locations or []) if spec else []
    if not places:
        raise AdmError(f"configuration {file.name}: read_base() imports '{module}', and there is no such package")
    return Path(places[0]).joinpath(*rest).with_suffix(".py")
