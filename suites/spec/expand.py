"""From a suite to its cells: names checked, settings resolved, identities computed. Loads no torch."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adm_core import registry
from adm_core.errors import AdmError
from adm_core.recipe import Protocol
from results.records.schema import BenchmarkIdentity, Cell, MethodPart, NetworkIdentity, Stretch, TeacherRecipe
from suites.spec import conditions
from suites.spec.benchmarks import Folders, OwnBenchmarks
from suites.spec.definition import Block, MethodEntry, Pair, Suite, load_suite
from suites.spec.method_settings import MethodSettings, method_parts
from suites.spec.names import is_path, suite_file
from suites.spec.networks import Checkpoint, OwnNetworks
from suites.spec.protocols import canonical, protocol_digest, protocol_of
from suites.spec.tuned import TunedSettings
from tasks import catalogue
from tasks.datasets.splits import SplitSettings


@dataclass(frozen=True)
class PlannedCell:
    """One thing to train and how it is shown.

    Attributes:
        cell: the science; its ``id`` names record and work folder.
        protocol: the resolved recipe, whose digest the cell holds.
        label: the row's label.
        block: the table's title.
        teacher: offline: the planned cell that trains the teacher; None where its weights are a checkpoint.
        chosen: how its settings were chosen: ``default``, ``published``, ``stated`` by the suite, or how tuned.
        controls: labels of the table's rows that its row is held against.
        skipped: why it will be, where that shows before its networks are built.
    """

    cell: Cell
    protocol: Protocol
    label: str
    block: str
    teacher: PlannedCell | None = None
    chosen: str | None = None
    controls: tuple[str, ...] = ()
    skipped: str | None = None

    @functools.cached_property
    def id(self) -> str:
        """The cell's identity."""
        return self.cell.id


@dataclass(frozen=True)
class Expansion:
    """A suite's cells.

    Attributes:
        suite: where they come from.
        rows: the tables' cells in the suite's order; a cell may stand in several tables.
        artefacts: the trainings of teachers alone that the rows share.
        checkpoints: the teachers that the suite brings along instead.
        files: SHA-256 to the file that the suite's own networks need; where these lie is no science.
        folders: digest of the files of a suite's own benchmark to the folders of its splits; no science either.
        data_roots: absolute folders in which the suite looks for data sets; no science either.
    """

    suite: Suite
    rows: tuple[PlannedCell, ...]
    artefacts: tuple[PlannedCell, ...]
    checkpoints: tuple[Checkpoint, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    data_roots: tuple[Path, ...] = ()
    folders: Mapping[str, Folders] = field(default_factory=dict)

    @property
    def cells(self) -> tuple[PlannedCell, ...]:
        """Everything to train, each cell once, artefacts first."""
        found: dict[str, PlannedCell] = {}
        for planned in [*self.artefacts, *self.rows]:
            found.setdefault(planned.id, planned)
        return tuple(found.values())


def expand(name: str, method_files: Iterable[Path] = ()) -> Expansion:
    """Read a suite by name or path and expand it.

    Args:
        name: of a suite, or a path to a YAML file.
        method_files: files of the user's own that register methods.

    Raises:
        AdmError: unknown names (with nearest ones), missing files, invalid settings, a method that does not run in
            the regime.
    """
    for file in method_files:
        registry.load_file(file)
    return expand_suite(load_suite(name), suite_file(name))


def expand_suite(suite: Suite, file: Path | None = None, within: tuple[Path | None, ...] = ()) -> Expansion:
    """Expand a suite that has been read.

    Args:
        suite: what the file said.
        file: named in messages; paths to protocols and to the files of networks start in its folder.
        within: the files of the suites that lead here.
    """
    where = str(file or f"suite '{suite.name}'")
    if file in within:
        raise AdmError(f"{where}: 'suites' leads back to this suite")
    others = [_included(name, file, (*within, file), where) for name in suite.suites]
    networks = OwnNetworks(suite, file)
    networks.check_used()
    benchmarks = OwnBenchmarks(suite, file)
    benchmarks.check_used()
    folder = file.parent.absolute() if file else Path.cwd()
    tuned = TunedSettings(folder / suite.tuned_file if suite.tuned_file else None)
    settings = MethodSettings(suite, where, networks, tuned)
    rows = [row for other in others for row in other.rows]
    for block in suite.blocks:
        rows += _expand_block(
            block, f"{where}, block '{block.title}'", file and file.parent, networks, benchmarks, settings
        )
    settings.check_used()
    _check_labels(where, rows)
    artefacts = {row.teacher.id: row.teacher for row in rows if row.teacher}
    return Expansion(
        suite,
        tuple(rows),
        tuple(artefacts.values()),
        (*(found for other in others for found in other.checkpoints), *networks.checkpoints),
        {**{key: path for other in others for key, path in other.files.items()}, **networks.files},
        (
            *(root for other in others for root in other.data_roots),
            *(folder / root.expanduser() for root in suite.data_roots),
        ),
        {**{key: path for other in others for key, path in other.folders.items()}, **benchmarks.folders},
    )


def _included(name: str, file: Path | None, within: tuple[Path | None, ...], where: str) -> Expansion:
    """A suite that another one holds; a path is relative to that one's file."""
    if is_path(name) and file is not None:
        name = str(file.parent / Path(name).expanduser())
    try:
        return expand_suite(load_suite(name), suite_file(name), within)
    except AdmError as error:
        raise AdmError(f"{where}, suites: {error}") from error


def teacher_cell(cell: Cell) -> Cell | None:
    """The ``alone`` cell that trains an offline cell's teacher; None where nothing trains it."""
    if cell.teacher_recipe is None or cell.teacher is None:
        return None
    return Cell(
        rule=cell.rule,
        task=cell.task,
        benchmark=cell.benchmark,
        own_benchmark=cell.own_benchmark,
        condition=cell.condition,
        protocol=cell.teacher_recipe.protocol,
        protocol_digest=cell.teacher_recipe.protocol_digest,
        regime="alone",
        student=cell.teacher,
        teacher=None,
        teacher_recipe=None,
        networks={name: own for name, own in cell.networks.items() if name == cell.teacher},
        method=method_parts(registry.create("none"), "alone"),
        seed=cell.teacher_recipe.seed,
    )


def _expand_block(
    block: Block,
    where: str,
    folder: Path | None,
    networks: OwnNetworks,
    benchmarks: OwnBenchmarks,
    settings: MethodSettings,
) -> list[PlannedCell]:
    benchmark = benchmarks.of_block(block, where)
    condition = conditions.check(block, benchmark, where)
    protocol = protocol_of(block, block.protocol, folder, networks.names, f"{where}, protocol")
    data = _check_used(block, protocol, benchmark, benchmarks.splits(block, benchmark), where)
    offered = catalogue.offered(block.task, data, condition)
    alone = protocol
    if block.teacher_protocol is not None:
        alone = protocol_of(block, block.teacher_protocol, folder, networks.names, f"{where}, teacher_protocol")
        of_both = [
            catalogue.without_student_keys(block.task, canonical(named[1])["data"]) for named in (alone, protocol)
        ]
        if of_both[0] != of_both[1]:
            raise AdmError(
                f"{where}: 'data' of protocol '{protocol[0]}' and of teacher_protocol '{alone[0]}' differ, so that "
                "scores of student and teacher could not be compared; make them the same"
            )
    named = protocol[0], protocol_digest(protocol[1])
    recipe = TeacherRecipe(protocol=alone[0], protocol_digest=protocol_digest(alone[1]), seed=block.teacher_seed)
    own = [networks.of_pair(block, pair.teacher, pair.student, data, where) for pair in block.pairs]
    rows = []
    for pair, identities in zip(block.pairs, own, strict=True):
        resolved = [settings.resolve(block, pair, entry, offered, protocol[1].recipe, where) for entry in block.methods]
        methods, teacher = [row.method for row in resolved], None
        for entry, row in zip(block.methods, resolved, strict=True):
            stretch = _stretch(block, entry, row.method, methods, where)
            cells = _cells(block, pair, row.method, stretch, benchmark, identities, named, recipe)
            if row.tuned is not None:
                row.tuned.check_place(cells[0], f"{where}, chosen")
            teacher = teacher or _teacher(cells[0], alone[1])
            told = (entry.shown, block.title, teacher, row.chosen, entry.controls, row.skipped)
            rows += [PlannedCell(cell, protocol[1], *told) for cell in cells]
    return rows


def _stretch(
    block: Block, entry: MethodEntry, own: tuple[MethodPart, ...], methods: list[tuple[MethodPart, ...]], where: str
) -> Stretch | None:
    """How much longer a row trains than its protocol says; ``methods`` are those of all rows, as resolved."""
    if entry.stretch is None or entry.stretch != "match":
        return None if entry.stretch is None else Stretch(factor=entry.stretch)
    each = zip(block.methods, methods, strict=True)
    others = tuple(parts for row, parts in each if row.stretch is None and parts != own)
    if not others:
        raise AdmError(
            f"{where}, methods: '{entry.shown}' is to train as long as the dearest other row costs, and there is no "
            "other; add methods, or give a factor, as in 'stretch: 1.8'"
        )
    return Stretch(match=others)


def _check_used(
    block: Block, named: tuple[str, Protocol], benchmark: BenchmarkIdentity | None, splits: tuple[str, ...], where: str
) -> SplitSettings:
    """Every setting of the protocol's ``data`` must be one that the benchmark and the regime obey."""
    in_memory = benchmark is None and catalogue.benchmarks(block.task)[block.benchmark].in_memory
    told = f"{where}, protocol '{named[0]}'"
    settings = catalogue.check_data(block.task, named[1].data, told)
    catalogue.check_data_used(block.task, settings, told, in_memory, splits, block.regime)
    return settings


def _cells(
    block: Block,
    pair: Pair,
    method: tuple[MethodPart, ...],
    stretch: Stretch | None,
    benchmark: BenchmarkIdentity | None,
    networks: dict[str, NetworkIdentity],
    named: tuple[str, str],
    recipe: TeacherRecipe,
) -> list[Cell]:
    """One row of a table: the same cell with every seed; ``named`` are its protocol's name and digest."""
    brought = pair.teacher in networks and networks[pair.teacher].checkpoint is not None
    return [
        Cell(
            task=block.task,
            benchmark=block.benchmark,
            own_benchmark=benchmark,
            condition=block.condition,
            protocol=named[0],
            protocol_digest=named[1],
            regime=block.regime,
            student=pair.student,
            teacher=pair.teacher,
            teacher_recipe=recipe if block.regime == "offline" and not brought else None,
            networks=networks,
            method=method,
            stretch=stretch,
            seed=seed,
        )
        for seed in block.seeds
    ]


def _teacher(cell: Cell, protocol: Protocol) -> PlannedCell | None:
    """What trains a cell's teacher, by its own protocol; None: nothing does."""
    alone = teacher_cell(cell)
    return PlannedCell(alone, protocol, f"teacher {cell.teacher}", "Teachers, trained alone") if alone else None


def _check_labels(where: str, rows: list[PlannedCell]) -> None:
    """Within one table a label, pair and seed must mean one cell, and a cell must have one label."""
    by_label: dict[tuple[str, ...], PlannedCell] = {}
    by_cell: dict[tuple[str, ...], PlannedCell] = {}
    for row in rows:
        place = (row.block, str(row.cell.teacher), row.cell.student, str(row.cell.seed))
        told = f"{where}, block '{row.block}', methods"
        if (*place, row.label) in by_label:
            raise AdmError(f"{told}: two rows are labelled '{row.label}'")
        twin = by_cell.get((*place, row.id))
        if twin:
            raise AdmError(f"{told}: '{twin.label}' and '{row.label}' are the same experiment; leave one out")
        by_label[(*place, row.label)] = row
        by_cell[(*place, row.id)] = row
