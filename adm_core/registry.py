"""Where methods are found: files of ``adm_core/methods``, entry points, and files named by the user.

A built-in method ``name`` lives in ``adm_core/methods/name.py`` and is imported when asked for. Plug-ins come
from the entry-point group ``adm_core.methods`` or from :func:`load_file`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from adm_core.card import REGIMES
from adm_core.errors import AdmError, unknown
from adm_core.method import Method, Scalar

ENTRY_POINTS = "adm_core.methods"
_FOLDER = Path(__file__).parent / "methods"
_known: dict[str, type[Method]] = {}


def register(method: type[Method]) -> type[Method]:
    """Class decorator that makes a method available under its card's name.

    Raises:
        AdmError: no card, no regime, a ``build`` of other arguments, or the name is taken by another file (both files
            are named).
    """
    card = getattr(method, "card", None)
    if card is None:
        raise AdmError(f"{_file_of(method)}: class {method.__name__} has no card = MethodCard(...)")
    if not card.regimes or not card.regimes <= set(REGIMES):
        raise AdmError(f"{_file_of(method)}: method '{card.name}': regimes must be among {', '.join(REGIMES)}")
    if "+" in card.name:
        raise AdmError(f"{_file_of(method)}: method '{card.name}': '+' is kept for composition")
    taken_by_build = len(inspect.signature(method.build).parameters)
    if taken_by_build != len(inspect.signature(Method.build).parameters):
        raise AdmError(
            f"{_file_of(method)}: method '{card.name}': build takes {taken_by_build - 1} arguments where three are "
            "given; write build(self, student, teacher, facts)"
        )
    builtin = _FOLDER / f"{_module_of(card.name)}.py"
    other = _known.get(card.name)
    taken = _file_of(other) if other else (builtin if builtin.exists() else None)
    if taken is not None and Path(taken).resolve() != Path(_file_of(method)).resolve():
        raise AdmError(f"two methods are named '{card.name}': {taken} and {_file_of(method)}; rename one")
    _known[card.name] = method
    return method


def names() -> list[str]:
    """Every method that can be asked for, sorted; imports none of the built-in files."""
    builtin = {p.stem.replace("_", "-") for p in _FOLDER.glob("*.py") if p.stem != "__init__"}
    plugged = {point.name for point in entry_points(group=ENTRY_POINTS)}
    return sorted(builtin | plugged | set(_known))


def get(name: str) -> type[Method]:
    """The class of one method.

    Raises:
        AdmError: unknown name (with nearest names), or a plug-in that cannot be imported.
    """
    if name in _known:
        return _known[name]
    if (_FOLDER / f"{_module_of(name)}.py").exists():
        importlib.import_module(f"adm_core.methods.{_module_of(name)}")
    else:
        _load_entry_point(name)
    if name not in _known:
        raise unknown("method", name, names())
    return _known[name]


def create(spec: str, settings: dict[str, dict[str, Scalar]] | None = None) -> Method:
    """A method, or several composed: ``"dml+adm"``.

    Args:
        spec: one name, or names joined by ``+`` in any order.
        settings: per method name, the settings that differ from its defaults.

    Raises:
        AdmError: unknown method, unknown or invalid setting, the same method twice.
    """
    from adm_core.compose import Composition

    settings = settings or {}
    parts = [part.strip() for part in spec.split("+")]
    if len(set(parts)) != len(parts):
        raise AdmError(f"method '{spec}' names the same part twice")
    if len(parts) > 1 and "none" in parts:
        raise AdmError(f"method '{spec}': 'none' adds nothing to a composition; leave it out")
    for name in settings:
        if name not in parts:
            raise unknown("method", name, parts, where=f"settings for '{spec}'")
    # One order for every spelling, as the losses of one cell are added in one; this one as suites have long had it.
    methods = [get(part)(**settings.get(part, {})) for part in sorted(parts, reverse=True)]
    return methods[0] if len(methods) == 1 else Composition(methods)


def load_file(path: str | Path) -> list[str]:
    """Import a file of the user's own and return the names of the methods that it registered.

    Raises:
        AdmError: no such file, the import fails (the error and its line are named), or it registers nothing.
    """
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise AdmError(f"method file {path}: no such file")
    before = set(_known)
    module = f"adm_method_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if module in sys.modules:
        return sorted(n for n, m in _known.items() if m.__module__ == module)
    spec = importlib.util.spec_from_file_location(module, file)
    if spec is None or spec.loader is None:
        raise AdmError(f"method file {path}: not a Python file")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[module] = loaded
    try:
        spec.loader.exec_module(loaded)
    except AdmError as error:
        del sys.modules[module]
        told = str(error)
        raise (error if str(file) in told else AdmError(f"method file {path}: {told}")) from None
    except Exception as error:
        del sys.modules[module]
        raise AdmError(f"method file {path} cannot be imported: {_where(error, file)}") from error
    added = sorted(set(_known) - before)
    if not added:
        raise AdmError(f"method file {path} registers no method; put @register above the class")
    return added


def _load_entry_point(name: str) -> None:
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            try:
                point.load()
            except Exception as error:
                raise AdmError(f"entry point '{name}' ({point.value}) cannot be imported: {_where(error)}") from error


def _module_of(name: str) -> str:
    return name.replace("-", "_")


def _file_of(method: type[Any]) -> str:
    return inspect.getfile(method)


def _where(error: Exception, file: Path | None = None) -> str:
    """An error, and the last line of a file that led to it; syntax errors tell their own."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if file is None or Path(frame.filename) == file]
    known = own and not isinstance(error, SyntaxError)
    line = f" (line {own[-1].lineno} of {Path(own[-1].filename).name})" if known else ""
    return f"{type(error).__name__}: {error}{line}"
