"""Where a data set's files are looked for, and the one error for when they are missing or damaged."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from adm_core.errors import AdmError

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Source:
    """A data set's public layout.

    Attributes:
        name: what benchmarks call it.
        title: what people call it.
        places: folders, relative to a data root, that may hold it; ``.`` is the root itself.
        needed: glob patterns that must each match in such a folder.
        obtain: how to get it, one sentence or command.
        reader: ``module:function`` taking (folder, split), or (split) if embedded; imported when needed.
        classes: ``module:function`` taking (folder) that lists the names of its classes where the files decide which
            there are, reading no image; None where the public release does.
        fetcher: ``module:function`` that downloads into a root; None where the publisher offers no download.
        splits: the splits it has of its own.
        decoded: whether reading it means to decode thousands of files, so that the result is worth keeping.
        package: module that carries an embedded set and that not every installation has; None: every one has it.
    """

    name: str
    title: str
    places: tuple[str, ...]
    needed: tuple[str, ...]
    obtain: str
    reader: str
    classes: str | None = None
    fetcher: str | None = None
    splits: tuple[Split, ...] = ("train", "test")
    decoded: bool = False
    package: str | None = None

    @property
    def embedded(self) -> bool:
        """Whether it is made on the spot and needs no files."""
        return not self.places

    @property
    def installed(self) -> bool:
        """Whether the package that carries it, if there is one, is installed."""
        return self.package is None or find_spec(self.package) is not None

    def find(self, roots: Sequence[Path]) -> Path | None:
        """The first folder that holds the set, searching the roots in order."""
        for root in roots:
            for place in self.places:
                folder = Path(root).expanduser() / place
                if all(any(folder.glob(pattern)) for pattern in self.needed):
                    return folder
        return None

    def missing(self, roots: Sequence[Path]) -> AdmError:
        """The error that says what is missing, every place that was looked in, and how to get it."""
        if self.embedded:
            return AdmError(f"{self.title} is not installed; {self.obtain}")
        return AdmError(f"{self.title} was not found\n{self.instructions(roots)}")

    def instructions(self, roots: Sequence[Path]) -> str:
        """Where the set was looked for and how to get it; a few lines of text."""
        looked = [str(Path(root).expanduser() / place) for root in roots for place in self.places]
        where = "\n".join(f"    {path}" for path in looked) or "    nowhere: no data root is set"
        return (
            f"  looked in:\n{where}\n  needed there: {', '.join(self.needed)}\n  to get it: {self.obtain}\n"
            "  data roots come from --data-root, a suite's data_roots and ADM_DATA"
        )


def roots_from_environment(environment: Mapping[str, str] | None = None) -> list[Path]:
    """Data roots that ``ADM_DATA`` lists, separated as in ``PATH``; empty entries are left out.

    Args:
        environment: to read instead of the process's own.
    """
    value = (os.environ if environment is None else environment).get("ADM_DATA", "")
    return [Path(entry).expanduser() for entry in value.split(os.pathsep) if entry]


def is_hidden(name: str) -> bool:
    """Whether a file or folder is no part of a data set: notebooks, file managers and macOS leave such behind."""
    return name.startswith(".")


def check_classes(found: int, wanted: int, where: str) -> None:
    """Stop where a data set has another number of classes than its benchmark.

    Raises:
        AdmError: begins with ``where``; names both numbers.
    """
    if found != wanted:
        raise AdmError(
            f"{where}: found {found} classes, the benchmark has {wanted}; a folder of images of one's own is a "
            "benchmark of its own, which a suite defines under 'benchmarks'"
        )


def corrupt(file: Path | str, why: str) -> AdmError:
    """The error for a file that cannot be what its name says; ``why`` completes 'FILE is damaged: ...'."""
    return AdmError(f"{file} is damaged: {why}; delete it and get it anew")
