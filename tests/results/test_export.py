"""Data frames as files: read by pandas, they give what the committed tables say."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from results.export import FORMS, Stored, gather
from tests.results.factory import by_id, failed, make_cell, make_manifest, make_record, make_row, write

LEADERBOARDS = Path(__file__).parents[2] / "results" / "leaderboards"
READ = {
    "parquet": pd.read_parquet,
    "csv": pd.read_csv,
    "json": lambda file: pd.read_json(file, precise_float=True, dtype={"seed": "Int64"}),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suite", ["quick", "seg-quick", "diffusion-quick"])
def test_exported_scores_give_the_means_and_deviations_of_the_committed_table(suite: str, form: str) -> None:
    content = FORMS[form](gather("scores", [Stored(LEADERBOARDS / suite, suite)]))
    scores = READ[form](io.BytesIO(content))  # type: ignore[operator]
    table = pd.read_csv(LEADERBOARDS / suite / "tables" / "scores.csv")
    rows = table[table.row_kind != "reference"].set_index(["block", "label"])
    metrics = [name.removesuffix("_std") for name in table.columns if name.endswith("_std")]
    compared = 0
    for column in metrics:
        network = "teacher" if column.startswith("teacher_") and column not in set(scores.metric) else "student"
        metric = column.removeprefix("teacher_") if network == "teacher" else column
        chosen = scores[(scores.network == network) & (scores.metric == metric)]
        found = chosen.groupby(["block", "label"]).value.agg(["mean", "std", "count"])
        shown = rows[rows[column].notna()]
        for place, row in shown.iterrows():
            mean, deviation, count = found.loc[place]
            np.testing.assert_allclose([mean, deviation], [row[column], row[f"{column}_std"]], rtol=1e-12, atol=1e-14)
            assert count == int(row["n"])
            compared += 1
    assert compared >= 20 and set(rows.index) == set(zip(scores.block, scores.label, strict=True))
    primary = scores[scores.primary & (scores.network == "student")]
    assert set(primary.metric) == {metrics[0]}


def _two_stores(folder: Path) -> list[Stored]:
    """A suite in one store, and another store of a record and a failure."""
    cells = [make_cell("none"), make_cell("kd"), make_cell("kd", 1)]
    curves = {"epoch": [1.0, 2.0], "lr": [0.1, None]}
    records = [
        make_record(cells[0], 70.0, curves=curves),
        make_record(cells[1], 1 / 3, curves=curves),
        failed(cells[2]),
    ]
    rows = [make_row(cells[0], "=1+1"), make_row(cells[2])]
    write(folder / "a", make_manifest([], rows=rows), by_id(*records))
    write(folder / "b", make_manifest(cells[:2]), by_id(*records[1:]))
    return [Stored(folder / "a", "tiny"), Stored(folder / "b")]


def test_several_suites_and_stores_share_a_frame_and_columns_say_which(tmp_path: Path) -> None:
    sources = _two_stores(tmp_path)
    for name, length in (("scores", 3 + 1 + 3 + 1), ("cost", 4), ("curves", 4)):
        found = gather(name, sources)
        counts = found.groupby(["store", found.suite.astype("str").fillna("-")]).cell.nunique().to_dict()
        assert len(found) == length, name
        wanted = {(str(tmp_path / "a"), "tiny"): 2, (str(tmp_path / "b"), "-"): 2}
        assert counts == (dict.fromkeys(wanted, 1) if name == "curves" else wanted)
    assert {"store", "suite", "cell", "curve"} <= {c for c, kind in found.dtypes.items() if kind == "category"}


@pytest.mark.parametrize("name", ["scores", "cost", "curves"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_reads_back_as_the_same_values(tmp_path: Path, name: str, form: str) -> None:
    wanted = gather(name, _two_stores(tmp_path))
    found = READ[form](io.BytesIO(FORMS[form](wanted)))  # type: ignore[operator]
    assert list(found.columns) == list(wanted.columns)
    if form == "parquet":
        pd.testing.assert_frame_equal(found, wanted, check_categorical=False)
        return
    for column in wanted.columns:
        ours, theirs = wanted[column].astype(object), found[column].astype(object)
        assert ours.isna().equals(theirs.isna()), column
        escaped = {"=1+1": "'=1+1"} if form == "csv" and column == "label" else {}
        for one, other in zip(ours[ours.notna()], theirs[theirs.notna()], strict=True):
            assert escaped.get(one, one) == other or str(one) == str(other), column


def test_json_holds_null_and_no_nan(tmp_path: Path) -> None:
    text = FORMS["json"](gather("cost", _two_stores(tmp_path))).decode()
    assert "NaN" not in text and '"step_ms": null' in text and '"step_ms": 10.0' in text
