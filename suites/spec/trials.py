"""The trials by which a suite's settings are chosen: as many for every row, on validation data. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adm_core import registry
from adm_core.compose import parts_of
from adm_core.errors import AdmError
from adm_core.settings import searches
from results.records.schema import Cell, TeacherRecipe
from suites.spec.definition import load_suite
from suites.spec.expand import Expansion, PlannedCell, expand_suite, teacher_cell
from suites.spec.method_settings import method_of, method_parts, settings_of
from suites.spec.names import suite_file
from suites.spec.protocols import on_validation, protocol_digest
from suites.spec.tuned import Values

FIRST_SEED = 1000
"""Trials take the seeds from here upward, which no suite should use."""

PREFIX = "tune-"
"""Before a suite's name: the name of the suite of its trials."""


@dataclass(frozen=True)
class Candidate:
    """Settings to try.

    Attributes:
        settings: every searched setting with its value.
        cells: one per seed.
    """

    settings: Values
    cells: tuple[PlannedCell, ...]


@dataclass(frozen=True)
class Search:
    """A row of the suite on one pair with its candidates, of which the first is the row as it is stated."""

    row: PlannedCell
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Trials:
    """What is to be trained to choose a suite's settings.

    Attributes:
        suite: the suite as it states its settings, without tuned ones.
        count: trials of each row that has anything to search.
        seeds: of every trial; the first is also that of frozen teachers.
        searches: the suite's rows, but for those that train longer, which are controls.
        expansion: the cells, as those of a suite ``tune-NAME``.
    """

    suite: Expansion
    count: int
    seeds: tuple[int, ...]
    searches: tuple[Search, ...]
    expansion: Expansion


def trials_of(name: str, count: int, seeds: int) -> Trials:
    """The trials of a suite.

    Args:
        name: of a suite, or the path of its file. A file of tuned settings that it names is not read.
        count: trials of each row.
        seeds: of each trial.

    Raises:
        AdmError: a mistake in the suite, it holds other suites, it uses seeds of the trials, or two of its rows share a
            trial.
    """
    stated = load_suite(name)
    if stated.suites:
        raise AdmError(f"suite '{stated.name}' holds other suites; tune each of them: {', '.join(stated.suites)}")
    if stated.tuned_file:
        stated = stated.model_copy(update={"chosen": None})
    suite = expand_suite(stated, suite_file(name))
    taken = tuple(range(FIRST_SEED, FIRST_SEED + seeds))
    _check_seeds(suite, taken)
    rows: dict[tuple[str | None, ...], PlannedCell] = {}
    for row in suite.rows:
        rows.setdefault((row.block, row.cell.teacher, row.cell.student, row.label), row)
    found = tuple(Search(row, tuple(_candidates(row, count, taken))) for row in rows.values() if not row.cell.stretch)
    _check_apart(found)
    cells = tuple(cell for search in found for candidate in search.candidates for cell in candidate.cells)
    artefacts = {cell.teacher.id: cell.teacher for cell in cells if cell.teacher}
    own = stated.model_copy(
        update={"name": f"{PREFIX}{stated.name}", "title": f"Trials for the settings of {stated.name}"}
    )
    return Trials(
        suite, count, taken, found, replace(suite, suite=own, rows=cells, artefacts=tuple(artefacts.values()))
    )


def _check_seeds(suite: Expansion, taken: Sequence[int]) -> None:
    recipes = (row.cell.teacher_recipe for row in suite.rows)
    used = {row.cell.seed for row in suite.rows} | {recipe.seed for recipe in recipes if recipe}
    both = sorted(used.intersection(taken))
    if both:
        raise AdmError(
            f"suite '{suite.suite.name}' uses seed {both[0]}, and settings must be chosen on seeds that it does not "
            f"use: trials take {taken[0]} to {taken[-1]}; give the suite others, or take fewer --seeds"
        )


def _check_apart(found: Sequence[Search]) -> None:
    """Stop where two rows of a block share a trial: both may come to be one experiment, which no suite takes."""
    tried: dict[tuple[str | None, str], str] = {}
    for search in found:
        block = search.row.block
        for candidate in search.candidates:
            other = tried.setdefault((block, candidate.cells[0].cell.id), search.row.label)
            if other != search.row.label:
                raise AdmError(
                    f"block '{block}': '{other}' and '{search.row.label}' would be tried with the same settings, and "
                    "may be chosen to be the same experiment; tell them apart by a setting that is not searched"
                )


def _candidates(row: PlannedCell, count: int, seeds: Sequence[int]) -> Iterator[Candidate]:
    """The row as stated, then the points of the Halton sequence in the ranges of its methods' searched settings.

    The sequence has no random part, and its first coordinates are the same whatever their number, so that all methods
    are tried at the same points of the unit cube, and more trials contain the fewer. A weight that the suite sets to 0
    leaves its term out, and is not searched; nor is what does not act in the regime or with the row's other settings.
    """
    from scipy.stats import qmc  # takes longer to load than all the rest

    stated = {part.name: settings_of(part) for part in row.cell.method}
    parts = sorted(parts_of(method_of(row.cell)), key=lambda part: part.card.name)
    ranges = {
        (part.card.name, key): search
        for part in parts
        for key, search in searches(type(part).Settings).items()
        if stated[part.card.name].get(key) and search.acts(part.settings, row.cell.regime)
    }
    first = tuple(float(stated[part][key]) for part, key in ranges)
    yield _candidate(row, row.label, stated, dict(zip(ranges, first, strict=True)), seeds)
    if not ranges or row.skipped:
        return
    points = qmc.Halton(len(ranges), scramble=False).random(count + 1)[1:]  # the first lies in the corner
    values = [tuple(search.at(share) for search, share in zip(ranges.values(), point, strict=True)) for point in points]
    for each in [value for value in values if value != first][: count - 1]:
        names = [key if len(parts) == 1 else f"{part}.{key}" for part, key in ranges]
        told = ", ".join(f"{name}={value:g}" for name, value in zip(names, each, strict=True))
        yield _candidate(row, f"{row.label} [{told}]", stated, dict(zip(ranges, each, strict=True)), seeds)


def _candidate(
    row: PlannedCell,
    label: str,
    stated: Mapping[str, Mapping[str, Any]],
    values: dict[tuple[str, str], float],
    seeds: Sequence[int],
) -> Candidate:
    """A row with other values, as cells that are scored on validation data."""
    settings: Values = {}
    for (part, key), value in values.items():
        settings.setdefault(part, {})[key] = value
    merged = {part: {**own, **settings.get(part, {})} for part, own in stated.items()}
    method = method_parts(registry.create(row.cell.method_name, merged), row.cell.regime)
    name, protocol = on_validation(row.cell.protocol, row.protocol)
    changes: dict[str, Any] = {"method": method, "protocol": name, "protocol_digest": protocol_digest(protocol)}
    recipe, teacher = row.cell.teacher_recipe, None
    if recipe and row.teacher:
        name, alone = on_validation(recipe.protocol, row.teacher.protocol)
        changes["teacher_recipe"] = TeacherRecipe(protocol=name, protocol_digest=protocol_digest(alone), seed=seeds[0])
    cells = [Cell.model_validate(dict(row.cell) | changes | {"seed": seed}) for seed in seeds]
    trained = teacher_cell(cells[0])
    if trained and row.teacher:
        teacher = replace(row.teacher, cell=trained, protocol=alone)
    planned = (PlannedCell(cell, protocol, label, row.block, teacher, skipped=row.skipped) for cell in cells)
    return Candidate(settings, tuple(planned))
