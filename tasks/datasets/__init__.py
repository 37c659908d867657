"""Data sets that tasks share: found by name in data roots, read from their public layouts. Loads no torch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from adm_core.errors import AdmError, unknown
from tasks.datasets.catalogue import SOURCES
from tasks.datasets.source import Source, Split, check_classes, roots_from_environment

__all__ = ["Split", "available", "check_own_split", "load", "names", "require", "roots_from_environment"]


def names() -> list[str]:
    """The names of all known data sets."""
    return list(SOURCES)


def available(name: str, roots: Sequence[Path]) -> tuple[bool, str]:
    """Whether a data set is there, and where it is or how to get it; reads no data.

    Args:
        name: of the data set.
        roots: folders to look in, in order.
    """
    source = _source(name)
    if source.package and source.installed:
        return True, f"carried by the package {source.package}"
    if source.embedded:
        return source.installed, source.obtain
    folder = source.find(roots)
    return (True, str(folder)) if folder else (False, source.instructions(roots))


def require(name: str, roots: Sequence[Path], download: bool = False, classes: int | None = None) -> None:
    """Stop before anything is trained where a data set is neither there nor to be fetched; reads no data.

    Args:
        name: of the data set.
        roots: folders to look in, in order.
        download: whether it may be fetched.
        classes: how many it should have, where its files tell without being read; None: any number.

    Raises:
        AdmError: unknown name; missing: says where it was looked for and how to get it; or of other classes.
    """
    source = _source(name)
    folder = None if source.embedded else source.find(roots)
    there = source.installed if source.embedded else folder is not None
    if not there and not (download and source.fetcher and roots):
        raise source.missing(roots)
    if folder is not None and classes is not None and source.classes:
        check_classes(len(_function(source.classes)(folder)), classes, str(folder))


def check_own_split(name: str, split: Split) -> None:
    """Stop where a data set has no split of that name of its own.

    Raises:
        AdmError: names the splits that there are.
    """
    source = _source(name)
    if split not in source.splits:
        has = ", ".join(source.splits)
        raise AdmError(
            f"{source.title} has no split '{split}' of its own, only {has}; carve one from train with the "
            "protocol's data.validation"
        )


def load(name: str, split: Split, roots: Sequence[Path], download: bool = False, keep_in: Path | None = None) -> Any:
    """Read one split.

    A set of labelled images is an ``ImageSet`` in memory, for ImageNet ``ImageFiles``; one with labels per pixel is a
    ``SegmentationSet``, whose files, where it does not fit in memory, are checked when decoded.

    Args:
        name: of the data set.
        split: ``train``, ``test``, or ``validation`` where the set has a split of that name of its own.
        roots: folders to look in, in order.
        download: fetch a set that is in none of them into the first, where its publisher allows that.
        keep_in: folder of artefacts, in which sets that take long to make or decode are kept; None: nothing is kept.

    Raises:
        AdmError: unknown name, no such split, the set is missing (says where it was looked for and how to get
            it) or a file of it is damaged (names the file).
    """
    source = _source(name)
    check_own_split(name, split)
    if source.embedded:
        return _made(name, split, keep_in)
    folder = source.find(roots)
    if folder is None and download and source.fetcher and roots:
        _function(source.fetcher)(Path(roots[0]).expanduser())
        folder = source.find(roots)
    if folder is None:
        raise source.missing(roots)
    return _read(source, split, folder, keep_in)


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise unknown("data set", name, SOURCES)
    return SOURCES[name]


def _function(path: str) -> Callable[..., Any]:
    module, _, function = path.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), function)
    return found


@functools.cache
def _made(name: str, split: Split, keep_in: Path | None) -> Any:
    """An embedded set, opened once in a process: whoever opens several cells asks for it again."""
    return _read(_source(name), split, None, keep_in)


def _read(source: Source, split: Split, folder: Path | None, keep_in: Path | None) -> Any:
    """A split by the source's reader, or as it was kept where reading takes long."""

    def read() -> Any:
        return _function(source.reader)(*((split,) if folder is None else (folder, split)))

    if keep_in is None or not (source.embedded or source.decoded):
        return read()
    from tasks.datasets.kept import kept  # loads torch

    return kept(keep_in, f"{source.name}-{split}", folder, read)
