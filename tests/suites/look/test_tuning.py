"""From the records of trials to the file, and from the file to the cells of the suite that names it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from adm_core.errors import AdmError
from adm_core.yaml_file import read_model
from results.records.schema import Primary, Record
from results.records.store import Store
from suites.look.tuning import as_yaml, outcome
from suites.spec.expand import Expansion, PlannedCell, expand
from suites.spec.trials import trials_of
from suites.spec.tuned import Tuned

SUITE = """
title: "{title}"
blocks:
  - title: Offline
    task: classification
    benchmark: digit-scenes@1
    protocol: smoke
    pairs: [resnet20 > resnet8]
    regime: offline
    methods: [none, {{method: none, stretch: 2}}, kd, at{more}]
    seeds: [0]
settings: {{at: {{weight: {at}}}}}
chosen: {chosen}
"""


def written(folder: Path, chosen: str = "by hand", at: float = 10.0, more: str = "") -> str:
    (folder / "mine.yaml").write_text(SUITE.format(title="mine", chosen=chosen, at=at, more=more))
    return str(folder / "mine.yaml")


def save(store: Store, planned: PlannedCell, score: float | None, higher_is_better: bool = True) -> None:
    """A record of a cell that was never trained; None: it diverged."""
    fields = {"schema_version": 2, "id": planned.id, "cell": planned.cell, "status": "diverged", "reason": "not finite"}
    if score is not None:
        primary = Primary(metric="top1", higher_is_better=higher_is_better, unit="%", selection="last")
        teacher = {"cell_id": "f" * 16, "digest": "ab" * 32, "score": 90.0}
        fields |= {"status": "ok", "reason": None, "primary": primary, "scores": {"student": {"top1": score}},
                   "teacher": teacher}  # fmt: skip
    store.write_record(Record.model_validate(fields))


def tuned(
    folder: Path, scores: Mapping[str, list[list[float | None]]], higher_is_better: bool = True
) -> tuple[Tuned | None, list[str]]:
    """The outcome of three trials with such scores, by row, trial and seed; a row without any was not run."""
    trials, store = trials_of(written(folder), 3, 2), Store(folder / "runs")
    for search in trials.searches:
        for candidate, own in zip(search.candidates, scores.get(search.row.label, []), strict=False):
            for cell, score in zip(candidate.cells, own, strict=True):
                save(store, cell, score, higher_is_better)
    return outcome(trials, store)


NONE = [[60.0, 60.0]]


def test_the_best_mean_wins_and_the_stated_settings_where_none_is_better(tmp_path: Path) -> None:
    kd, at = [[70.0, 72.0], [71.0, 71.0], [69.0, 80.0]], [[70.0, 70.0], [90.0, 50.0], [80.0, 59.0]]
    found, remarks = tuned(tmp_path, {"none": NONE, "kd": kd, "at": at})
    assert found is not None and remarks == []
    method = {row.label: row.cell.method for row in expand(written(tmp_path)).rows}
    assert [(row.row, row.chosen, row.told(method[row.row])) for row in found.rows] == [
        ("none", 1, "as stated, nothing searched"), ("kd", 3, "tuned, number 3 of 3"),
        ("at", 1, "as stated, best of 3"),
    ]  # fmt: skip
    assert [trial.mean for trial in found.rows[1].trials] == [71.0, 71.0, 74.5]


def test_where_less_is_better_the_least_wins(tmp_path: Path) -> None:
    found, _ = tuned(tmp_path, {"none": NONE, "kd": [[3.0, 3.0], [2.0, 2.0], [4.0, 4.0]], "at": NONE * 3}, False)
    assert found is not None and [row.chosen for row in found.rows] == [1, 2, 1]


def test_a_trial_that_diverged_on_a_seed_loses(tmp_path: Path) -> None:
    found, _ = tuned(tmp_path, {"none": NONE, "kd": [[None, 1.0], [99.0, None], [2.0, 2.0]], "at": [[None, None]] * 3})
    assert found is not None and [row.chosen for row in found.rows] == [1, 3, 1]


def test_nothing_is_chosen_before_every_trial_is_there(tmp_path: Path) -> None:
    found, remarks = tuned(tmp_path, {"none": NONE, "kd": [[70.0, 70.0]]})
    assert found is None
    assert remarks == ["Offline, kd: 4 of 6 trainings are missing", "Offline, at: 6 of 6 trainings are missing"]


def ready(folder: Path) -> Tuned:
    """The file ``tuned.yaml``, where kd's third trial won and at's first."""
    found, _ = tuned(folder, {"none": NONE, "kd": [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], "at": NONE * 3})
    assert found is not None
    (folder / "tuned.yaml").write_text(as_yaml(found))
    return found


def test_the_file_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    found = ready(tmp_path)
    assert read_model(tmp_path / "tuned.yaml", Tuned) == found


def test_a_suite_takes_the_settings_and_keeps_its_cells_where_the_stated_ones_won(tmp_path: Path) -> None:
    best = ready(tmp_path).rows[1].settings["kd"]
    stated = {row.label: row for row in expand(written(tmp_path)).rows}
    now = {row.label: row for row in expand(written(tmp_path, "tuned.yaml")).rows}
    assert {label for label in now if now[label].id != stated[label].id} == {"kd"}
    assert dict(now["kd"].cell.method[0].settings) | best == dict(now["kd"].cell.method[0].settings)
    assert [row.chosen for row in now.values()] == [
        "as stated, nothing searched", None, "tuned, number 3 of 3", "as stated, best of 3",
    ]  # fmt: skip
    assert [row.chosen for row in stated.values()] == [None, None, "default", "stated"]
    again = trials_of(written(tmp_path, "tuned.yaml"), 3, 2)
    assert [row.id for row in again.suite.rows] == [row.id for row in stated.values()]


def test_a_row_that_was_not_tuned_says_so(tmp_path: Path) -> None:
    ready(tmp_path)
    assert expand(written(tmp_path, "tuned.yaml", more=", dkd")).rows[-1].chosen == "not tuned"


def test_settings_that_the_suite_states_otherwise_since_are_refused(tmp_path: Path) -> None:
    ready(tmp_path)
    with pytest.raises(
        AdmError, match=r"row 'at': at.weight is 5.0 as the suite states it, and trials started from 10"
    ):
        expand(written(tmp_path, "tuned.yaml", at=5.0))


@pytest.mark.parametrize(("name", "there"), [("benchmark", "digit-hues@1"), ("regime", "online"), ("task", "language")])
def test_settings_that_were_tuned_on_something_else_are_refused(tmp_path: Path, name: str, there: str) -> None:
    text = as_yaml(ready(tmp_path))
    told = re.search(rf"{name}: (\S+)", text)
    assert told is not None
    (tmp_path / "tuned.yaml").write_text(text.replace(told[0], f"{name}: {there}"))
    with pytest.raises(AdmError, match=rf"the block's {name} is {told[1]}, and trials were on {there}; run adm tune"):
        expand(written(tmp_path, "tuned.yaml"))


def test_settings_that_were_tuned_under_another_protocol_are_refused(tmp_path: Path) -> None:
    """The suite's own, of which the teacher's counts as well; a title is no part of it."""
    recipe = "recipe: {{epochs: {epochs}, batch_size: 64, optimizer: {{name: sgd, lr: 0.1}}}}"
    protocol = "title: {title}\nsource: mine\ntask: classification\n" + recipe
    suite = SUITE.replace("protocol: smoke", "protocol: ./own.yaml\n    teacher_protocol: ./alone.yaml")

    def put(name: str, epochs: int, title: str = "a recipe") -> None:
        (tmp_path / f"{name}.yaml").write_text(protocol.format(title=title, epochs=epochs))

    def opened(chosen: str) -> Expansion:
        (tmp_path / "mine.yaml").write_text(suite.format(title="mine", chosen=chosen, at=10.0, more=""))
        return expand(str(tmp_path / "mine.yaml"))

    put("own", 2)
    put("alone", 3)
    opened("by hand")
    trials, store = trials_of(str(tmp_path / "mine.yaml"), 2, 1), Store(tmp_path / "runs")
    for search in trials.searches:
        for candidate in search.candidates:
            save(store, candidate.cells[0], 50.0)
    found, _ = outcome(trials, store)
    assert found is not None
    (tmp_path / "tuned.yaml").write_text(as_yaml(found))
    put("own", 2, title="the recipe")
    assert opened("tuned.yaml").rows[2].chosen == "as stated, best of 2"
    for name, told in (("own", "protocol"), ("alone", "teacher_protocol")):
        put(name, 5)
        with pytest.raises(
            AdmError, match=rf"row 'none': the block's {told} is [0-9a-f]{{16}}, and trials were on [0-9a-f]{{16}}; run"
        ):
            opened("tuned.yaml")
        put(name, 2 if name == "own" else 3)
    opened("tuned.yaml")


def test_settings_that_were_tuned_of_another_method_are_refused(tmp_path: Path) -> None:
    ready(tmp_path)
    suite = Path(written(tmp_path, "tuned.yaml"))
    suite.write_text(suite.read_text().replace("kd, at", "{method: kd+fitnet, label: kd}, at"))
    with pytest.raises(AdmError, match=r"row 'kd': the method is fitnet\+kd, and trials were of kd; run adm tune"):
        expand(str(suite))


def test_settings_of_another_version_of_the_method_say_so(tmp_path: Path) -> None:
    text = as_yaml(ready(tmp_path))
    assert "versions: {at: 2}" in text
    (tmp_path / "tuned.yaml").write_text(text.replace("versions: {at: 2}", "versions: {at: 1}"))
    chosen = {row.label: row.chosen for row in expand(written(tmp_path, "tuned.yaml")).rows}
    assert (chosen["at"], chosen["kd"]) == ("as stated, best of 3, under version at 1", "tuned, number 3 of 3")


def test_a_row_that_the_suite_lacks_and_a_file_that_there_is_not_are_refused(tmp_path: Path) -> None:
    text = as_yaml(ready(tmp_path))
    (tmp_path / "tuned.yaml").write_text(text.replace("row: kd", "row: kdd"))
    with pytest.raises(AdmError, match="the suite has no row 'Offline / resnet20 > resnet8 / kdd'; did you mean"):
        expand(written(tmp_path, "tuned.yaml"))
    with pytest.raises(AdmError, match=r"gone.yaml: no such file; adm tune makes it"):
        expand(written(tmp_path, "gone.yaml"))
