"""Benchmarks that a suite defines itself: what identifies them, and where their images lie. Loads no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adm_core.benchmark_definition import BenchmarkDefinition
from adm_core.errors import AdmError, nearest
from results.records.schema import BenchmarkIdentity, Cell
from suites.spec.definition import Block, Suite
from suites.spec.own import OwnBenchmark, SplitFolders
from tasks import catalogue

if TYPE_CHECKING:
    from tasks.datasets.class_folders import ImageFiles

Folders = Mapping[str, Path]
"""``train``, ``test`` and perhaps ``validation``, each to its folder."""
_VALIDATION = ("val", "valid", "validation")


class OwnBenchmarks:
    """A suite's own benchmarks, each listed when the first block uses it.

    Args:
        suite: what the file said.
        file: the suite's; paths start in its folder.

    Attributes:
        folders: digest of a benchmark's files to the folders of its splits; where these lie is no science.
    """

    def __init__(self, suite: Suite, file: Path | None) -> None:
        self._suite, self._where = suite, str(file or f"suite '{suite.name}'")
        self._folder = file.parent.absolute() if file else Path()
        self._known: dict[str, BenchmarkIdentity] = {}
        self.folders: dict[str, Folders] = {}

    def of_block(self, block: Block, where: str) -> BenchmarkIdentity | None:
        """What identifies a block's benchmark; None where the task knows it by its name.

        Raises:
            AdmError: an unknown benchmark, a task that has only its own, or a folder that is not as the suite says.
        """
        name = block.benchmark
        if name not in self._suite.benchmarks:
            catalogue.check_benchmark(block.task, name, where, self._suite.benchmarks)
            return None
        catalogue.check_takes_folders(block.task, f"{where}, benchmark '{name}'")
        if name not in self._known:
            self._known[name] = self._look(name, self._suite.benchmarks[name])
        return self._known[name]

    def splits(self, block: Block, identity: BenchmarkIdentity | None) -> tuple[str, ...]:
        """The splits that a block's benchmark has of its own."""
        return tuple(identity.images) if identity else catalogue.splits(block.task, block.benchmark)

    def check_used(self) -> None:
        """Stop at a definition that no block names.

        Raises:
            AdmError: there is one.
        """
        named = {block.benchmark for block in self._suite.blocks}
        for name in self._suite.benchmarks:
            if name not in named:
                raise AdmError(f"{self._where}: benchmarks.{name} stands in no block; {nearest(name, named)}")

    def _look(self, name: str, own: OwnBenchmark) -> BenchmarkIdentity:
        from tasks.datasets.class_folders import check_same_classes, list_images

        where = f"{self._where}: benchmarks.{name}"
        if name in {known.partition("@")[0] for task in catalogue.tasks() for known in catalogue.benchmarks(task)}:
            raise AdmError(f"{where}: a benchmark of this name is known, and its published figures; choose another")
        try:
            folders = _split_folders(self._folder / own.folder.expanduser(), own.split)
            for folder in folders.values():
                check_same_classes(folders["train"], folder)
            listed = {split: list_images(folder) for split, folder in folders.items()}
        except AdmError as error:
            raise AdmError(f"{where}: {error}") from None
        found = len(listed["train"].classes)
        if found != own.classes:
            raise AdmError(f"{where}.classes = {own.classes}: {folders['train']} holds {found} class folders")
        identity = BenchmarkIdentity(
            classes=own.classes,
            image=own.image,
            mean=own.normalisation.mean,
            std=own.normalisation.std,
            images={split: len(files) for split, files in listed.items()},
            files=_digest(folders, listed),
        )
        self.folders[identity.files] = folders
        return identity


def benchmark_of(cell: Cell, folders: Mapping[str, Folders]) -> BenchmarkDefinition | None:
    """What a task needs to open a cell's benchmark; None for one that the task knows by its name.

    Args:
        cell: it says what its benchmark is.
        folders: digest of a benchmark's files to the folders of its splits, as the run was told.

    Raises:
        AdmError: a folder is gone, or its files are others than when the run was planned.
    """
    from tasks.datasets.class_folders import list_images

    own = cell.own_benchmark
    if own is None:
        return None
    if own.files not in folders:
        raise AdmError(f"benchmark '{cell.benchmark}': nobody said where its images lie; run the suite again")
    splits = folders[own.files]
    if _digest(splits, {split: list_images(folder) for split, folder in splits.items()}) != own.files:
        raise AdmError(
            f"benchmark '{cell.benchmark}': the files of {splits['train'].parent} have changed since the run was "
            "planned; run the suite again to train on them as they are now"
        )
    return BenchmarkDefinition(cell.benchmark, own.classes, own.image, own.mean, own.std, splits, own.files)


def _split_folders(folder: Path, given: SplitFolders | None) -> dict[str, Path]:
    """The folder of each split; train first, as the others are compared with it."""
    if not folder.is_dir():
        raise AdmError(f"folder: {folder}: no such folder")
    if given is None:
        held_out = next((name for name in _VALIDATION if (folder / name).is_dir()), None)
        if (folder / "test").is_dir():
            given = SplitFolders(test="test", validation=held_out)
        elif held_out:
            given = SplitFolders(test=held_out)
        else:
            raise AdmError(f"{folder} has neither a folder 'test' nor 'val'; name them with split: {{train: , test: }}")
    names = {"train": given.train, "validation": given.validation, "test": given.test}
    found = {split: folder / name for split, name in names.items() if name is not None}
    if len({place.resolve() for place in found.values()}) < len(found):
        raise AdmError(
            f"split: {', '.join(found)} must be folders of their own, not {', '.join(map(str, names.values()))}"
        )
    return found


def _digest(folders: Folders, listed: Mapping[str, ImageFiles]) -> str:
    """SHA-256 over split, path below the split's folder and size of each file, in their order."""
    found = hashlib.sha256()
    for split in sorted(listed):
        for file in listed[split].files:
            place = Path(file).relative_to(folders[split]).as_posix()
            found.update(f"{split}\0{place}\0{os.path.getsize(file)}\n".encode())
    return found.hexdigest()
