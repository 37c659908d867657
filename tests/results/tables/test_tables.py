"""The rules of the tables: what ranks, what is bold, what is compared with what."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from scipy import stats

from results import report
from results.analysis.blocked import by_seed
from results.analysis.blocks import Block, collect
from results.records.schema import MethodPart, Primary, Stretch, Stretched, TeacherIdentity
from results.report import Results, tables_of
from results.tables.cost import COST
from results.tables.scores import SCORES
from results.tables.slices import SLICES
from tests.results.factory import by_id, failed, fid_suite, make_cell, make_manifest, make_record, make_row, one_block
from tests.results.reading import labels, row_of, value

LEADERBOARDS = Path(report.__file__).with_name("leaderboards")
Students = Mapping[str, Sequence[float | None]]
THREE: Students = {
    "none": (70.0, 71.0, 72.0),
    "kd": (74.0, 75.5, 76.1),
    "at": (73.9, 75.9, 75.7),
    "sp": (71.0, 71.9, 73.2),
}


def blocks_of(students: Students, regime: str = "offline", **more: Mapping[str, Sequence[float]]) -> list[Block]:
    return collect(*one_block(students, regime, **more))


def test_rows_are_ranked_by_mean_and_the_frozen_teacher_is_a_reference() -> None:
    (table,) = SCORES.tables(blocks_of(THREE))
    assert labels(table) == ["frozen teacher", "kd", "at", "sp", "none"]
    assert [value(table, row, "rank") for row in table.rows] == [None, "1", "2", "3", "4"]
    assert [row.kind for row in table.rows] == ["reference", "ranked", "ranked", "ranked", "baseline"]


def test_bold_is_the_best_and_what_cannot_be_told_from_it() -> None:
    (table,) = SCORES.tables(blocks_of(THREE))
    bold = [label for label, row in zip(labels(table), table.rows, strict=True) if any(e.bold for e in row.entries)]
    assert bold == ["kd", "at"]
    assert any("Bold: the best mean, and all" in note for note in table.notes)


def test_two_rows_alike_but_for_their_means_are_bold_from_the_top_down() -> None:
    """Once the second of three was plain and the third bold, because its own differences were the noisier."""
    scores = {"none": (60.0, 61.0, 62.0), "at": (73.0, 74.4, 75.3), "sp": (72.0, 76.4, 73.3), "kd": (75.0, 76.2, 77.1)}
    (table,) = SCORES.tables(blocks_of(scores))
    assert [row.entries[1].bold for row in table.rows[1:]] == [True, True, True, False]
    assert stats.ttest_rel(scores["kd"], scores["at"]).pvalue < 0.01


@pytest.mark.parametrize("suite", sorted(path.name for path in LEADERBOARDS.iterdir()))
def test_bold_is_a_top_segment_of_every_committed_table(suite: str) -> None:
    for table in SCORES.tables(report.load(LEADERBOARDS / suite, suite).blocks):
        bold = [any(entry.bold for entry in row.entries) for row in table.rows if row.kind in ("ranked", "baseline")]
        assert bold[0] and bold == sorted(bold, reverse=True)


def test_with_one_seed_only_the_best_mean_is_bold_and_the_table_says_so() -> None:
    (table,) = SCORES.tables(blocks_of({"none": (70.0,), "kd": (70.1,)}))
    assert [row.entries[1].bold for row in table.rows] == [False, True, False]
    assert any("nothing can be told apart" in note for note in table.notes)


def test_differences_are_tested_over_the_ranked_rows() -> None:
    (table,) = SCORES.tables(blocks_of(THREE | {"dkd": (75.0, None, 77.0)}))
    design = by_seed([dict(enumerate(THREE[method])) for method in THREE], baseline=0)
    for method, p in zip(THREE, design.p_values(), strict=True):
        if method != "none":
            assert value(table, row_of(table, method), "top1_delta", 1) == p
    assert value(table, row_of(table, "none"), "top1_delta") is None
    incomplete = row_of(table, "dkd")
    assert value(table, incomplete, "top1_delta") == pytest.approx(5.0)  # over seeds 0 and 2
    assert value(table, incomplete, "top1_delta", 1) is None
    assert "p: Dunnett's test of the differences to 'none'; the noise is pooled over rows, by seed." in table.notes


def test_students_and_teachers_are_two_families() -> None:
    students = {"none": (70.0, 72.0, 71.0), "dml": (75.0, 76.0, 75.1), "adm": (73.0, 74.0, 75.0)}
    teachers = {"none": (80.0, 82.0, 81.0), "dml": (85.0, 86.0, 86.9), "adm": (80.5, 82.0, 83.0)}
    (table,) = SCORES.tables(blocks_of(students, "online", teachers=teachers))
    for key, scores in (("top1_delta", students), ("teacher_top1_delta", teachers)):
        p_values = by_seed([dict(enumerate(row)) for row in scores.values()], 0).p_values()
        found = [value(table, row_of(table, method), key, 1) for method in ("dml", "adm")]
        assert found == pytest.approx(p_values[1:])


@pytest.mark.parametrize("noisy", ["sp", "none"])
def test_a_table_of_grossly_uneven_noise_says_so_and_how_it_tests(noisy: str) -> None:
    scores = {
        "none": (70.1, 70.0, 70.2, 70.1, 70.0, 70.1),
        "kd": (71.0, 71.1, 71.2, 71.0, 71.1, 71.2),
        "at": (70.5, 70.6, 70.5, 70.4, 70.6, 70.5),
    }
    scores[noisy] = (60.0, 75.3, 81.2, 55.1, 90.0, 66.6)
    (table,) = SCORES.tables(blocks_of(scores))
    methods = [method for method in scores if method != "none"]
    raw = [stats.ttest_rel(scores[method], scores["none"]).pvalue for method in methods]
    found = [value(table, row_of(table, method), "top1_delta", 1) for method in methods]
    bold, p = table.notes[-2:]
    assert bold.endswith(f"95 %; the noise of '{noisy}', which exceeds the others' grossly, counted apart).")
    rows = by_seed([dict(enumerate(row)) for row in scores.values()], 0)
    assert found == pytest.approx(rows.p_values()[1:])
    assert f"pooled over rows, by seed, but that of '{noisy}', which exceeds the others' grossly" in p
    if noisy == "none":
        assert p.endswith("the baseline's is counted in every difference, as common to all.")
    else:
        assert found[-1] == pytest.approx(min(1.0, 3 * raw[-1])) and p.endswith("a paired t-test, Bonferroni-adjusted.")


def on_seeds(planned: Mapping[str, Sequence[int]]) -> list[Block]:
    cells = [make_cell(method, seed) for method, seeds in planned.items() for seed in seeds]
    return collect(make_manifest(cells), by_id(*(make_record(c, 70.0 + 3 * c.seed % 5, 90.0) for c in cells)))


def test_a_row_on_other_seeds_than_most_is_shown_unranked_and_why() -> None:
    (table,) = SCORES.tables(on_seeds({"none": (0, 1, 2), "kd": (0, 1, 2), "at": (0, 1, 2, 3, 4)}))
    row = row_of(table, "at")
    assert (row.kind, value(table, row, "n"), value(table, row, "rank")) == ("unranked", "5", None)
    assert row.note == "on seeds 0, 1, 2, 3, 4, where the table stands on 0, 1, 2"
    assert value(table, row, "top1_delta") == 0.0 and value(table, row, "top1_delta", 1) is None


def test_where_no_seeds_are_the_more_frequent_the_baselines_decide() -> None:
    (block,) = on_seeds({"kd": (0, 1, 2), "none": (0, 1)})
    assert block.seeds == {0, 1}
    (table,) = SCORES.tables(on_seeds({"kd": (0, 1, 2), "at": (0, 1, 2), "none": (0, 1)}))
    assert row_of(table, "none").kind == "unranked"
    assert value(table, row_of(table, "kd"), "top1_delta") is not None
    assert value(table, row_of(table, "kd"), "top1_delta", 1) is None
    assert "The baseline 'none' is unranked: differences use shared seeds, untested." in table.notes


def test_of_two_baseline_rows_the_one_on_the_tables_seeds_is_the_baseline() -> None:
    """More seeds make no row the better reference, where it cannot be tested against the others."""
    parts = tuple(MethodPart(name="none", version=1, settings={"note": note}) for note in ("short", "long"))
    cells = [make_cell(seed=seed, parts=(parts[0],)) for seed in (0, 1)]
    cells += [make_cell(seed=seed, parts=(parts[1],)) for seed in (0, 1, 2)]
    cells += [make_cell("kd", seed) for seed in (0, 1)]
    scores = (70.0, 70.5, 71.0, 70.0, 70.2, 75.0, 75.6)
    records = by_id(*(make_record(cell, score) for cell, score in zip(cells, scores, strict=True)))
    (block,) = collect(make_manifest(cells), records)
    assert block.seeds == {0, 1} and block.baseline is block.lines[0]
    (table,) = SCORES.tables([block])
    assert value(table, row_of(table, "kd"), "top1_delta", 1) is not None


def test_an_incomplete_row_is_shown_unranked_whatever_its_mean() -> None:
    (table,) = SCORES.tables(blocks_of(THREE | {"dkd": (99.0, None, 99.0)}))
    row = table.rows[-1]
    assert value(table, row, "label") == "dkd" and row.kind == "unranked"
    assert value(table, row, "rank") is None and value(table, row, "n") == "2/3"
    assert value(table, row, "state") == "2 ok, 1 diverged" and row.note == "diverged: loss is not finite"
    assert not any(entry.bold for entry in row.entries)
    assert row_of(table, "kd").entries[1].bold


def test_failed_skipped_and_absent_rows_say_why() -> None:
    cells = [make_cell(method) for method in ("none", "oom", "skip", "gone")]
    records = by_id(
        make_record(cells[0]), failed(cells[1], "oom", "needs 9 GiB"), failed(cells[2], "skipped", "no stages")
    )
    (table,) = SCORES.tables(collect(make_manifest(cells), records))
    found = {
        label: (value(table, row, "state"), row.note, row.kind)
        for label, row in zip(labels(table), table.rows, strict=True)
    }
    assert found["oom"] == ("1 oom", "oom: needs 9 GiB", "unranked")
    assert found["skip"] == ("1 skipped", "skipped: no stages", "unranked")
    assert found["gone"] == ("1 not run", "", "unranked")


def test_gain_offline_is_measured_against_the_frozen_teacher() -> None:
    (table,) = SCORES.tables(blocks_of({"none": (70.0, 72.0), "kd": (75.0, 76.0)}))
    assert value(table, row_of(table, "kd"), "gain") == pytest.approx((75.5 - 71.0) / (90.0 - 71.0))
    assert value(table, row_of(table, "none"), "gain") is None


def test_there_is_no_gain_where_the_baselines_interval_reaches_the_teacher() -> None:
    """A method that is ahead by 1.0 would go ten times the way of 0.1."""
    near, far = (
        SCORES.tables(blocks_of({"none": (89.9 - spread, 89.9, 89.9 + spread), "kd": (90.9, 90.9, 90.9)}))[0]
        for spread in (0.01, 0.2)
    )
    assert value(near, row_of(near, "kd"), "gain") == pytest.approx(10.0)
    assert "gain" not in [column.key for column in far.columns] and any("no gains" in note for note in far.notes)


def test_gain_online_is_measured_against_the_teacher_that_learned_alone() -> None:
    students = {"none": (70.9, 71.1), "dml": (75.0, 76.0)}
    teachers = {"none": (80.0, 82.0), "dml": (85.0, 86.0)}
    (table,) = SCORES.tables(blocks_of(students, "online", teachers=teachers))
    row = row_of(table, "dml")
    assert value(table, row, "gain") == pytest.approx((75.5 - 71.0) / (81.0 - 71.0))
    assert value(table, row, "teacher_top1") == pytest.approx(85.5)
    assert value(table, row, "teacher_top1_delta") == pytest.approx(4.5)


def test_equals_have_their_mean_and_their_ensemble_beside_what_is_deployed() -> None:
    cells = [make_cell(method, seed, "peers", teacher=None) for method in ("none", "dml") for seed in (0, 1)]
    records = {cell.id: make_record(cell, 70.0 + cell.seed, None) for cell in cells}
    for cell in cells[2:]:
        top1 = {"student": 75.0, "peer1": 77.0 + cell.seed, "peer2": 76.0, "ensemble": 80.0 + cell.seed}
        scores = {network: {"top1": value} for network, value in top1.items()}
        records[cell.id] = make_record(cell, scores=scores)
    (table,) = SCORES.tables(collect(make_manifest(cells), by_id(*records.values())))
    dml, none = row_of(table, "dml"), row_of(table, "none")
    assert value(table, dml, "top1") == 75.0
    assert value(table, dml, "equals_top1") == pytest.approx((76.0 + 229 / 3) / 2)
    assert (value(table, dml, "ensemble_top1"), value(table, dml, "ensemble_top1", 1)) == (
        80.5,
        pytest.approx(0.5**0.5),
    )
    assert value(table, none, "equals_top1") is value(table, none, "ensemble_top1") is None
    assert "equals_top1" not in [column.key for column in SCORES.tables(blocks_of(THREE))[0].columns]


def test_without_a_baseline_there_are_no_differences_and_a_note() -> None:
    (table,) = SCORES.tables(blocks_of({"none": (None, None), "kd": (75.0, 76.0)}))
    assert "top1_delta" not in [column.key for column in table.columns]
    assert any("No seed of the baseline 'none' is ok" in note for note in table.notes)


def test_teachers_that_differ_leave_no_gain() -> None:
    teachers = {"none": (90.0, 90.0), "kd": (90.0, 91.0)}
    (table,) = SCORES.tables(blocks_of({"none": (70.0, 72.0), "kd": (75.0, 76.0)}, teachers=teachers))
    assert "gain" not in [column.key for column in table.columns]
    assert any("teachers with different scores" in note for note in table.notes)


def test_other_weights_of_a_teacher_are_told_though_their_score_is_equal() -> None:
    cells = [make_cell("none"), make_cell("kd")]
    records = [
        make_record(cell).model_copy(
            update={"teacher": TeacherIdentity(cell_id="f" * 16, digest=digit * 64, score=90.0)}
        )
        for cell, digit in zip(cells, "12", strict=True)
    ]
    (table,) = SCORES.tables(collect(make_manifest(cells), by_id(*records)))
    assert any("different weights of the teacher, though of equal score: SHA-256 1111" in note for note in table.notes)
    assert not any("different weights" in note for note in SCORES.tables(blocks_of(THREE))[0].notes)


def test_a_row_that_trains_longer_is_told_and_is_no_baseline() -> None:
    matching = Stretch(match=(make_cell("kd").method,))
    cells = [make_cell("none", seed, stretch=matching) for seed in (0, 1)]
    cells += [make_cell(method, seed) for method in ("none", "kd") for seed in (0, 1)]
    longer = Stretched(factor=1.83, epochs=11, dearest="kd")
    scores = (75.0, 76.0, 70.0, 71.5, 74.0, 75.0)
    records = [
        make_record(cell, score, stretched=longer if cell.stretch else None)
        for cell, score in zip(cells, scores, strict=True)
    ]
    rows = [make_row(cell, "longer" if cell.stretch else "") for cell in cells]
    (block,) = collect(make_manifest([]).model_copy(update={"rows": rows}), by_id(*records))
    (table,) = SCORES.tables([block])
    assert labels(table) == ["frozen teacher", "longer", "kd", "none"]
    assert block.baseline is not None and block.baseline.label == "none"
    assert value(table, row_of(table, "longer"), "top1_delta") == pytest.approx(4.75)
    told = "'longer' trains 11 epochs, 1.83 times the protocol's: its training costs as much as that of 'kd', in FLOPs."
    assert told in table.notes


def test_a_score_that_is_better_when_lower_ranks_upwards() -> None:
    fid = Primary(metric="fid", higher_is_better=False, unit="", selection="last")
    cells = [make_cell("none"), make_cell("kd")]
    records = [
        make_record(cell, primary=fid, scores={"student": {"fid": f}})
        for cell, f in zip(cells, (9.0, 7.0), strict=True)
    ]
    (table,) = SCORES.tables(collect(make_manifest(cells), by_id(*records)))
    assert labels(table)[1:] == ["kd", "none"] and "FID ↓" in [column.heading for column in table.columns]


def test_gain_of_a_score_that_is_better_when_lower_is_positive_where_the_method_helps() -> None:
    cells, records = fid_suite({"none": 20.0, "kd": 10.0, "at": 25.0}, 5.0)
    (table,) = SCORES.tables(collect(make_manifest(cells), by_id(*records)))
    assert value(table, row_of(table, "kd"), "gain") == pytest.approx(10 / 15)
    assert value(table, row_of(table, "kd"), "fid_delta") == pytest.approx(-10.0)
    assert value(table, row_of(table, "at"), "gain") == pytest.approx(-5 / 15)


def test_a_teacher_that_is_not_better_than_the_baseline_leaves_no_gain_and_a_note() -> None:
    cells, records = fid_suite({"none": 20.0, "kd": 10.0}, 21.0)
    (table,) = SCORES.tables(collect(make_manifest(cells), by_id(*records)))
    assert "gain" not in [column.key for column in table.columns]
    assert "The teacher is not better than the baseline, or within its 95 % interval: no gains." in table.notes
    assert not any("not better" in note for note in SCORES.tables(blocks_of(THREE))[0].notes)


def test_score_tables_hold_no_timings_and_cost_tables_no_scores() -> None:
    blocks = blocks_of(THREE)
    assert not {"train_s", "step_ms", "peak_memory_mb"} & {column.key for column in SCORES.tables(blocks)[0].columns}
    (table,) = COST.tables(blocks)
    assert "top1" not in {column.key for column in table.columns}
    assert value(table, row_of(table, "none"), "slowdown") == 1.0


def test_cost_is_relative_to_the_baselines_step() -> None:
    (table,) = COST.tables(blocks_of({"none": (70.0, 71.0), "dml+adm": (75.0, 76.0)}))
    assert value(table, row_of(table, "dml+adm"), "slowdown") == pytest.approx(1.5)  # 15 ms against 10


def test_blocks_part_what_may_not_be_compared() -> None:
    one, other = make_cell("none"), make_cell("kd", protocol_digest="f" * 16)
    blocks = collect(make_manifest([one, other]), by_id(make_record(one), make_record(other)))
    assert [len(block.lines) for block in blocks] == [1, 1]


@pytest.mark.parametrize("kind", ["scores", "cost", "claims", "summary"])
def test_the_order_in_which_records_are_read_changes_nothing(kind: str) -> None:
    manifest, records = one_block(THREE | {"dkd": (75.0, None, 77.0)}, "online")
    ids = list(records)
    expected = tables_of(Results(manifest, collect(manifest, records), ()), kind)
    for seed in range(3):
        random.Random(seed).shuffle(ids)
        blocks = collect(manifest, {cell_id: records[cell_id] for cell_id in ids})
        assert tables_of(Results(manifest, blocks, ()), kind) == expected


def test_a_metric_in_parts_has_a_table_of_its_own_and_none_in_the_scores():
    def record(method, seed, car, sky):
        scores = {"student": {"top1": 50.0, "iou/car": car, "iou/sky": sky}}
        return make_record(make_cell(method, seed, regime="online"), scores=scores)

    records = [record("none", 0, 10.0, 20.0), record("none", 1, 20.0, None), record("dml", 0, 40.0, 60.0)]
    manifest = make_manifest([r.cell for r in records])
    blocks = collect(manifest, by_id(*records), {})
    (table,) = SLICES.tables(blocks)
    assert [c.title for c in table.columns] == ["part", "none", "dml"] and table.context["metric"] == "iou"
    values = {row.entries[0].values[0]: [entry.values[0] for entry in row.entries[1:]] for row in table.rows}
    assert values == {"car": [15.0, 40.0], "sky": [20.0, 60.0]}
    assert not any("/" in column.key for column in SCORES.tables(blocks)[0].columns)
    assert SLICES.tables(collect(manifest, {}, {})) == []
