"""Tables of a teacher that came as a checkpoint: scored with every student, named in the notes, held to no claim."""

from __future__ import annotations

import pytest

from results.analysis.blocks import Block, collect
from results.analysis.ranking import gain_over_baseline
from results.claims.claims import Claim
from results.records.schema import Cell, NetworkIdentity
from results.tables.claims import beside, elsewhere
from results.tables.scores import SCORES
from tests.results.factory import by_id, make_cell, make_manifest, make_record

SHA = "0123456789abcdef" * 4
OWN = NetworkIdentity(base="x.py", config=SHA[::-1], overrides={"head": {"width": 3}}, checkpoint=SHA)


def brought(method: str, seed: int = 0, own: NetworkIdentity = OWN) -> Cell:
    return make_cell(method, seed, teacher_recipe=None, networks={"resnet20": own})


def block(*teachers: float) -> Block:
    """Rows of none and kd whose teacher was scored so with each seed."""
    pairs = [(brought(method, seed), score) for method in ("none", "kd") for seed, score in enumerate(teachers)]
    found = by_id(*(make_record(cell, 80.0 + (cell.method_name == "kd"), score) for cell, score in pairs))
    (only,) = collect(make_manifest([cell for cell, _ in pairs]), found)
    return only


def test_one_file_is_one_teacher_even_where_devices_round_its_score_apart() -> None:
    made = block(90.0, 90.0, 90.01)
    assert made.frozen_teacher == [90.0]
    (table,) = SCORES.tables([made])
    label = [column.key for column in table.columns].index("label")
    assert [table.text(row, label) for row in table.rows] == ["frozen teacher", "kd", "none"]
    assert gain_over_baseline(made, made.lines[1]) == pytest.approx(0.1)


def test_the_notes_say_what_the_network_is_and_that_it_was_not_trained_here() -> None:
    (table,) = SCORES.tables([block(90.0)])
    assert table.notes[0] == (
        'Network \'resnet20\' is this suite\'s own: x.py (SHA-256 fedcba987654), with {"head":{"width":3}}, '
        "with the weights of checkpoint teacher.pth (SHA-256 0123456789ab), not trained here."
    )
    (empty,) = collect(make_manifest([brought("none")]), {})
    assert "with the weights of a checkpoint (SHA-256 0123456789ab), not trained here." in empty.own_parts[0]


def test_rows_of_two_checkpoints_are_not_in_one_table() -> None:
    other = OWN.model_copy(update={"checkpoint": "f" * 64})
    cells = [brought("none"), brought("kd", own=other)]
    assert len(collect(make_manifest(cells), by_id(*map(make_record, cells)))) == 2


def test_a_network_of_the_suites_own_is_not_the_one_of_a_published_figure() -> None:
    cell = make_cell("kd")
    claim = Claim(
        source="A", benchmark="digit-scenes", regime="offline", teacher="resnet20", student="resnet8", method="kd",
        scored="student", metric="top1", value=80.0, protocol="p",
    )  # fmt: skip
    (known,) = collect(make_manifest([cell]), by_id(make_record(cell)))
    assert beside(known, [claim])[0].title == known.title
    assert beside(block(90.0), [claim]) == []
    assert elsewhere([block(90.0)], [claim])[0].title.startswith("Published offline figures for pairs that")
