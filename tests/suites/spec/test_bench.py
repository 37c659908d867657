"""What ``make bench`` trains is a part of the three quick suites, under the same names."""

from suites.spec.expand import PlannedCell, expand

WHOLE = ("quick", "seg-quick", "diffusion-quick")


def placed(rows: tuple[PlannedCell, ...]) -> dict[tuple[str, str], PlannedCell]:
    return {(row.block, row.id): row for row in rows}


def test_every_row_of_bench_is_one_of_the_quick_suites() -> None:
    whole = {place: row for name in WHOLE for place, row in placed(expand(name).rows).items()}
    bench = expand("bench")
    for place, row in placed(bench.rows).items():
        assert row.label == whole[place].label
        assert set(row.controls) <= set(whole[place].controls)
    assert {artefact.id for artefact in bench.artefacts} == {
        artefact.id for name in WHOLE for artefact in expand(name).artefacts
    }


def test_bench_has_every_task_and_both_regimes() -> None:
    rows = expand("bench").rows
    assert {row.cell.task for row in rows} == {expand(name).rows[0].cell.task for name in WHOLE}
    assert {row.cell.regime for row in rows} == {"online", "offline"}
