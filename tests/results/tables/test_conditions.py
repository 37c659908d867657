"""Conditions in tables: told in every heading, never two in one table, no published figure beside them."""

from __future__ import annotations

from results.analysis.blocks import Block, collect
from results.frame import scores
from results.records.schema import Condition, LabelNoise, Shift
from results.render import csv, markdown
from results.tables import claims, registry
from results.tables.summary import SUMMARY
from tests.results.factory import by_id, make_cell, make_manifest, make_record, make_row

NOISE = Condition(noise=LabelNoise(kind="symmetric", rate=0.2))
SHIFT = Condition(shift=Shift(corruptions=("jpeg", "fog"), severity=3, seed=2))
TOLD = {None: "", NOISE: "symmetric label noise 0.2", SHIFT: "shift to fog, jpeg at severity 3, seed 2"}
BOTH = Condition(noise=NOISE.noise, shift=SHIFT.shift)


def blocks(*conditions: Condition | None, title: str = "Offline") -> list[Block]:
    rows, records = [], []
    for number, condition in enumerate(conditions):
        for method, score in (("none", 70), ("kd", 72)):
            for seed in range(3):
                cell = make_cell(method, seed, condition=condition)
                rows.append(make_row(cell, block=title))
                records.append(make_record(cell, score + seed + 10 * number))
    return collect(make_manifest([], rows=rows), by_id(*records))


def test_blocks_of_one_title_and_two_conditions_are_two_tables() -> None:
    found = blocks(None, NOISE, SHIFT)
    assert [str(block.cell.condition or "") for block in found] == list(TOLD.values())
    for kind in registry.kinds():
        for table in kind.make(found).tables:
            if table.context.get("block"):
                assert table.context.get("condition", "") in TOLD.values()


def test_every_heading_tells_the_condition() -> None:
    assert str(BOTH) == "symmetric label noise 0.2 and shift to fog, jpeg at severity 3, seed 2"
    for condition, told in TOLD.items():
        (block,) = blocks(condition)
        for name in ("scores", "cost", "power"):
            (table,) = registry.get(name).tables([block])
            assert f"digit-scenes@1 · {told} · quick" in table.subtitle if told else " ·  · " not in table.subtitle
            assert told in markdown.render([table]) and told in csv.render([table])
            assert table.context.get("condition", "") == told


def test_the_summary_ranks_no_two_conditions_together() -> None:
    tables = SUMMARY.tables(2 * blocks(None, NOISE, SHIFT))
    assert [table.title for table in tables] == [
        "Offline, all blocks", "Offline, symmetric label noise 0.2, all blocks",
        "Offline, shift to fog, jpeg at severity 3, seed 2, all blocks",
    ]  # fmt: skip
    assert [table.subtitle for table in tables] == ["2 blocks"] * 3


def test_no_published_figure_stands_beside_a_condition() -> None:
    published = claims.load_claims()
    claim = next(c for c in published if c.regime == "offline" and c.teacher and c.benchmark == "cifar100")
    changes = {"benchmark": "cifar100@1", "student": claim.student, "teacher": claim.teacher}

    def of(condition: Condition | None) -> list[Block]:
        cell = make_cell(claim.method, condition=condition, **changes)
        return collect(make_manifest([cell]), by_id(make_record(cell)))

    assert claims.beside(of(None)[0], published) and not claims.beside(of(NOISE)[0], published)
    (nothing,) = claims.elsewhere(of(NOISE), published)
    assert nothing.notes == (
        "No published figure is known for cifar100 under symmetric label noise 0.2 in the regimes of this suite.",
    )


def test_data_frames_tell_it() -> None:
    frame = scores([make_record(make_cell("kd", condition=condition)) for condition in (NOISE, None)])
    assert frame.condition.dropna().unique().tolist() == ["symmetric label noise 0.2"]
    assert frame.condition.isna().any()
