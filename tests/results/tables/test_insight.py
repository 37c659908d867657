"""Estimates, verdicts, tables and pictures of the paper's observations, on measures made by hand."""

from __future__ import annotations

import csv as csv_module
import io

import numpy as np
import pytest
from scipy import stats

from results.analysis.blocks import collect
from results.analysis.bootstrap import RESAMPLES, mean_intervals
from results.analysis.insight import Estimate, Measured, estimates, per_image, verdict, without_adm
from results.plots.insight import Example, draw
from results.records.schema import Manifest, ManifestRow, MethodPart
from results.render import csv, terminal
from results.table import Table
from results.tables.insight.tables import Looked, as_plain, tables_of
from tests.results.factory import make_cell, make_record

IMAGES = 60
MEASURES = ("area", "chance", "chance_30", "ceiling", "similarity_contrast", "weight_spread", "weight_object",
            "teacher_at_mean", "teacher_at_area", "student_at_mean", "student_at_area",
            *(f"{name}_{key}" for name in ("similarity", "difference")
              for key in ("auc", "top", "bottom", "others", "top_30", "bottom_30")))  # fmt: skip


def measured(seed: int, places: str = "last (identity)", **means: float) -> Measured:
    """Every measure of mean 0.3 and a spread of a hundredth over images, save those with a mean of their own."""
    noise = 0.01 * np.random.default_rng(seed).standard_normal((len(MEASURES), IMAGES))
    noise -= noise.mean(1, keepdims=True)
    values = {name: means.get(name, 0.3) + row for name, row in zip(MEASURES, noise, strict=True)}
    return Measured(values, places, (4, 4))


def looked_at(rows: dict[str, list[Measured | str]], regime: str = "online", **parts: tuple[MethodPart, ...]) -> Looked:
    """A block of one row per label; a text instead of measures is the reason why there are none."""
    found, records, reasons, made = {}, {}, {}, []
    for label, seeds in rows.items():
        for seed, one in enumerate(seeds):
            cell = make_cell(label, seed, regime, parts.get(label.replace("+", "_"), ()))
            records[cell.id] = make_record(cell)
            made.append(ManifestRow(cell=cell, id=cell.id, label=label, block="A block"))
            if isinstance(one, str):
                reasons[cell.id] = one
            else:
                found[cell.id] = one
    (block,) = collect(Manifest(suite="mine", title="mine", rows=made), records)
    return Looked(block, found, reasons)


def told(table: Table) -> str:
    return " ".join(table.notes)


def test_intervals_are_scipys_paired_bootstrap() -> None:
    generator = np.random.default_rng(1)
    ours, theirs = generator.standard_normal((2, 40)) + np.array([[0.5], [0.0]])
    (found, other) = mean_intervals(np.stack([ours - theirs, theirs]))
    expected = stats.bootstrap(
        (ours, theirs), lambda a, b, axis: (a - b).mean(axis), paired=True, n_resamples=RESAMPLES,
        method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert found == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert other[0] < theirs.mean() < other[1]


def test_an_image_counts_once_with_its_mean_over_seeds() -> None:
    first, second = {"x": np.arange(10.0)}, {"x": np.arange(10.0) + 4}
    found = estimates(per_image([first, second], {"x": lambda values: values["x"]}))["x"]
    assert (found.mean, found.seeds) == (pytest.approx(6.5), (4.5, 8.5))
    assert found.std == pytest.approx(np.std([4.5, 8.5], ddof=1))
    assert (found.low, found.high) == mean_intervals((np.arange(10.0) + 2)[None])[0]


def test_images_without_a_measure_in_any_seed_are_left_out() -> None:
    first, second = {"x": np.array([1.0, np.nan, 3.0])}, {"x": np.array([1.0, 2.0, 3.0])}
    assert per_image([first, second], {"x": lambda values: values["x"]})["x"].tolist() == [[1, 3], [1, 3]]


@pytest.mark.parametrize(
    ("low", "high", "seeds", "expected"),
    [
        (0.6, 0.7, (0.6, 0.7), "holds"),
        (0.6, 0.7, (0.4, 0.9), "open"),  # the seeds disagree
        (0.4, 0.7, (0.6,), "open"),  # the interval contains chance
        (0.2, 0.4, (0.3,), "reversed"),
    ],
)
def test_a_verdict_takes_the_interval_and_every_seed(
    low: float, high: float, seeds: tuple[float, ...], expected: str
) -> None:
    estimate = Estimate((low + high) / 2, None, low, high, seeds)
    assert verdict([(estimate, 0.5)]) == expected
    certain = Estimate(0.9, None, 0.8, 1.0, (0.9,))
    assert verdict([(estimate, 0.5), (certain, 0.5)]) == (expected if expected == "holds" else "open")


def test_words_follow_from_the_numbers() -> None:
    on = {"similarity_auc": 0.7, "similarity_top": 0.5, "similarity_bottom": 0.1, "teacher_at_area": 0.5,
          "teacher_at_mean": 0.5, "difference_auc": 0.7, "difference_top": 0.4, "difference_bottom": 0.2}  # fmt: skip
    off = {"similarity_auc": 0.3, "similarity_top": 0.1, "similarity_bottom": 0.5, "student_at_area": 0.5,
           "student_at_mean": 0.5, "difference_auc": 0.5}  # fmt: skip
    looked = looked_at({"none": [measured(1, **off)], "dml": [measured(2, **on), measured(3, **on)]})
    agreement, emphasis, difference, change = tables_of([looked])
    assert "(student and teacher agree on the object) holds for dml (AUC 0.70" in told(agreement)
    assert "does not hold for none (AUC 0.30" in told(agreement) and "agree off the object" in told(agreement)
    assert "Agreement follows the image's own object in dml (+20." in told(agreement)
    assert "holds for dml (+20." in told(emphasis) and "the student emphasises it more" in told(emphasis)
    assert "holds for dml (AUC 0.70" in told(difference) and "is not decided for none (AUC 0.50" in told(difference)
    assert "no measured row with ADM" in told(change) and not change.rows


def test_words_name_the_rows_whose_weights_hardly_select() -> None:
    even = measured(2)
    even.values["weight_spread"][:] = 0.0
    looked = looked_at({"none": [measured(1, weight_spread=0.04)], "even": [even], "dml": [measured(3)]})
    agreement = tables_of([looked])[0]
    assert "S hardly selects in none (0.04): ADM's weights spread by less than 0.1 there." in told(agreement)
    assert "S hardly selects" not in told(tables_of([looked_at({"dml": [measured(3)]})])[0])


def test_adm_is_held_against_the_same_row_without_it_by_image_and_seed() -> None:
    better = {"student_at_area": 0.4, "student_at_mean": 0.4}
    rows = {"none": [measured(1)], "dml": [measured(2), measured(3)], "adm": [measured(4)],
            "dml+adm": [measured(5, **better), measured(6, **better)]}  # fmt: skip
    change = tables_of([looked_at(rows)])[3]
    assert [row.entries[0].values[0] for row in change.rows] == ["adm − none", "dml+adm − dml"]
    assert [row.entries[1].values[0] for row in change.rows] == [1, 2]
    ours = np.mean([rows["dml+adm"][s].values["student_at_area"] - rows["dml"][s].values["student_at_area"]  # type: ignore[union-attr]
                    for s in (0, 1)])  # fmt: skip
    at = [column.key for column in change.columns].index("student_area")
    assert change.rows[1].entries[at].values[0] == pytest.approx(100 * ours)
    assert "student's activation moves onto the object in dml+adm − dml (+10." in told(change)
    assert "teacher's activation has not decidedly moved" in told(change)


def test_a_frozen_teacher_cannot_move() -> None:
    change = tables_of([looked_at({"none": [measured(1)], "adm": [measured(2)]}, "offline")])[3]
    assert not [column for column in change.columns if column.key.startswith("teacher")]
    assert "teacher's activation" not in told(change)


def test_a_partner_has_the_same_settings_and_is_read_at_the_same_places() -> None:
    hot = (MethodPart(name="dml", version=1, settings={"temperature": 4.0}),)
    adm = MethodPart(name="adm", version=1)
    assert without_adm((*hot, adm)) == hot and without_adm(hot) is None and without_adm((adm,)) == ()
    rows: dict[str, list[Measured | str]] = {"dml": [measured(1)], "dml+adm": [measured(2, "stage2 (pool)")]}
    apart = tables_of([looked_at(rows, dml=hot, dml_adm=(*hot, adm))])[3]
    assert not apart.rows and "read at other places: dml+adm − dml" in told(apart)
    other = tables_of([looked_at(rows, dml_adm=(*hot, adm))])[3]
    assert not other.rows and "Nothing to compare" in told(other)


def test_what_could_not_be_measured_is_shown_with_its_reason() -> None:
    looked = looked_at({"none": [measured(1)], "adm": ["its projector is gone"]})
    shown = terminal.render(tables_of([looked]))
    assert "! adm: its projector is gone" in shown


def test_references_and_plain_forms() -> None:
    tables = tables_of([looked_at({"none": [measured(1, chance=0.2, ceiling=0.6)]})])
    rows = list(csv_module.DictReader(io.StringIO(csv.render(tables))))
    chance, ceiling, none = rows[:3]
    assert (chance["label"], ceiling["label"], none["label"]) == ("chance", "the object at 4×4", "none")
    assert float(chance["top"]) == pytest.approx(20, abs=0.5) and float(ceiling["top"]) == pytest.approx(60, abs=0.5)
    assert float(none["auc_low"]) < float(none["auc"]) < float(none["auc_high"])
    plain = as_plain(tables)
    assert [table["table"] for table in plain] == ["insight-1", "insight-2", "insight-3", "insight-4"]
    assert plain[0]["rows"][2]["auc"] == float(none["auc"]) and plain[0]["regime"] == "online"


def test_a_picture_is_a_png_of_one_row_per_example_and_always_the_same() -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 255, (3, 12, 12), dtype=np.uint8)
    example = Example(image, image[0] > 100, *(generator.random((4, 4)) for _ in range(5)))
    one, two = draw([example], "a $title$"), draw([example, example], "a title")
    assert one.startswith(b"\x89PNG") and one == draw([example], "a $title$")
    width, height = (int.from_bytes(one[at : at + 4]) for at in (16, 20))
    assert int.from_bytes(two[16:20]) == width and int.from_bytes(two[20:24]) > height
