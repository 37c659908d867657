"""``adm run`` with a frozen teacher that was not trained here: real weights, from their file to the report."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import Answer, adm, refusal
from safetensors.torch import load_file, save_file

TEACHER = "resnet14w16s2"
TRAINED = f"""title: The teacher is trained
blocks:
  - title: Offline
    task: classification
    benchmark: digit-scenes@1
    protocol: smoke
    pairs: [{TEACHER} > resnet8w8s2]
    regime: offline
    methods: [kd]
    seeds: [0]
"""
BROUGHT = f"networks:\n  brought: {{base: {TEACHER}, checkpoint: teacher.safetensors}}\n" + TRAINED.replace(
    f"[{TEACHER}", "[brought"
)


class Touches:
    """What an attacker puts in a pickle: it makes a file when it is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (open, (str(self.file), "w"))


def run(suite: Path, *more: object) -> Answer:
    store = suite.parent / "runs"
    return adm("run", suite, "--store", store, "--device", "cpu", "--executor", "inline", *more)


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Records by the name of their teacher; the lone teacher's by none."""
    found = [json.loads(file.read_text()) for file in (folder / "runs" / "records").glob("*.json")]
    return {str(record["cell"]["teacher"]): record for record in found}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a teacher and its student were trained, with the teacher's weights taken out."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "trained.yaml").write_text(TRAINED)
    assert run(folder / "trained.yaml").code == 0
    alone = records(folder)["None"]["id"]
    shutil.copy(folder / "runs" / "work" / alone / "weights.safetensors", folder / "teacher.safetensors")
    return folder


@pytest.fixture(scope="module")
def brought(trained: Path) -> Path:
    """The same folder after a suite of one's own was run with that file as teacher."""
    (trained / "brought.yaml").write_text(BROUGHT)
    done = run(trained / "brought.yaml")
    assert done.code == 0, done.out + done.err
    return trained


@pytest.fixture
def own(tmp_path: Path, trained: Path) -> Path:
    """A suite whose teacher's weights a test may spoil, beside a good copy of them; returns the suite's file."""
    shutil.copy(trained / "teacher.safetensors", tmp_path)
    (tmp_path / "own.yaml").write_text(BROUGHT.replace("teacher.safetensors", "teacher.pth"))
    return tmp_path / "own.yaml"


def weights(suite: Path) -> dict[str, torch.Tensor]:
    return load_file(suite.parent / "teacher.safetensors")


def test_the_same_weights_teach_the_same_wherever_they_come_from(brought):
    found = records(brought)
    ours, theirs = found[TEACHER], found["brought"]
    assert theirs["curves"]["train.student.kd"] == ours["curves"]["train.student.kd"]
    assert theirs["scores"] == ours["scores"]


def test_the_record_holds_the_file_and_its_digest(brought):
    record = records(brought)["brought"]
    digest = hashlib.sha256((brought / "teacher.safetensors").read_bytes()).hexdigest()
    assert record["cell"]["networks"]["brought"]["checkpoint"] == record["teacher"]["digest"] == digest
    assert (record["teacher"]["cell_id"], record["teacher"]["checkpoint"]) == (None, "teacher.safetensors")
    assert record["teacher"]["score"] == record["scores"]["teacher"]["top1"]
    assert str(brought) not in json.dumps(record)


def test_nothing_trains_the_teacher_and_a_second_run_does_nothing(brought):
    assert len(records(brought)) == 3
    again = run(brought / "brought.yaml")
    assert again.code == 0 and "brought: nothing to do, 1 cell done" in again.out


def test_the_report_tells_where_the_teacher_comes_from(brought, tmp_path):
    score = records(brought)["brought"]["teacher"]["score"]
    report = adm("report", "brought", "--store", brought / "runs").out
    assert "frozen teacher" in report and f"{score:.2f}" in report
    told = " ".join(report.split())
    assert f"'brought' is this suite's own: {TEACHER}, with the weights of checkpoint teacher.safetensors" in told
    assert adm("report", "brought", "--store", brought / "runs", "--out", tmp_path / "out").code == 0
    page = next((tmp_path / "out").glob("*.html")).read_text()
    assert "checkpoint <code>teacher.safetensors</code>" in page


def test_other_weights_make_other_cells(brought):
    plan = adm("plan", brought / "brought.yaml", "--store", brought / "runs", "--json").json
    spoilt = {name: value + 1 if value.is_floating_point() else value for name, value in weights(brought / "x").items()}
    save_file(spoilt, brought / "other.safetensors")
    (brought / "other.yaml").write_text(BROUGHT.replace("teacher.safetensors", "other.safetensors"))
    other = adm("plan", brought / "other.yaml", "--store", brought / "runs", "--json").json
    assert other["open"] == 1 and plan["open"] == 0 and other["cells"][0]["id"] != plan["cells"][0]["id"]


def test_a_network_of_ones_own_is_trained_alone_where_it_has_no_weights(tmp_path):
    (tmp_path / "own.yaml").write_text(BROUGHT.replace(", checkpoint: teacher.safetensors", ""))
    assert run(tmp_path / "own.yaml").code == 0
    found = records(tmp_path)
    assert found["None"]["cell"]["student"] == "brought"
    assert found["brought"]["teacher"]["cell_id"] == found["None"]["id"]


def test_code_in_a_checkpoint_runs_only_with_trust(own):
    file, made = own.parent / "teacher.pth", own.parent / "made"
    torch.save({"state_dict": weights(own), "x": Touches(made)}, file)
    for command in ("plan", "status"):
        assert adm(command, own, "--store", own.parent / "runs").code == 0
    told = refusal("run", own, "--store", own.parent / "runs", "--device", "cpu")
    assert told.startswith(f"checkpoint {file}: holds code (io.open)") and told.endswith(f"run with --trust {file}")
    assert not made.exists() and not (own.parent / "runs").exists()
    assert run(own, "--trust", file).code == 0
    assert made.exists() and records(own.parent)["brought"]["status"] == "ok"


def test_trust_is_given_to_files_of_the_suite_by_their_content(own):
    other = own.parent / "other.pth"
    torch.save(weights(own), own.parent / "teacher.pth")
    torch.save({"x": Touches(own.parent / "made")}, other)
    told = refusal("run", own, "--trust", other)
    assert told == f"--trust {other}: suite 'own' has no such checkpoint; it has teacher.pth"
    assert refusal("run", own, "--trust", "absent.pth") == "absent.pth: cannot be read: No such file or directory"
    assert refusal("run", "smoke", "--trust", other).endswith("has no such checkpoint; it has none")
    assert not (own.parent / "made").exists()


def test_what_is_no_checkpoint_stops_a_run_before_it_starts(own):
    (own.parent / "teacher.pth").write_text("hello")
    told = refusal("run", own, "--store", own.parent / "runs", "--device", "cpu")
    assert told.startswith(f"checkpoint {own.parent}/teacher.pth: not a checkpoint: neither safetensors nor whole")
    assert not (own.parent / "runs").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found | {"head.weight": torch.zeros(150, 128), "head.bias": torch.zeros(150)},
         "teacher 'brought', teacher.pth: checkpoint has 150 classes, benchmark digit-scenes@1 has 10"),
        (lambda found: {name: value for name, value in found.items() if name != "head.bias"},
         "teacher 'brought', teacher.pth: these are not weights of network 'brought': 1 missing (head.bias)"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit_are_told_in_the_record(own, change, message):
    torch.save(change(weights(own)), own.parent / "teacher.pth")
    assert run(own).code == 1
    record = records(own.parent)["brought"]
    assert (record["status"], record["reason"]) == ("error", message)


def test_case_10_a_teacher_of_nan_stops_a_run_before_it_starts(own):
    file = own.parent / "teacher.pth"
    torch.save(weights(own) | {"head.bias": torch.full((10,), torch.nan)}, file)
    told = refusal("run", own, "--store", own.parent / "runs", "--device", "cpu")
    assert told.startswith(f"checkpoint {file}: its weights are not finite: 1 of ") and told.endswith(" (head.bias)")
    assert not (own.parent / "runs").exists()


def test_case_32_a_dropped_prefix_is_told_where_the_cell_is_trained(brought, own):
    torch.save({f"architecture.{name}": value for name, value in weights(own).items()}, own.parent / "teacher.pth")
    assert run(own).code == 0
    log = adm("logs", records(own.parent)["brought"]["id"], "--store", own.parent / "runs").out
    assert "teacher 'brought', teacher.pth: 'architecture.' before every name was dropped" in log
    assert records(own.parent)["brought"]["scores"] == records(brought)["brought"]["scores"]
