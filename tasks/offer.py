"""What a task tells about its networks and its data settings before torch is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict

from adm_core.condition import Condition
from adm_core.network_definition import NetworkDefinition
from adm_core.task import Offered
from tasks.datasets.splits import SplitSettings

NetworkFile = Literal["config", "weights"]
"""Which file of a network: what it is built from, or its weights."""


class ListedNetwork(TypedDict):
    """A network that a task knows by name.

    Attributes:
        name: the word used in pairs.
        family: of architectures.
        parameters: trainable ones, as the task's own list counts them.
        taps: names of the feature maps that it has.
        source: where its definition comes from.
    """

    name: str
    family: str
    parameters: int
    taps: list[str]
    source: str


def listed(name: str, taps: Iterable[str], entry: Mapping[str, Any]) -> ListedNetwork:
    """A network of a task's own list, whose entry tells ``family``, ``parameters`` and ``source``."""
    family, parameters, source = (entry[key] for key in ("family", "parameters", "source"))
    return ListedNetwork(name=name, taps=list(taps), family=family, parameters=parameters, source=source)


class ReadData(Protocol):
    """Reads the ``data`` part of a protocol; raises AdmError for a key or a value that the task does not take."""

    def __call__(self, data: Mapping[str, Any], where: str) -> SplitSettings:
        """The settings; ``where`` names the protocol in messages."""


class Locate(Protocol):
    """Finds a network's file by what is no file itself; raises AdmError where there is none."""

    def __call__(self, place: str, wanted: NetworkFile, where: str) -> Path:
        """The file; ``place`` is a folder or one of a library's names, ``where`` the file and key that named it."""


def _accept(_name: str, _where: str) -> None:
    """Of a library's names the library judges, once it is loaded."""


def _accept_definition(_definition: NetworkDefinition) -> None:
    """Whether it can be built shows once it is."""


def _all_used(_settings: SplitSettings, _in_memory: bool, _where: str) -> None:
    """Every benchmark of the task obeys every setting."""


def _accept_weights(_weights: Path, _settings: SplitSettings, _where: str) -> None:
    """Nothing lies beside weights that says how they were trained."""


def _no_further_files(_file: Path) -> Sequence[Path]:
    return ()


@dataclass(frozen=True)
class Offer:
    """What ``tasks/<task>/offer.py`` holds as ``OFFER``. Neither the file nor any function here loads torch.

    Attributes:
        networks: the networks that the task knows, in the order in which they are listed.
        read_data: reads the ``data`` part of a protocol.
        offered: called with settings and what is made of the benchmark; tells what methods are shown.
        external: beginnings of the names that libraries answer to, e.g. ``timm/``.
        check_external: called with such a name and where it stands; raises AdmError where it can be told that the
            library has no such network.
        check_definition: raises AdmError for a network of a suite's own that the task cannot build.
        locate: finds a file by a folder or a library's name; None: the task reads networks from files alone.
        check_weights: called with a file of weights, a protocol's settings, and where the file was named; raises
            AdmError where what lies beside the weights says that they were trained otherwise.
        config_files: the further files that a network's config file builds upon.
        student_keys: keys of ``data`` that say nothing about a teacher trained alone, and nothing where none is.
        check_used: called with settings, whether the benchmark's images lie in memory, and where the settings stand;
            raises AdmError for a setting that such a benchmark would ignore.
        image_folders: whether a suite's own folder of labelled images may be a benchmark.
        conditions: what can be made of its benchmarks: ``noise``, ``shift``.
        libraries: modules beside torch, torchvision and numpy whose versions a record tells, where they were loaded.
    """

    networks: Callable[[], Sequence[ListedNetwork]]
    read_data: ReadData
    offered: Callable[[Any, Condition | None], Offered]
    external: tuple[str, ...] = ()
    check_external: Callable[[str, str], None] = _accept
    check_definition: Callable[[NetworkDefinition], None] = _accept_definition
    locate: Locate | None = None
    check_weights: Callable[[Path, Any, str], None] = _accept_weights
    config_files: Callable[[Path], Sequence[Path]] = _no_further_files
    student_keys: tuple[str, ...] = ()
    check_used: Callable[[Any, bool, str], None] = _all_used
    image_folders: bool = False
    conditions: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
