"""SHA-256 of source code: which code a number was made with. Loads no torch."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_METHODS = "adm_core.methods"


def of_core() -> str:
    """SHA-256 of what all methods share: ``adm_core`` without ``methods`` and ``testing``, in hexadecimal digits."""
    return of_folders([_HERE], without=("methods", "testing"))


def of_folders(folders: Iterable[Path], without: Iterable[str] = ()) -> str:
    """SHA-256 of the Python files below folders, of each its path there and its content, in hexadecimal digits.

    Args:
        folders: in any order.
        without: folders directly below them that are left out.
    """
    found = hashlib.sha256()
    for folder in sorted(folders):
        for file in sorted(folder.rglob("*.py")):
            path = file.relative_to(folder)
            if path.parts[0] not in without:
                found.update(f"{folder.name}/{path.as_posix()}\0{_sha256(file)}\n".encode())
    return found.hexdigest()


def of_files(files: Iterable[Path]) -> str:
    """SHA-256 of a file; of several, over the sorted SHA-256 of each, so that their names do not count."""
    digests = sorted(map(_sha256, files))
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


@functools.cache
def of_method(method: type) -> str | None:
    """SHA-256 of what defines a method, in hexadecimal digits; taken once, when it is first asked for.

    That is the file of its class; where this imports files of its own package, or a file of the user's own imports
    others that lie beside it, of all these (:func:`of_files`).

    Returns:
        None where there is no file, as for a class that was typed into a session.
    """
    try:
        file = Path(inspect.getfile(method)).resolve()
    except (OSError, TypeError):
        return None
    if not file.is_file():
        return None
    return of_files(_files(file, method.__module__))


def _files(file: Path, module: str) -> set[Path]:
    """A module's file, and those below its package's folder that it imports, also through others."""
    names = module.split(".")
    inside = names if file.stem == "__init__" else names[:-1]
    base = file.parents[len(inside)]
    root = _HERE / "methods" if module.startswith(f"{_METHODS}.") else base.joinpath(*inside[:1])
    found, waiting = {file}, [file]
    while waiting:
        for path in _imported(waiting.pop(), base):
            if path not in found and root in path.parents:
                found.add(path)
                waiting.append(path)
    return found


def _imported(file: Path, base: Path) -> Iterator[Path]:
    """The files of imported modules that lie below a folder of the search path."""
    package = file.parent.relative_to(base).parts
    for node in ast.walk(ast.parse(file.read_bytes())):
        names: list[tuple[str, ...]] = []
        if isinstance(node, ast.Import):
            names = [tuple(alias.name.split(".")) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            stem = (*start, *(node.module.split(".") if node.module else ()))
            names = [stem, *((*stem, alias.name) for alias in node.names)]
        for name in names:
            for end in range(1, len(name) + 1):
                place = base.joinpath(*name[:end])
                yield from (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file())


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
