"""``adm compare``: over the seeds that both sides have, tested as tables are; clear about what cannot be compared."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import adm, refusal
from scipy import stats

from results.records.schema import Attempt, Cell, Manifest, ManifestRow, MethodPart, Primary, Record, TeacherRecipe
from results.records.store import Store
from suites.look.compare import compare

BENCHMARK, DIGEST = "digit-scenes@1", "0123456789abcdef"
KD = {0: 71.0, 1: 74.5, 2: 73.0, 3: 70.0}
DKD = {0: 72.0, 1: 76.0, 2: 73.5}


def cell(method: str, seed: int, student: str, regime: str, settings: dict[str, float]) -> Cell:
    parts = tuple(MethodPart(name=name, version=1, settings=settings) for name in method.split("+"))
    recipe = TeacherRecipe(protocol="quick", protocol_digest=DIGEST, seed=0) if regime == "offline" else None
    return Cell(
        task="classification", benchmark=BENCHMARK, protocol="quick", protocol_digest=DIGEST, regime=regime,
        student=student, teacher="resnet20", teacher_recipe=recipe, method=parts, seed=seed,
    )  # fmt: skip


def fill(
    root: Path,
    method: str,
    scores: dict[int, float],
    student: str = "resnet8",
    regime: str = "offline",
    teacher: float = 80.0,
    status: str = "ok",
    data: str | None = None,
    **settings: float,
) -> list[str]:
    """Records of one row; returns their ids."""
    ids = []
    for seed, score in scores.items():
        made = cell(method, seed, student, regime, settings)
        Store(root).write_record(
            Record(
                id=made.id, cell=made, status=status, reason=None if status == "ok" else "it went wrong",
                scores={"student": {"top1": score}, "teacher": {"top1": teacher + score / 10}},
                primary=Primary(metric="top1", higher_is_better=True, unit="%", selection="last"),
                attempts=[Attempt(status=status, seconds=1.0)], data_digest=data,
            )
        )  # fmt: skip
        ids.append(made.id)
    return ids


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fill(tmp_path, "kd", KD)
    fill(tmp_path, "dkd", DKD)
    return tmp_path


def test_methods_are_paired_by_the_seeds_that_both_have(root):
    (line,) = compare("dkd", "kd", Store(root))
    shared = sorted(DKD)
    first, second = [DKD[s] for s in shared], [KD[s] for s in shared]
    assert (line.benchmark, line.pair, line.regime, line.n) == (BENCHMARK, "resnet20 > resnet8", "offline", 3)
    assert line.first == pytest.approx(sum(first) / 3) and line.second == pytest.approx(sum(second) / 3)
    assert line.difference == pytest.approx(line.first - line.second)
    assert line.p == pytest.approx(stats.ttest_rel(first, second).pvalue)


def test_scores_of_different_data_are_not_compared(tmp_path):
    fill(tmp_path, "kd", KD, data="train 1a2b, extractor 9a12")
    fill(tmp_path, "dkd", DKD, data="train 1a2b, extractor 77c0")
    told = refusal("compare", "dkd", "kd", "--store", tmp_path)
    assert "extractor (77c0 / 9a12)" in told and "train (" not in told


def test_records_that_name_no_data_are_compared(tmp_path):
    fill(tmp_path, "kd", KD, data="train 1a2b")
    fill(tmp_path, "dkd", DKD)
    assert compare("dkd", "kd", Store(tmp_path))


def test_the_other_way_round_is_the_opposite(root):
    (one,), (other,) = compare("dkd", "kd", Store(root)), compare("kd", "dkd", Store(root))
    assert one.difference == pytest.approx(-other.difference) and one.p == pytest.approx(other.p)


def test_p_values_are_adjusted_over_all_lines(root):
    fill(root, "kd", {0: 60.0, 1: 61.0, 2: 60.5}, student="resnet14")
    fill(root, "dkd", {0: 60.9, 1: 61.2, 2: 60.6}, student="resnet14")
    lines = {line.pair: line for line in compare("dkd", "kd", Store(root))}
    raw = {
        "resnet20 > resnet8": stats.ttest_rel(list(DKD.values()), [KD[s] for s in DKD]).pvalue,
        "resnet20 > resnet14": stats.ttest_rel([60.9, 61.2, 60.6], [60.0, 61.0, 60.5]).pvalue,
    }
    small, large = sorted(raw, key=raw.get)
    assert lines[small].p == pytest.approx(min(1, 2 * raw[small]))
    assert lines[large].p == pytest.approx(max(min(1, 2 * raw[small]), raw[large]))


def test_online_teachers_are_compared_too_and_frozen_ones_are_not(root):
    fill(root, "dml", {0: 70.0, 1: 71.0}, regime="online")
    fill(root, "dml+adm", {0: 72.0, 1: 74.0}, regime="online")
    assert [line.network for line in compare("dml+adm", "dml", Store(root))] == ["student", "teacher"]
    assert [line.network for line in compare("dkd", "kd", Store(root))] == ["student"]


def test_one_seed_has_no_p(tmp_path):
    fill(tmp_path, "kd", {0: 70.0})
    fill(tmp_path, "dkd", {0: 71.0})
    (line,) = compare("dkd", "kd", Store(tmp_path))
    assert (line.n, line.p, line.difference) == (1, None, pytest.approx(1.0))


def test_cells_stand_for_their_rows(root):
    hotter = fill(root, "kd", {0: 69.0, 1: 70.0, 2: 70.5}, temperature=9.0)[0]
    plain = cell("kd", 0, "resnet8", "offline", {}).id
    (line,) = compare(plain[:12], hotter[:12], Store(root))
    assert line.n == 3 and line.difference == pytest.approx(sum(KD[s] for s in range(3)) / 3 - 209.5 / 3)


def test_stores_are_compared_row_by_row(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    fill(other, "kd", {seed: score + 1 for seed, score in KD.items()})
    (line,) = compare(str(other), str(root), Store(root))
    assert (line.method, line.n, line.difference) == ("kd", 4, pytest.approx(1.0))


def test_failed_cells_do_not_count(root):
    fill(root, "kd", {1: 0.0}, status="diverged")
    (line,) = compare("dkd", "kd", Store(root))
    assert line.n == 2


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("dkd", "kdd", "unknown method in this store 'kdd'; did you mean kd, dkd?"),
        ("dkd", "0a1b", "'dkd' is a method and '0a1b' a cell; compare two of one kind"),
        ("0a1b", "0a1c", "begins with '0a1b'; adm status SUITE --json lists ids"),
    ],
)
def test_what_cannot_be_compared_is_told(root, a, b, message):
    assert message in refusal("compare", a, b, "--store", root)


def test_an_empty_store_says_so(tmp_path):
    message = refusal("compare", "kd", "dkd", "--store", tmp_path)
    assert message == "method 'kd': no cell in this store is finished; run a suite first, or give --store"


def test_nothing_in_common_is_told(root):
    fill(root, "at", {7: 70.0})
    assert refusal("compare", "at", "kd", "--store", root) == "'at' and 'kd' share no finished benchmark, pair and seed"


def test_a_method_with_several_settings_is_not_averaged_in_silence(root):
    fill(root, "kd", {0: 69.0}, temperature=9.0)
    message = refusal("compare", "dkd", "kd", "--store", root)
    assert "method 'kd' was run with several settings on resnet20 > resnet8; compare two of its cells" in message


def test_trials_are_no_settings_that_a_method_was_run_with(root):
    trials = [fill(root, "kd", {1000: score}, temperature=score)[0] for score in (1.0, 2.0)]
    ids = [row.id for row in Store(root).records()[0].values() if row.id not in trials]
    for name, cells in (("tune-mine", [*trials, ids[0]]), ("mine", ids)):
        rows = [ManifestRow(cell=Store(root).read_record(id).cell, id=id, label=id, block="b") for id in cells]
        Store(root).write_manifest(Manifest(suite=name, title="t", rows=rows))
    assert [line.n for line in compare("kd", "dkd", Store(root))] == [3]


def test_the_command_prints_a_table_or_json(root):
    shown = adm("compare", "dkd", "kd", "--store", root)
    assert shown.code == 0 and "+1.00" in shown.out and "resnet20 > resnet8" in shown.out
    (line,) = adm("compare", "dkd", "kd", "--store", root, "--json").json
    assert line["n"] == 3 and line["difference"] == pytest.approx(1.0) and line["metric"] == "top1 %"


def test_a_stray_file_among_the_records_is_no_record(root):
    (root / "records" / "README.json").write_text("{}")
    assert compare("dkd", "kd", Store(root))


def test_one_damaged_record_and_stray_files_do_not_stop_a_comparison(root):
    (root / "records" / "data.json").write_text("no JSON")
    lost = next(record.id for record in Store(root).records()[0].values() if record.cell.seed == 1)
    Store(root).record_path(lost).write_text("{")
    answer = adm("compare", "dkd", "kd", "--store", root, "--json")
    assert (answer.code, answer.json[0]["n"]) == (0, 2)
    assert answer.err.startswith(f"unreadable: {root}/records/{lost}.json: is damaged") and answer.err.count("\n") == 1
