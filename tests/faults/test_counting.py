"""What the fault script counts: real notes of few steps, and a real suite of few cells under few kills."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.steps import Break, Fault, breaks, stretches, trained_twice
from tests.faults.tally import measure

CELL = "0123456789abcdef"
SUITE = """
title: A few cells that are broken off
blocks:
  - title: Offline
    task: classification
    benchmark: digit-scenes@1
    protocol: ./recipe.yaml
    pairs: [resnet8w8s2 > resnet8w8s2]
    regime: offline
    methods: [kd]
    seeds: [0]
"""


def write(folder: Path, *processes: str) -> Path:
    """Notes of processes one after the other, each as pairs of time and step: ``1:1 2:2 2.5:ended-ok``."""
    for number, notes in enumerate(processes):
        lines = [note.replace(":", " ").replace("ended-", "ended ") for note in notes.split()]
        (folder / f"{number}.0-77.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder


def test_a_kill_is_charged_with_the_steps_after_the_last_checkpoint(tmp_path: Path) -> None:
    found = stretches(write(tmp_path, "1:1 2:2 3:3 4:4", "6:3 7:4 8:5 9:ended-ok"))
    faults = [Fault("too early", 3.5), Fault("suspended", 4.1, ends=False), Fault("kill", 4.2), Fault("later", 8.5)]
    assert list(breaks(CELL, found, faults)) == [Break("kill", resumed=True, steps=2, seconds=2.0)]
    assert trained_twice(CELL, found, faults) == 0


def test_a_torn_checkpoint_and_not_the_kill_before_it_is_charged_with_all_steps(tmp_path: Path) -> None:
    found = stretches(write(tmp_path, "1:1 2:2 3:3", "6:1 7:2"))
    torn = Fault("torn", 5.0, ends=False, cell=CELL, file="checkpoint.pt")
    other = Fault("torn, of another cell", 4.9, ends=False, cell="f" * 16, file="checkpoint.pt")
    assert list(breaks(CELL, found, [Fault("kill", 4.0), other, torn])) == [
        Break("torn", resumed=False, steps=3, seconds=2.0)
    ]


def test_a_training_after_a_complete_one_is_one_too_many_unless_its_record_was_spoilt(tmp_path: Path) -> None:
    found = stretches(write(tmp_path, "1:1 2:2 3:ended-ok", "6:1 7:2 8:ended-ok"))
    assert list(breaks(CELL, found, [])) == []
    assert trained_twice(CELL, found, []) == 1
    assert trained_twice(CELL, found, [Fault("kill", 5.0)]) == 1
    assert trained_twice(CELL, found, [Fault("torn", 5.0, cell=CELL, file="progress.json")]) == 1
    assert trained_twice(CELL, found, [Fault("torn", 5.0, cell=CELL, file="record")]) == 0


def test_a_process_that_had_no_step_left_completes_what_was_before(tmp_path: Path) -> None:
    found = stretches(write(tmp_path, "1:1 2:2", "4:ended-ok", "6:1 7:2"))
    assert len(found) == 2 and trained_twice(CELL, found, [Fault("kill", 3.0)]) == 1


def test_a_line_that_a_kill_cut_off_is_no_step(tmp_path: Path) -> None:
    file = write(tmp_path, "1:1 2:2") / "0.0-77.txt"
    file.write_text(file.read_text() + "3.01 3")
    assert stretches(tmp_path)[0].last == 2


def test_steps_out_of_order_are_not_counted_silently(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="not in order"):
        stretches(write(tmp_path, "1:1 2:3"))


def test_a_suite_survives_a_few_kills(tmp_path: Path) -> None:
    recipe = Path(__file__).with_name("recipe.yaml").read_text()
    (tmp_path / "recipe.yaml").write_text(recipe.replace("epochs: 6", "epochs: 3"))
    (tmp_path / "few.yaml").write_text(SUITE)
    tally = measure(tmp_path / "few.yaml", tmp_path, kills=3, dice=random.Random(2))
    assert tally.wrong == [] and (tally.lost, tally.twice) == (0, 0)
    assert tally.kills == tally.survived == 3
    assert tally.taken == tally.needed + sum(each.steps for each in tally.breaks)
