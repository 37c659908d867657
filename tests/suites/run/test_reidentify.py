"""``adm migrate``: a store of the first schema gets the present ids, and loses nothing, wherever it is broken off."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import adm, refusal

from results.records.store import Store
from suites.plan.plan import make_plan
from suites.run import reidentify
from suites.run.reidentify import bring_up
from suites.spec.expand import expand, teacher_cell
from suites.work.folder import WorkFolder
from suites.work.locks import acquire, forget

FROZEN = Path(__file__).resolve().parents[2] / "results" / "records"
AS_THEN = str(FROZEN / "quick-of-schema-2.yaml")
"""The suite quick of that time."""
KEPT = (
    *("status", "reason", "scores", "primary", "curves", "cost", "capabilities", "data_digest", "environment"),
    "attempts",
)
"""What no migration may touch."""
LATER = re.compile(r'\n *"(?:kernels": "portable"|compile": false),')


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A store as the first schema left it: a teacher, two students, and a pair that trained together."""
    return Path(shutil.copytree(FROZEN / "schema_1", tmp_path / "runs"))


def content(store: Path) -> dict[str, str]:
    """Every file by its place, without the keys that recipes have got since the stores here were frozen."""
    files = [file for file in sorted(store.rglob("*")) if file.is_file()]
    return {str(file.relative_to(store)): LATER.sub("", file.read_text()) for file in files}


def test_a_store_of_the_first_schema_becomes_the_frozen_one_of_the_second(first: Path) -> None:
    old = [json.loads(file.read_text()) for file in (first / "records").glob("*.json")]
    answer = adm("migrate", "--store", first)
    assert answer.code == 0 and "new ids for 4 cells" in answer.out and not answer.err
    assert content(first) == content(FROZEN / "schema_2")
    new = [json.loads(file.read_text()) for file in (first / "records").glob("*.json")]
    kept = [sorted(json.dumps([each[key] for key in KEPT]) for each in records) for records in (old, new)]
    assert kept[0] == kept[1]
    assert adm("migrate", "--store", first).out.endswith("no cell needed a new id\n")
    assert content(first) == content(FROZEN / "schema_2")


def test_suites_take_brought_up_cells_for_their_own_and_others_for_none(first: Path) -> None:
    def done() -> int:
        return sum(row.state == "done" for row in make_plan(expand(AS_THEN), Store(first), 1).rows)

    told = f"store '{first}': 4 records of an earlier version"
    assert told in adm("plan", "quick", "--store", first).err and done() == 0
    assert f"run adm migrate --store {first} first" in refusal("run", "quick", "--store", first)
    bring_up(Store(first))
    assert done() == 3 and told not in adm("plan", "quick", "--store", first).err
    teacher = next(cell for cell in expand(AS_THEN).artefacts)
    learners = [r for r in Store(first).records()[0].values() if r.teacher]
    assert {record.teacher.cell_id for record in learners if record.teacher} == {teacher.id}


@pytest.mark.parametrize("schema", ["schema_1", "schema_2"])
def test_a_learners_teacher_is_found_in_stores_of_either(schema: str) -> None:
    records = Store(FROZEN / schema).records()[0]
    (teacher,) = (record.id for record in records.values() if record.cell.regime == "alone")
    learners = [record for record in records.values() if record.teacher]
    assert len(learners) == 2
    for record in learners:
        alone = teacher_cell(record.cell)
        assert record.teacher and alone and record.teacher.cell_id == alone.id == teacher


def test_tables_are_the_same_before_and_after_but_for_digests(first: Path) -> None:
    before = adm("report", "quick", "--store", first).out
    bring_up(Store(first))
    assert adm("report", "quick", "--store", first).out.replace("67101ec2", "1f4c923b") == before


def test_an_unknown_protocol_keeps_its_ids_and_its_tables_until_its_file_is_named(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = Path(reidentify.__file__).parents[1] / "protocols" / "digit-scenes-quick.yaml"
    own = Path(shutil.copy(protocol, tmp_path / "digit-scenes-quick.yaml"))
    monkeypatch.setattr(reidentify, "protocol_names", list)
    before = {record.id for record in Store(first).records()[0].values()}
    answer = adm("migrate", "--store", first)
    assert "no cell needed a new id" in answer.out
    assert "and 3 more: protocol 'digit-scenes-quick' with digest 1f4c923b73995677 is not known here" in answer.err
    assert {record.id for record in Store(first).records()[0].values()} == before
    assert adm("report", "quick", "--store", first).code == 0 and Store(first).of_earlier_schemas() == []
    assert "new ids for 4 cells" in adm("migrate", "--store", first, "--protocol", own).out
    assert content(first) == content(FROZEN / "schema_2")


def test_the_work_folders_tell_their_protocols_and_go_along(first: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = next(r for r in Store(first).records()[0].values() if r.cell.regime == "alone")
    planned = expand(AS_THEN).artefacts[0]
    work = WorkFolder.of(first, teacher.id).path
    work.mkdir(parents=True)
    (work / "weights.safetensors").write_text("weights")
    given = {"cell": json.loads((first / "records" / f"{teacher.id}.json").read_text())["cell"], "options": {}}
    (work / "cell.json").write_text(json.dumps(given | {"protocol": planned.protocol.model_dump(mode="json")}))
    monkeypatch.setattr(reidentify, "protocol_names", list)
    assert len(bring_up(Store(first)).ids) == 4
    moved = WorkFolder.of(first, planned.id)
    assert moved.weights.read_text() == "weights" and WorkFolder.ids(first) == [planned.id]
    assert json.loads((moved.path / "cell.json").read_text())["cell"]["protocol_digest"] == planned.cell.protocol_digest


class BrokenOff(Exception):
    """As a kill would end it."""


@pytest.mark.parametrize("after", range(1, 6))
def test_a_migration_that_is_broken_off_loses_nothing_and_is_gone_on_with(
    first: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    written = 0

    def counting(write: Callable[..., object]) -> Callable[..., object]:
        def counted(self: Store, *given: object) -> object:
            nonlocal written
            written += 1
            if written > after:
                raise BrokenOff
            return write(self, *given)

        return counted

    with monkeypatch.context() as patched:
        for name in ("write_record", "write_protocol", "write_manifest"):
            patched.setattr(Store, name, counting(getattr(Store, name)))
        with pytest.raises(BrokenOff):
            bring_up(Store(first))
    assert len(Store(first).records()[0]) == 4
    bring_up(Store(first))
    assert content(first) == content(FROZEN / "schema_2")


def test_two_cells_that_are_one_now_are_both_kept(first: Path) -> None:
    record = next(r for r in Store(first).records()[0].values() if r.cell.method_name == "kd+adm")
    twin = record.cell.model_copy(update={"method": record.cell.method[::-1]})
    other = record.model_dump() | {"cell": twin.model_dump(), "id": twin.id, "scores": {"student": {"top1": 1.0}}}
    Store(first).write_record(type(record).model_validate(other))
    done = bring_up(Store(first))
    (reason,) = done.kept.values()
    assert reason.endswith("has a record already, and both are one cell now")
    assert len(done.ids) == 4 and len(Store(first).records()[0]) == 5


def test_a_store_at_which_a_runner_is_is_left_alone(first: Path) -> None:
    before, cell = content(first), Store(first).ids()[0]
    lock = acquire(first, cell)
    assert lock is not None
    assert f"a runner is at cell {cell}" in refusal("migrate", "--store", first)
    forget(first, cell, lock)
    assert content(first) == before
