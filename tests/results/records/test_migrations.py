"""Documents of older versions become readable, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from results.errors import RecordError
from results.records.migrations import MIGRATIONS, migrate
from results.records.schema import SCHEMA_VERSION
from results.records.store import Store

Document = dict[str, Any]


def _rename(document: Document) -> Document:
    document["score"] = document.pop("accuracy")
    return document


def _to_percent(document: Document) -> Document:
    document["score"] *= 100
    return document


CHAIN = {1: _rename, 2: _to_percent}


def test_steps_are_applied_in_order_and_the_original_stays() -> None:
    old = {"schema_version": 1, "accuracy": 0.5}
    assert migrate(old, "x.json", CHAIN, 3) == {"schema_version": 3, "score": 50.0}
    assert old == {"schema_version": 1, "accuracy": 0.5}


def test_a_chain_is_entered_where_the_document_stands() -> None:
    assert migrate({"schema_version": 2, "score": 0.25}, "x.json", CHAIN, 3) == {"schema_version": 3, "score": 25.0}
    assert migrate({"schema_version": 3, "score": 1}, "x.json", CHAIN, 3) == {"schema_version": 3, "score": 1}


def test_a_gap_in_the_chain_is_named() -> None:
    with pytest.raises(RecordError, match=r"x\.json: no migration leads from schema 1 to 2"):
        migrate({"schema_version": 1}, "x.json", {2: _to_percent}, 3)


def test_a_newer_document_asks_for_an_upgrade() -> None:
    with pytest.raises(RecordError, match=r"x\.json: written by a newer ADM-Bench \(schema 9.*upgrade"):
        migrate({"schema_version": 9}, "x.json")


@pytest.mark.parametrize("version", [None, "1", 0, -1, True, 1.0])
def test_a_version_that_is_none_is_named(version: object) -> None:
    with pytest.raises(RecordError, match="'schema_version' is"):
        migrate({"schema_version": version}, "x.json")


def test_the_ids_of_the_first_schema_stay_where_nobody_brings_them_up() -> None:
    store = Store(Path(__file__).with_name("schema_1"))
    records, problems = store.records()
    assert not problems and set(records) == set(store.ids()) == set(store.of_earlier_schemas())
    manifest = store.read_manifest("quick")
    assert {row.cell.rule for row in manifest.rows} == {record.cell.rule for record in records.values()} == {1}
    assert {row.id for row in manifest.rows} < set(records)


def test_a_step_leads_from_every_older_version() -> None:
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA_VERSION))
