"""What a tracker is told of a run: every epoch once, while cells are trained; and that it can do a run no harm."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from drive import ShortTraining, drive, find, record
from rich.console import Console

from results.records.store import Store
from suites.executors.slots import slots
from suites.plan.plan import make_plan
from suites.run import mirror
from suites.run.display import PlainDisplay
from suites.run.mirror import Mirror
from suites.run.runner import Runner
from suites.run.summary import Summary
from suites.run.trackers import Description, TrackedRun, Values
from suites.spec.expand import expand
from suites.work.options import RunOptions

TOLD: list[tuple[str, Any]] = []
"""Key of a run and what was told of it: a description, an epoch with its values, or the end."""
AWAY = threading.Event()
"""Set while the tracker does not answer."""


class Listening(TrackedRun):
    """A tracker that keeps all it is told."""

    package = "json"

    def __init__(self, about: Description) -> None:
        if AWAY.is_set():
            raise ConnectionError("no answer\nfrom there")
        self._key = about.key
        TOLD.append((about.key, about))

    def log(self, epoch: int, values: Values) -> None:
        TOLD.append((self._key, (epoch, dict(values))))

    def end(self, status: str, summary: Values) -> None:
        TOLD.append((self._key, (status, dict(summary))))


@pytest.fixture(autouse=True)
def attentive(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A mirror that looks often."""
    monkeypatch.setattr(mirror, "LOOK_SECONDS", 0.02)
    TOLD.clear()
    AWAY.clear()
    yield
    AWAY.clear()


def run(suite: Path, store: Path, warnings: list[str] | None = None) -> Summary:
    """Run the suite with the test worker, mirrored."""
    expansion, records = expand(str(suite)), Store(store)
    plan = make_plan(expansion, records, 2)
    shown = PlainDisplay(plan, "a suite", Console(quiet=True))
    warned = [] if warnings is None else warnings
    with Mirror(shown, records, "mine", "listening", Listening, warned.append) as display:
        executor, options = ShortTraining(slots("cpu", 2)), RunOptions(device="cpu", store=store, curves=True)
        return Runner(plan, records, executor, options, display).run()


def of_cell(cell: str) -> dict[str, list[Any]]:
    """What was told of a cell's runs, by key."""
    keys = {key: [] for key, said in TOLD if isinstance(said, Description) and said.config["cell"] == cell}
    for key, said in TOLD:
        if key in keys and not isinstance(said, Description):
            keys[key].append(said)
    return keys


def test_each_cell_is_one_run_with_its_curves_and_scores(suite: Path, store: Path) -> None:
    assert run(suite, store).exit_code == 0
    about = {said.config["cell"]: said for _, said in TOLD if isinstance(said, Description)}
    assert set(about) == {planned.id for planned in expand(str(suite)).cells} and len(about) == 9
    kd = find(suite, "kd", 1)
    assert about[kd.id].name == "mine / kd / resnet20 > resnet8 / seed 1"
    assert about[kd.id].config["protocol"]["recipe"]["epochs"] == 12 and about[kd.id].config["method"]["kd"]["version"]
    [told] = of_cell(kd.id).values()
    made = record(suite, store, "kd", 1)
    curve = made.curves["validation.student.top1"]
    assert told[:-1] == [(epoch, {"validation/student.top1": curve[epoch - 1]}) for epoch in range(1, 13)]
    assert told[-1] == ("ok", {"test/student.top1": made.scores["student"]["top1"], "test/teacher.top1": 90.0})


def test_curves_are_told_while_a_cell_is_trained(
    suite: Path, store: Path, behave: Callable[[dict[str, str]], None]
) -> None:
    behave({"dml/0": "hold"})
    cell = find(suite, "dml", 0, "online").id
    before: list[list[Any]] = []

    def let_go() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and [s[0] for told in of_cell(cell).values() for s in told] != [1, 2, 3, 4, 5]:
            time.sleep(0.02)
        before.extend(of_cell(cell).values())
        behave({})

    watcher = threading.Thread(target=let_go)
    watcher.start()
    assert run(suite, store).exit_code == 0
    watcher.join()
    assert [len(told) for told in before] and [epoch for epoch, _ in before[0][:5]] == [1, 2, 3, 4, 5]


def test_a_resumed_cell_goes_on_with_its_run(suite: Path, store: Path, behave: Callable[..., None]) -> None:
    behave({"dml/0": "sigkill-halfway"})  # and begun again within the run
    assert run(suite, store).exit_code == 0
    [told] = of_cell(find(suite, "dml", 0, "online").id).values()
    assert [said for said, _ in told if isinstance(said, int)] == list(range(1, 13))
    assert told[-1][0] == "ok" and {said for said, _ in told if isinstance(said, str)} <= {"retry", "ok"}


def test_a_cell_that_is_trained_anew_has_a_new_run(suite: Path, store: Path, behave: Callable[..., None]) -> None:
    behave({"dml/0": "diverged"})
    assert run(suite, store).exit_code == 1
    behave({})
    assert run(suite, store).exit_code == 0
    first, second = of_cell(find(suite, "dml", 0, "online").id).values()
    assert first == [("diverged", {})]
    assert [said for said, _ in second] == [*range(1, 13), "ok"]


def test_a_tracker_that_fails_is_warned_of_once_and_told_later(
    suite: Path, store: Path, monkeypatch: pytest.MonkeyPatch, behave: Callable[..., None]
) -> None:
    monkeypatch.setattr(mirror, "PAUSE_SECONDS", 0.05)
    AWAY.set()
    behave({"kd/1": "hold"})
    warned: list[str] = []

    def come_back() -> None:
        until = time.monotonic() + 60
        while not (store / "halfway.txt").exists() and time.monotonic() < until:
            time.sleep(0.02)
        AWAY.clear()
        behave({})

    threading.Thread(target=come_back).start()
    assert run(suite, store, warnings=warned).exit_code == 0
    assert len(warned) == 1 and "tracker listening: ConnectionError: no answer; training goes on" in warned[0]
    for planned in expand(str(suite)).cells:
        [told] = of_cell(planned.id).values()
        assert [said for said, _ in told] == [*range(1, 13), "ok"]


def test_scores_are_those_of_a_run_without_a_tracker(suite: Path, store: Path, tmp_path: Path) -> None:
    AWAY.set()  # one that never answers
    assert run(suite, store).exit_code == 0
    (other := tmp_path / "other").mkdir()
    assert drive(suite, other).exit_code == 0
    assert not TOLD
    for planned in expand(str(suite)).cells:
        mine, plain = (json.loads(Store(root).record_path(planned.id).read_text()) for root in (store, other))
        assert (mine["scores"], mine["curves"]) == (plain["scores"], plain["curves"])
