"""Networks that a suite defines itself: what identifies them, and where their files lie. Loads no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adm_core.errors import AdmError, nearest
from adm_core.network_definition import NetworkDefinition
from results.records.schema import Cell, NetworkIdentity
from suites.spec.definition import Block, Suite
from tasks import catalogue
from tasks.datasets.splits import SplitSettings


@dataclass(frozen=True)
class Checkpoint:
    """A teacher that a suite brings along.

    Attributes:
        network: the suite's name for it.
        file: where its weights lie.
        digest: SHA-256 of that file.
    """

    network: str
    file: Path
    digest: str

    def __str__(self) -> str:
        return f"teacher {self.network}: checkpoint {self.file.name} (SHA-256 {self.digest[:12]}), not trained here"


class OwnNetworks:
    """A suite's own networks, each looked at when the first block uses it.

    Args:
        suite: what the file said.
        file: the suite's; paths start in its folder.

    Attributes:
        files: SHA-256 to every file that they need.
        checkpoints: the teachers that came with weights, in order of use.
    """

    def __init__(self, suite: Suite, file: Path | None) -> None:
        self._suite, self._where = suite, str(file or f"suite '{suite.name}'")
        self._folder = file.parent.absolute() if file else Path()
        self._known: dict[tuple[str, str], NetworkIdentity] = {}
        self.files: dict[str, Path] = {}
        self.checkpoints: list[Checkpoint] = []

    @property
    def names(self) -> tuple[str, ...]:
        """Those of all of them, used or not."""
        return tuple(self._suite.networks)

    def of_pair(
        self, block: Block, teacher: str | None, student: str, data: SplitSettings, where: str
    ) -> dict[str, NetworkIdentity]:
        """Check both networks of a pair; what identifies those that are the suite's own.

        Args:
            block: task and regime.
            teacher: its name; None among peers.
            student: its name.
            data: the settings of the block's protocol.
            where: file and block, for messages.

        Raises:
            AdmError: an unknown network, a missing file, a checkpoint where nothing is frozen, or one that was trained
                otherwise than the protocol trains.
        """
        found = {}
        for role, name in (("teacher", teacher), ("student", student)):
            if name is None:
                continue
            if name not in self._suite.networks:
                catalogue.check_network(block.task, name, f"{where}, pairs", f"network ({role})", self._suite.networks)
                continue
            found[name] = self._identity(block.task, name)
            if found[name].checkpoint and (role == "student" or block.regime != "offline"):
                what = "the student" if role == "student" else f"trained {block.regime}"
                raise AdmError(
                    f"{where}, pairs: network '{name}' is {what}, but 'networks.{name}.checkpoint' makes it a frozen "
                    "teacher; define another network without a checkpoint, or make the block offline"
                )
            place = f"{self._where}: networks.{name}.checkpoint, protocol '{block.protocol}'"
            for brought in self.checkpoints:
                if brought.network == name:
                    catalogue.check_weights(block.task, brought.file, data, place)
        return found

    def check_used(self) -> None:
        """Stop at a definition that no pair names.

        Raises:
            AdmError: there is one.
        """
        pairs = [pair for block in self._suite.blocks for pair in block.pairs]
        named = {name for pair in pairs for name in (pair.teacher, pair.student) if name}
        for name in self._suite.networks:
            if name not in named:
                raise AdmError(f"{self._where}: networks.{name} stands in no pair; {nearest(name, named)}")

    def tapped(self, name: str) -> str | None:
        """The known network whose taps a network has; None where they show only once it is built."""
        own = self._suite.networks.get(name)
        if own is None:
            return name
        return None if own.is_file or own.overrides else own.base

    def _identity(self, task: str, name: str) -> NetworkIdentity:
        if (task, name) not in self._known:
            self._known[task, name] = self._look(task, name)
        return self._known[task, name]

    def _look(self, task: str, name: str) -> NetworkIdentity:
        own, where = self._suite.networks[name], f"{self._where}: networks.{name}"
        if name in catalogue.networks(task):
            raise AdmError(f"{where}: {task} already has a network of this name; choose another")
        file = None
        if own.is_file or self._is_place(task, own.base):
            file = catalogue.locate(task, own.base, self._folder, "config", f"{where}.base")
        base = file.name if file else own.base
        catalogue.check_definition(
            task, NetworkDefinition(base, own.overrides, file, own.checkpoint is not None), where
        )
        config = self._remember(config_digest(task, file), file) if file else None
        checkpoint = None
        if own.checkpoint is not None:
            weights = catalogue.locate(task, str(own.checkpoint), self._folder, "weights", f"{where}.checkpoint")
            checkpoint = self._remember(sha256(weights), weights)
            self.checkpoints.append(Checkpoint(name, weights, checkpoint))
        return NetworkIdentity(base=base, config=config, overrides=own.overrides, checkpoint=checkpoint)

    def _is_place(self, task: str, base: str) -> bool:
        """Whether a base without the ending of a config file is a folder; the name of a network comes first."""
        return not catalogue.is_network(task, base) and ("/" in base or (self._folder / base).is_dir())

    def _remember(self, digest: str, file: Path) -> str:
        self.files[digest] = file
        return digest


def definition_of(cell: Cell, name: str, files: Mapping[str, Path]) -> NetworkDefinition | None:
    """What a task needs to build a cell's network; None for a network that the task knows by its name.

    Args:
        cell: it says what its networks are.
        name: its student's or its teacher's.
        files: SHA-256 to file, as the run was told.

    Raises:
        AdmError: the config file is gone or has changed since the run was planned.
    """
    own = cell.networks.get(name)
    if own is None:
        return None
    if own.config is None:
        return NetworkDefinition(own.base, own.overrides, brought=own.checkpoint is not None)
    file = find_file(own.config, files, f"config {own.base} of network '{name}'")
    _compare(config_digest(cell.task, file), own.config, file)
    return NetworkDefinition(own.base, own.overrides, file, own.checkpoint is not None)


def checkpoint_of(cell: Cell, files: Mapping[str, Path]) -> Path | None:
    """The file with the weights of a cell's frozen teacher; None where these are trained here.

    Raises:
        AdmError: it is gone or has changed since the run was planned.
    """
    if cell.checkpoint is None:
        return None
    file = find_file(cell.checkpoint, files, f"checkpoint of teacher '{cell.teacher}'")
    _compare(sha256(file), cell.checkpoint, file)
    return file


def find_file(digest: str, files: Mapping[str, Path], what: str) -> Path:
    """The file that had a digest when the run was planned.

    Raises:
        AdmError: the run was not told of one, or it is gone.
    """
    if digest not in files:
        raise AdmError(f"{what}: nobody said where the file with SHA-256 {digest[:12]} lies; run the suite again")
    if not files[digest].is_file():
        raise AdmError(f"{what}: {files[digest]} was there when the run was planned and is gone")
    return files[digest]


def sha256(file: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits.

    Raises:
        AdmError: it cannot be read.
    """
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise AdmError(f"{file}: cannot be read: {error.strerror}") from None


def config_digest(task: str, file: Path) -> str:
    """SHA-256 of a config file; of the list of its files' where it builds upon others."""
    digests = [sha256(part) for part in catalogue.config_files(task, file)]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _compare(found: str, wanted: str, file: Path) -> None:
    if found != wanted:
        raise AdmError(
            f"{file}: has changed since the run was planned (SHA-256 {found[:12]} instead of {wanted[:12]}); "
            "run the suite again to train with it as it is now"
        )
