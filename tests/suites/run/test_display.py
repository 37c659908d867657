"""What a run shows on a terminal while it goes on: counts, what runs and how far it is, and what is left."""

from __future__ import annotations

import contextlib
import io
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SUITE
from rich.console import Console
from suite_test_worker import train

from results.records.store import Store
from suites.executors.inline import InlineExecutor
from suites.plan.plan import Plan, make_plan
from suites.plan.selection import select
from suites.run.display import LiveDisplay, PlainDisplay, display_for
from suites.run.runner import Runner
from suites.spec.expand import PlannedCell, expand
from suites.work.folder import WorkFolder
from suites.work.options import RunOptions
from tests.suites.plan.test_plan import finish


@pytest.fixture
def plan(suite: Path, store: Path) -> Plan:
    return make_plan(expand(str(suite)), Store(store), 2)


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)


def shown(display: LiveDisplay) -> str:
    """The picture of this moment as text."""
    console = terminal()
    with console.capture() as taken:
        console.print(display)
    return taken.get()


def cells(plan: Plan) -> list[PlannedCell]:
    return [row.planned for row in plan.cells]


def test_the_picture_counts_what_is_done_runs_and_failed(plan: Plan, store: Path) -> None:
    display = LiveDisplay(plan, "mine", terminal())
    teacher, first, second, *_ = cells(plan)
    assert "mine   0/9 done  0 running  0 failed" in shown(display)
    for planned in (teacher, first):
        display.started(planned, WorkFolder.of(store, planned.id))
    WorkFolder.of(store, first.id).report({"epoch": 3, "epochs": 12, "score": 41.256})
    picture = shown(display)
    assert "0/9 done  2 running" in picture and "3/12" in picture and "41.26" in picture
    display.ended(teacher, "ok", None, 10.0)
    display.ended(first, "diverged", "loss is not finite", 10.0)
    assert "1/9 done  0 running  1 failed" in shown(display)
    display.started(second, WorkFolder.of(store, second.id))
    display.ended(second, "retry", "killed by signal 9", 1.0)
    assert "1/9 done  0 running  1 failed" in shown(display)


def test_cells_that_are_left_out_count_for_nothing_and_failures_that_are_not_tried_again_as_failed(
    suite: Path, store: Path
) -> None:
    expansion = expand(str(suite))
    first, second, *_ = (row for row in expansion.rows if row.cell.seed == 0)
    for planned, status in ((first, "ok"), (second, "error")):
        finish(planned, store, status)
    chosen = select(expansion, only=["seed=0"], retry=["timeout"], fresh=False)
    made = make_plan(expansion, Store(store), 2, chosen)
    others = sum(row.open for row in made.cells)
    assert f"1/{others + 2} done  0 running  1 failed" in shown(LiveDisplay(made, "mine", terminal()))


def test_an_interrupted_cell_has_not_failed(plan: Plan, store: Path) -> None:
    display = LiveDisplay(plan, "mine", terminal())
    display.started(cells(plan)[0], WorkFolder.of(store, cells(plan)[0].id))
    display.ended(cells(plan)[0], "interrupted", "stopped before it was done", 1.0)
    assert "0/9 done  0 running  0 failed" in shown(display)


def test_what_is_left_is_told_from_cells_like_it_and_from_those_that_do_not_run(suite: Path, store: Path) -> None:
    """Two workers; every cell of a pair and regime takes what the finished one took: 60 s alone, 100 s or 300 s."""
    expansion = expand(str(suite))
    kinds = {"alone": 60.0, "online": 100.0, "offline": 300.0}
    finished = {row.cell.regime: row for row in (*expansion.artefacts, *expansion.rows)}
    for regime in ("online", "offline"):
        finish(finished[regime], store, seconds=kinds[regime])
    plan = make_plan(expansion, Store(store), 2)
    display = LiveDisplay(plan, "mine", terminal())
    waiting = [row.planned for row in plan.open]
    assert sorted(kinds[planned.cell.regime] for planned in waiting) == [60.0, *[100.0] * 3, *[300.0] * 3]
    # The teacher, of which nothing is known, counts as the mean of the others: (1200 + 200) / 2 workers.
    assert "about 11 min 40 s to go" in shown(display)
    for planned in waiting[-2:]:  # the last ones, not the first
        display.started(planned, WorkFolder.of(store, planned.id))
    assert "about 11 min 40 s to go" in shown(display)


def test_cells_that_are_trained_together_take_one_worker(
    suite: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline cells take 100 s each, so two together 200 s; the worker's pace says it as well."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    expansion = expand(str(suite))
    for row in (*expansion.artefacts, *(row for row in expansion.rows if row.cell.regime == "online")):
        finish(row, store)
    offline = [row for row in expansion.rows if row.cell.regime == "offline"]
    finish(offline[0], store, seconds=100.0)
    plan = make_plan(expansion, Store(store), 1)
    display = LiveDisplay(plan, "mine", terminal())
    assert "about 5 min to go" in shown(display)
    for planned in offline[1:3]:
        display.started(planned, WorkFolder.of(store, planned.id), 2)
    assert "about 5 min to go" in shown(display) and shown(display).count(" 3 min 20 s\n") == 2
    clock[0] += 20.0
    for planned in offline[1:3]:
        WorkFolder.of(store, planned.id).report({"epoch": 1, "epochs": 12})
    shown(display)
    clock[0] += 40.0
    for planned in offline[1:3]:
        WorkFolder.of(store, planned.id).report({"epoch": 3, "epochs": 12})
    assert shown(display).count(" 3 min\n") == 2 and "about 4 min 40 s to go" in shown(display)
    clock[0] += 120.0
    for planned in offline[1:3]:
        display.ended(planned, "ok", None, 180.0)
    assert "about 1 min 30 s to go" in shown(display)  # half of what the two took


def test_the_pace_of_a_resumed_cell_begins_at_the_first_look(
    plan: Plan, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    display, planned = LiveDisplay(plan, "mine", terminal()), cells(plan)[0]
    folder = WorkFolder.of(store, planned.id)
    folder.report({"epoch": 6, "epochs": 12})
    display.started(planned, folder)
    shown(display)
    clock[0] += 30.0
    folder.report({"epoch": 9, "epochs": 12})
    assert shown(display).splitlines()[-1].endswith(" 30 s")


def test_it_is_drawn_while_cells_begin_and_end(write_suite: Callable[[str], Path], store: Path) -> None:
    many = SUITE.replace("[0, 1]", str(list(range(100))))
    plan = make_plan(expand(str(write_suite(many))), Store(store), 2)
    display, faults, over = LiveDisplay(plan, "mine", terminal()), [], threading.Event()

    def draw() -> None:
        while not over.is_set():
            try:
                shown(display)
            except RuntimeError as error:  # a dictionary that changed while it was gone through
                faults.append(error)

    threads, interval = [threading.Thread(target=draw) for _ in range(2)], sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with display:
        for thread in threads:
            thread.start()
        for planned in cells(plan):
            display.started(planned, WorkFolder.of(store, planned.id))
            display.ended(planned, "ok", None, 0.1)
        over.set()
        for thread in threads:
            thread.join()
    sys.setswitchinterval(interval)
    assert faults == []


def test_cells_trained_in_this_process_are_shown_while_they_train(
    plan: Plan, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their own output goes to their logs, and the picture's does not."""
    from suites.cli.console import make_console

    screen = io.StringIO()
    monkeypatch.setenv("TTY_COMPATIBLE", "1")

    def trained(*given: object) -> object:
        print("what the training prints")
        display._live.refresh()
        return train(*given)  # type: ignore[arg-type]

    with contextlib.redirect_stdout(screen):
        console = make_console()
        assert console.is_terminal
        with display_for(plan, "mine", console) as display:
            assert isinstance(display, LiveDisplay)
            runner = Runner(plan, Store(store), InlineExecutor(trained), RunOptions(store=store), display)  # type: ignore[arg-type]
            assert runner.run().exit_code == 0
    logs = [folder.log.read_text() for folder in (WorkFolder.of(store, planned.id) for planned in cells(plan))]
    assert logs == ["what the training prints\n"] * 9
    assert "1 running" in screen.getvalue() and "what the training prints" not in screen.getvalue()


def test_elsewhere_there_is_a_line_for_each_start_and_end(plan: Plan, store: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    display, planned = display_for(plan, "mine", console), cells(plan)[0]
    assert isinstance(display, PlainDisplay)
    with display:
        display.started(planned, WorkFolder.of(store, planned.id))
        display.ended(planned, "error", "no disk", 61.0)
        display.started(planned, WorkFolder.of(store, planned.id), 3)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert lines[0] == "mine: 0/9 done" and lines[1].startswith(f"start  {planned.id}")
    assert lines[2].endswith("1 min 1 s  [1/9]: no disk") and lines[3] == f"{lines[1]}  one of 3"
