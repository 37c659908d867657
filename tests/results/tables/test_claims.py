"""Published figures beside ours: which stand beside what, and that they are never ranked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from adm_core import registry
from results.analysis.blocks import Block, collect
from results.claims.claims import Claim, load_claims
from results.records.schema import MethodPart, Primary
from results.table import Table
from results.tables.claims import beside, elsewhere
from results.tables.scores import SCORES
from tests.results.factory import by_id, fid_suite, make_cell, make_manifest, make_record, make_row, one_block
from tests.results.reading import row_of, value

THREE = {"none": (70.0, 71.0, 72.0), "kd": (74.0, 75.5, 76.1), "at": (73.9, 75.9, 75.7)}


def claims(blocks: Sequence[Block], published: Sequence[Claim]) -> list[Table]:
    """All the tables of published figures."""
    return [table for block in blocks for table in beside(block, published)] + elsewhere(blocks, published)


def test_published_figures_stand_in_their_own_columns_and_are_never_ranked() -> None:
    claim = Claim(benchmark="digit-scenes", regime="offline", teacher="resnet20", student="resnet8", method="kd",
                  metric="top1", scored="student", value=99.9, source="A paper", protocol="as printed")  # fmt: skip
    blocks = collect(*one_block(THREE))
    (table,) = claims(blocks, [claim])
    assert [column.key for column in table.columns] == ["label", "scored", "ours", "n", "published_1"]
    row = row_of(table, "kd")
    assert value(table, row, "published_1") == 99.9 and value(table, row, "ours") == pytest.approx(75.2)
    assert not any(entry.bold for row in table.rows for entry in row.entries)
    assert any("not ranked" in note for note in table.notes)
    assert [value(t, r, "top1") for t in SCORES.tables(blocks) for r in t.rows].count(99.9) == 0


def test_a_row_whose_label_names_a_published_method_stands_beside_that_one() -> None:
    """A row of kd with standardised logits is kd by its parts, and its published figure that of kd+ls."""
    part = MethodPart(name="kd", version=1, settings={"standardise": True})
    plain, standardised = make_cell("kd"), make_cell(parts=(part,))
    manifest = make_manifest([], rows=[make_row(plain), make_row(standardised, label="kd+ls")])
    fields = {"benchmark": "digit-scenes", "regime": "offline", "teacher": "resnet20", "student": "resnet8",
              "metric": "top1", "scored": "student", "source": "A paper", "protocol": "as printed"}  # fmt: skip
    published = [Claim.model_validate(fields | {"method": m, "value": v}) for m, v in (("kd", 73.3), ("ls+kd", 76.6))]
    blocks = collect(manifest, by_id(make_record(plain), make_record(standardised)))
    (table,) = claims(blocks, published)
    assert [row.entries[0].values[0] for row in table.rows] == ["kd", "kd+ls"]
    assert [value(table, row_of(table, label), "published_1") for label in ("kd", "kd+ls")] == [73.3, 76.6]


def test_published_miou_of_a_segmentation_pair_stands_beside_ours_val_and_test_server_apart() -> None:
    cell = make_cell("kd+cirkd", task="segmentation", benchmark="cityscapes@1", teacher="deeplabv3-r101",
                     student="deeplabv3-r18")  # fmt: skip
    scored = {"student": {"miou": 75.0}, "teacher": {"miou": 78.0}}
    primary = Primary(metric="miou", higher_is_better=True, unit="%", selection="last")
    blocks = collect(make_manifest([cell]), by_id(make_record(cell, scores=scored, primary=primary)))
    table = claims(blocks, load_claims())[0]
    row = row_of(table, "kd+cirkd")
    shown = {
        column.title.split(" [")[0]: value(table, row, column.key)
        for column in table.columns
        if column.key.startswith("published_") and value(table, row, column.key) is not None
    }
    assert value(table, row, "ours") == 75.0
    assert shown == {"CIRKD v1 README": 76.38, "CIRKD v1 README, test server": 75.05}


def test_compositions_are_found_in_whatever_order_a_source_names_their_parts() -> None:
    every = {claim.method for claim in load_claims()}
    assert {"skd+kd", "skd+kd+cwd", "skd+kd+ifvd", "mgd+cwd", "kd+cirkd"} <= every
    known = [name for name in every if set(name.split("+")) <= set(registry.names())]
    assert [registry.create(name).card.name for name in known] == known


def test_published_fid_stands_beside_ours_by_sampler_and_evaluations() -> None:
    networks = {"benchmark": "cifar10@2", "teacher": "ddpm-cifar", "student": "ddpm-cifar-small"}
    cells, records = fid_suite({"none": 12.0, "bksdm": 9.0}, 6.0, **networks)
    table, *others = claims(collect(make_manifest(cells), by_id(*records)), load_claims())
    headings = {column.key: column.heading for column in table.columns}
    assert headings["ours"] == "ours: FID ↓" and headings["nfe"] == "NFE"
    titles = {heading.split(" [")[0]: key for key, heading in headings.items() if key.startswith("published")}
    assert all(heading.endswith("↓") for key, heading in headings.items() if key.startswith("published"))
    found = {value(table, row, "nfe"): row for row in table.rows}
    assert list(found) == [None, 10, 20, 50, 100, 1000]  # of the teacher alone: no student is published here
    assert all((value(table, row, "label"), value(table, row, "scored")) == ("none", "teacher") for row in table.rows)
    assert value(table, found[None], "ours") == 6.0
    assert value(table, found[50], titles["DDIM paper, eta 0"]) == 4.67
    assert value(table, found[50], titles["DDIM paper, eta 1"]) == 8.01
    assert value(table, found[1000], titles["DDPM paper"]) == 3.17
    assert value(table, found[10], titles["DDPM paper"]) is None and value(table, found[10], "ours") is None
    assert [other.title for other in others] == [
        "Published offline figures for pairs that this suite does not have",
        "Published figures of networks trained alone that this suite does not have",
    ]
    assert {value(others[0], row, "label") for row in others[0].rows} == {"progressive", "consistency"}


def test_published_figures_of_one_task_are_not_shown_for_another_of_the_same_benchmark() -> None:
    cells, records = fid_suite({"none": 12.0}, 6.0, benchmark="cifar100@1")
    (table,) = claims(collect(make_manifest(cells), by_id(*records)), load_claims())
    assert table.rows == () and "No published figure is known for cifar100" in table.notes[0]
    photos = make_cell("none", benchmark="cifar10@1")
    (table,) = claims(collect(make_manifest([photos]), by_id(make_record(photos))), load_claims())
    assert table.rows == ()


def test_a_claim_of_another_pair_regime_or_benchmark_is_not_put_beside_ours() -> None:
    fields = {
        "benchmark": "digit-scenes",
        "regime": "offline",
        "teacher": "resnet20",
        "student": "resnet8",
        "method": "kd",
        "metric": "top1",
        "scored": "student",
        "value": 1.0,
        "source": "s",
        "protocol": "p",
    }
    for change in ({"benchmark": "cifar100"}, {"regime": "online"}, {"student": "resnet14"}):
        for table in claims(collect(*one_block(THREE)), [Claim.model_validate(fields | change)]):
            assert "ours" not in [column.key for column in table.columns]
