"""Pairs of image file and label file: two folders matched by name, or the names that a list gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from adm_core.errors import AdmError
from tasks.datasets.source import corrupt, is_hidden

Pair = tuple[Path, Path]
_MOST_NAMED = 3


@dataclass(frozen=True)
class Files:
    """Files of one kind: a name stands for ``folder/NAMEending``.

    Attributes:
        folder: that holds them, in folders of its own or not.
        ending: what their names end with, e.g. ``"_leftImg8bit.png"``.
    """

    folder: Path
    ending: str

    def names(self) -> set[str]:
        """The names of all files that are there, with folders below ``folder`` in front; hidden ones left out.

        Raises:
            AdmError: there is none.
        """
        found = (file.relative_to(self.folder) for file in self.folder.rglob(f"*{self.ending}"))
        names = {file.as_posix().removesuffix(self.ending) for file in found if not any(map(is_hidden, file.parts))}
        if not names:
            raise AdmError(f"{self.folder} holds no file *{self.ending}")
        return names

    def file(self, name: str) -> Path:
        """Where the file of that name is, or would be."""
        return self.folder / f"{name}{self.ending}"


def pair(images: Files, labels: Files) -> tuple[Pair, ...]:
    """Every image with the label file of the same name, in the order of names.

    Raises:
        AdmError: a folder holds no such file, or a file lacks its other half; names both.
    """
    pictured, labelled = images.names(), labels.names()
    alone = [(images.file(name), labels.file(name)) for name in pictured - labelled]
    alone += [(labels.file(name), images.file(name)) for name in labelled - pictured]
    if alone:
        wanting = [f"{there} has no partner {missing}" for there, missing in sorted(alone)]
        raise AdmError(_first(wanting, "files without partner"))
    return tuple((images.file(name), labels.file(name)) for name in sorted(pictured))


def pair_listed(listing: Path, names: Sequence[str], images: Files, labels: Files) -> tuple[Pair, ...]:
    """The image and the label file of each of ``names``, in their order; other files are left alone.

    Raises:
        AdmError: a file is missing; names it and ``listing``, where the names come from.
    """
    missing: list[str] = []
    for kind in (images, labels):
        there = kind.names()
        missing += [f"{listing} names {kind.file(name)}, which is missing" for name in names if name not in there]
    if missing:
        raise AdmError(_first(missing, "missing files"))
    return tuple((images.file(name), labels.file(name)) for name in names)


def read_names(listing: Path) -> list[str]:
    """The names in a list of one name a line.

    Raises:
        AdmError: a line holds something else, or there is none.
    """
    lines = listing.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if len(line.split()) > 1 or "/" in line:
            raise corrupt(listing, f"line {number} is '{line}'; a line holds one name, without folder and ending")
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise corrupt(listing, "it is empty")
    return names


def _first(messages: list[str], what: str) -> str:
    rest = len(messages) - _MOST_NAMED
    return "\n".join([*messages[:_MOST_NAMED], *([f"and {rest} more {what}"] if rest > 0 else [])])
