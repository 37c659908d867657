"""``adm run`` from a suite of one's own to its report: real networks on a few digit-scenes, real worker processes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Answer, adm

from suites.work.folder import WorkFolder

ADM = Path(sys.executable).with_name("adm")
LAUNCHED = {
    "WORLD_SIZE": "2", "PMI_SIZE": "4", "RANK": "1", "LOCAL_RANK": "1", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4",
    "ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_DEEPSPEED": "true",
}  # fmt: skip
"""What launchers of several processes leave in a shell."""
TRACKED = ("--tracker", "tensorboard") if importlib.util.find_spec("tensorboard") else ()
"""Mirrored where the extra is installed, which is to change nothing."""
INLINE = ("--device", "cpu", "--executor", "inline")
"""One process for all cells: torch is loaded once."""
TASK = "task: classification\n    benchmark: digit-scenes@1\n    protocol: smoke"
MINE = f"""title: Mine beside the others
blocks:
  - title: Offline
    {TASK}
    pairs: [resnet8w8s2 > resnet8w8s2]
    regime: offline
    methods: [none, kd, {{name}}]
    seeds: [0]
  - title: Online
    {TASK}
    pairs: [resnet8w8s2 > resnet8w8s2]
    regime: online
    methods: [dml+adm]
    seeds: [0]
"""
ON_CIFAR10 = MINE.partition("  - title: Online")[2].replace("digit-scenes@1", "cifar10@1")
ON_CIFAR10 = "  - title: Online" + ON_CIFAR10.replace("smoke", "cifar100-smoke")
FAULTY = """
import torch
from adm_core import Losses, Method, MethodCard, Needs, register


@register
class Explodes(Method):
    card = MethodCard("explodes", "Explodes", "none", 2026, frozenset({"offline"}), "logits")
    needs = Needs(prediction="class_logits")

    def losses(self, student, teacher, step):
        return Losses(student={"log": (student.prediction.sum() * 0 - step.progress).log()})


@register
class Reads(Method):
    card = MethodCard("reads", "Reads", "none", 2026, frozenset({"online"}), "features")
    needs = Needs(taps=("stage5",))

    def losses(self, student, teacher, step):
        return Losses(student={"map": student.features["stage5"].mean()})
"""


@pytest.fixture(autouse=True, scope="module")
def no_data_sets() -> Iterator[None]:
    """Without data sets, as on a newcomer's machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("ADM_DATA", raising=False)
        yield


def installed(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The installed command in a folder of its own, outside the checkout, without data sets, in a launcher's shell."""
    given = {key: value for key, value in os.environ.items() if key not in ("ADM_DATA", "PYTHONPATH")}
    return subprocess.run(
        [str(ADM), *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, timeout=300, env=given | LAUNCHED | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """Records by method, the lone teacher as ``alone``."""
    found = {}
    for file in (folder / "runs" / "records").glob("*.json"):
        record = json.loads(file.read_text())
        name = "+".join(part["name"] for part in record["cell"]["method"])
        found["alone" if record["cell"]["regime"] == "alone" else name] = record
    return found


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder in which a method of one's own was made, named in a suite and run beside others."""
    folder = tmp_path_factory.mktemp("outside")
    assert adm("new-method", "my-try", cwd=folder).code == 0
    (folder / "mine.yaml").write_text(MINE.replace("{name}", "my-try"))
    return folder, installed(folder, "run", "mine.yaml", "--method-file", "my_try.py", "--device", "cpu", *TRACKED)


def test_a_suite_with_ones_own_method_runs_to_its_end(mine):
    folder, done = mine
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-2:] == ["mine: 4 cells done", "adm report mine"]
    found = records(folder)
    assert Counter(record["status"] for record in found.values()) == {"ok": 5}
    assert set(found) == {"alone", "none", "kd", "my-try", "dml+adm"}
    for record in found.values():
        assert 0 <= record["scores"]["student"]["top1"] <= 100
    assert found["kd"]["teacher"]["cell_id"] == found["alone"]["id"] == found["my-try"]["teacher"]["cell_id"]


def test_forked_workers_in_a_launchers_shell_train_what_this_process_trains(mine, tmp_path):
    """Nothing of the science is read from the environment, and a fork of what has done the imports trains the same."""
    folder, _ = mine
    online = MINE[: MINE.index("  - title: Offline")] + MINE[MINE.index("  - title: Online") :]
    (tmp_path / "online.yaml").write_text(online)
    assert adm("run", "online.yaml", *INLINE, cwd=tmp_path).code == 0
    ours, theirs = records(folder)["dml+adm"], records(tmp_path)["dml+adm"]
    assert (ours["id"], ours["scores"], ours["curves"]) == (theirs["id"], theirs["scores"], theirs["curves"])
    weights = [root / "runs" / "work" / ours["id"] / "weights.safetensors" for root in (folder, tmp_path)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert (weights[0].parent / "log.txt").read_text() == ""
    assert not WorkFolder(weights[1].parent).assignment().options.curves  # no tracker reads them


@pytest.mark.skipif(not TRACKED, reason="the extra [tensorboard] is not installed")
def test_a_tracker_has_the_curves_that_the_record_has(mine):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, _ = mine
    kd, runs = records(folder)["kd"], folder / "runs" / "tensorboard" / "mine"
    assert WorkFolder.of(folder / "runs", kd["id"]).assignment().options.curves
    assert {path.name for path in runs.iterdir()} == {"teacher-resnet8w8s2", "none", "kd", "my-try", "dml+adm"}
    [events] = (runs / "kd").rglob("events*")
    read = EventAccumulator(str(events.parent)).Reload()
    curves = {name.replace(".", "/", 1): values for name, values in kd["curves"].items() if name != "epoch"}
    final = {f"test/{role}.{metric}": [v] for role, part in kd["scores"].items() for metric, v in part.items()}
    found = {tag: [event.value for event in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    told = {name: values for name, values in (curves | final).items() if values != [None]}
    assert set(found) == set(told) and "train/student.task" in found and "lr" in found
    for name, values in told.items():
        assert found[name] == pytest.approx(values)


def test_nothing_of_the_place_is_recorded(mine):
    folder, _ = mine
    for file in (folder / "runs" / "records").glob("*.json"):
        assert str(folder) not in file.read_text()


def test_a_second_run_does_nothing(mine):
    folder, _ = mine
    before = {file: file.stat().st_mtime_ns for file in (folder / "runs" / "records").glob("*.json")}
    began = time.monotonic()
    again = adm("run", "mine.yaml", "--method-file", "my_try.py", "--device", "cpu", cwd=folder)
    assert again.code == 0 and "mine: nothing to do, 4 cells done" in again.out
    assert {file: file.stat().st_mtime_ns for file in (folder / "runs" / "records").glob("*.json")} == before
    assert time.monotonic() - began < 10


def test_the_method_appears_in_the_report(mine):
    folder, _ = mine
    report = adm("report", "mine", cwd=folder)
    assert report.code == 0, report.err
    for row in ("none", "kd", "my-try", "dml+adm"):
        assert row in report.out
    assert f"{records(folder)['my-try']['scores']['student']['top1']:.2f}" in report.out


def test_plan_status_and_logs_know_the_finished_suite(mine):
    folder, _ = mine
    plan = json.loads(adm("plan", "mine.yaml", "--method-file", "my_try.py", "--json", cwd=folder).out)
    assert plan["open"] == 0 and {row["state"] for row in plan["cells"]} == {"done"}
    status = adm("status", "mine.yaml", "--method-file", "my_try.py", cwd=folder)
    assert "5 done" in status.out and "to do" not in status.out
    cell = records(folder)["kd"]["id"]
    assert f"{cell} ok" in adm("logs", cell[:10], cwd=folder).out


def test_without_its_file_the_method_is_unknown(mine):
    folder, _ = mine
    done = adm("run", "mine.yaml", cwd=folder)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: mine.yaml, block 'Offline', methods: unknown method 'my-try'")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """A suite in which one method gives NaN, one reads a tap that a library network lacks, and one is fine."""
    folder = tmp_path_factory.mktemp("faulty")
    (folder / "faulty.py").write_text(FAULTY)
    text = MINE[: MINE.index("  - title: Online")].replace("[none, kd, {name}]", "[explodes, none]")
    other = text.split("blocks:\n")[1].replace("Offline", "Library").replace("[explodes, none]", "[reads]")
    other = other.replace("offline", "online").replace("resnet8w8s2", "torchvision/resnet18")
    (folder / "faulty.yaml").write_text(text + other)
    return folder, adm("run", "faulty.yaml", "--method-file", "faulty.py", *INLINE, cwd=folder)


def test_a_loss_that_is_not_finite_ends_its_own_cell_only(faulty):
    folder, done = faulty
    assert done.code == 1
    found = records(folder)
    assert found["explodes"]["status"] == "diverged"
    assert "train.student.log became nan in epoch 1 of 1" in found["explodes"]["reason"]
    assert found["none"]["status"] == "ok" and len(found["explodes"]["attempts"]) == 1


def test_a_tap_that_a_library_network_lacks_is_named_with_what_there_is(faulty):
    folder, done = faulty
    record = records(folder)["reads"]
    assert record["status"] == "skipped" and "network 'torchvision/resnet18': unknown tap 'stage5'" in record["reason"]
    assert "did you mean stage4" in record["reason"]
    assert "unknown tap 'stage5'" in done.out and "Traceback" not in done.out + done.err


def test_a_row_whose_method_reads_what_a_network_lacks_is_skipped_in_plan_run_and_tables(tmp_path):
    (tmp_path / "faulty.py").write_text(FAULTY)
    text = "title: mine\nblocks:\n" + MINE[MINE.index("  - title: Online") :].replace("[dml+adm]", "[reads]")
    (tmp_path / "mine.yaml").write_text(text)
    given = ("mine.yaml", "--method-file", "faulty.py")
    [planned] = adm("plan", *given, "--json", cwd=tmp_path).json["cells"]
    reason = "network 'resnet8w8s2' has no tap 'stage5'; there are stage1, stage2, stage3, penultimate, logits"
    reason += ", stage1.preact, stage2.preact, stage3.preact"
    assert (planned["state"], planned["seconds"]) == ("to do", 0.0)
    assert planned["reason"] == f"no record; will be skipped: {reason}"
    assert adm("run", *given, *INLINE, cwd=tmp_path).code == 0
    [done] = adm("plan", *given, "--json", cwd=tmp_path).json["cells"]
    assert (done["state"], done["reason"]) == ("done", reason)
    assert f"reads: skipped: {reason}" in adm("report", "mine", cwd=tmp_path).out


def test_the_log_and_the_status_tell_why(faulty):
    folder, _ = faulty
    cell = records(folder)["explodes"]["id"]
    assert f"{cell} diverged: train.student" in adm("logs", cell[:12], cwd=folder).out
    status = adm("status", "faulty.yaml", "--method-file", "faulty.py", cwd=folder).out
    assert f"failed {cell}" in status and "diverged: train.student" in status


def test_a_missing_data_set_says_what_where_and_how(tmp_path):
    (tmp_path / "mine.yaml").write_text("title: no data\nblocks:\n" + ON_CIFAR10)
    (tmp_path / "data").mkdir()
    misspelt = adm("run", "mine.yaml", "--data-root", tmp_path / "date", *INLINE, cwd=tmp_path)
    assert (misspelt.code, misspelt.err) == (2, f"error: --data-root {tmp_path}/date: no such folder\n")
    done = adm("run", "mine.yaml", "--data-root", tmp_path / "data", *INLINE, cwd=tmp_path)
    assert done.code == 2 and "Traceback" not in done.err and not (tmp_path / "runs" / "records").exists()
    for words in ("CIFAR-10 was not found", "cifar-10-batches-py", "data_batch_1", "--download", "ADM_DATA"):
        assert words in done.err
    assert f"{tmp_path}/data/cifar-10-batches-py" in done.err


def test_a_suite_may_say_where_its_data_are(tmp_path):
    (tmp_path / "mine.yaml").write_text("title: no data\ndata_roots: [beside]\nblocks:\n" + ON_CIFAR10)
    done = adm("run", "mine.yaml", *INLINE, cwd=tmp_path)
    assert f"{tmp_path}/beside/cifar-10-batches-py" in done.err
