"""What plots draw of a block: which rows, what of their curves, and how far an axis goes."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from results import plots
from results.analysis.blocks import Block, collect
from results.plots.curves import _against
from results.records.schema import Record
from tests.results.factory import make_cell, make_manifest, make_record, one_block


def _block(students: dict[str, tuple[float | None, ...]], regime: str = "offline") -> Block:
    return collect(*one_block(students, regime))[0]


def test_teacher_curves_are_paired_differences_over_the_epochs_that_both_have() -> None:
    def record(method: str, seed: int, teacher: list[float | None]) -> Record:
        cell = make_cell(method, seed, "online")
        return make_record(cell, curves={"epoch": [1.0, 2.0, 3.0], "validation.teacher.top1": teacher})

    records = [record("none", 0, [50, None, 60]), record("none", 1, [52, 56, 64]),
               record("dml", 0, [51, 55, 63]), record("dml", 1, [52, 57, 65])]  # fmt: skip
    (block,) = collect(make_manifest([r.cell for r in records]), {r.id: r for r in records})
    none, dml = block.lines
    assert _against(dml, none, "validation.teacher.top1") == [(1.0, 0.5), (3.0, 2.0)]


def test_the_name_of_an_axis_stays_in_the_picture_beside_long_numbers() -> None:
    curves = {"epoch": [1.0, 2.0, 3.0], "log.consensus_entropy": [0.989, 0.9965, 0.9983]}
    records = [make_record(make_cell("none", seed), curves=curves) for seed in (0, 1)]
    (block,) = collect(make_manifest([r.cell for r in records]), {r.id: r for r in records})
    with plots.drawing():
        (plot,) = [p for p in plots.curves(block, plots.choose(block), "x") if "consensus" in p.title]
    texts = {text.text or "": text for text in ET.fromstring(plot.svg).iter("text")}
    assert any(re.fullmatch(r"0\.99\d{2}", text) for text in texts)
    assert float(texts["consensus entropy"].attrib["x"]) >= 8.7  # of letters on their side the foot; they are as high


def test_a_vast_interval_does_not_hide_the_seeds() -> None:
    with plots.drawing():
        plot = plots.intervals(_block({"none": (70.0, 70.1), "kd": (70.0, 72.0)}), "x")  # kd: 71 ± 12.7
    assert plot is not None
    ticks = [
        float(t.text.replace("−", "-"))
        for t in ET.fromstring(plot.svg).iter("text")
        if re.fullmatch(r"−?[\d.]+", t.text or "")
    ]
    assert max(ticks) <= 100 and min(ticks) >= 40


def test_many_rows_are_drawn_as_the_baseline_and_the_best() -> None:
    block = _block({"none": (50.0, 51.0)} | {f"m{i}": (60.0 + i, 61.0 + i) for i in range(30)})
    chosen = plots.choose(block)
    assert [series.line.label for series in chosen] == [f"m{29 - i}" for i in range(7)] + ["none"]
    assert len({(series.color, series.dash) for series in chosen}) == 8
