"""What the commands that train nothing print, for people and for scripts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from command_line import adm, refusal

from adm_core import registry
from results.records.schema import Attempt, Record
from results.records.store import Store
from suites.cli import app
from suites.spec.expand import expand
from suites.spec.names import protocol_names, suite_names
from suites.work.folder import WorkFolder

ADM = Path(sys.executable).with_name("adm")
ROOT = Path(__file__).resolve().parents[3]


def process(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """The installed command, as a user types it."""
    given = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    words = [str(ADM), *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=cwd, env=given)


def test_help_names_every_command_with_an_example():
    answer = adm("--help")
    assert answer.code == 0
    commands = typer.main.get_command(app).commands
    assert {"list", "plan", "run", "report", "samples", "doctor"} <= commands.keys()
    for command in commands:
        assert f"  {command} " in answer.out
        assert "Example: adm" in adm(command, "--help").out


def test_networks_have_name_parameters_and_taps():
    rows = {row["name"]: row for row in adm("list", "networks", "--json").json}
    assert rows["resnet20"]["parameters"] == 278_324
    plain = [tap for tap in rows["resnet20"]["taps"] if not tap.endswith(".preact")]
    assert plain == ["stage1", "stage2", "stage3", "penultimate", "logits"]
    assert all({"name", "task", "parameters", "taps", "source"} <= row.keys() for row in rows.values())
    assert "278,324" in adm("list", "networks").out


def test_every_list_is_complete_and_the_same_for_people_and_scripts():
    expected = {"methods": registry.names(), "suites": suite_names(), "protocols": protocol_names()}
    expected["executors"] = ["inline", "local"]
    for what in ("methods", "tasks", "benchmarks", "networks", "suites", "protocols", "executors"):
        rows, shown = adm("list", what, "--json").json, adm("list", what)
        assert shown.code == 0 and rows
        assert all(row["name"] in shown.out for row in rows)
        if what in expected:
            assert {row["name"] for row in rows} >= set(expected[what])


def test_list_methods_tells_regimes_versions_and_default_settings():
    kd = next(row for row in adm("list", "methods", "--json").json if row["name"] == "kd")
    assert kd["regimes"] == ["offline"] and kd["version"] == 1 and kd["settings"]["temperature"] == 4.0


def test_plan_as_json(tmp_path):
    plan = adm("plan", "smoke", "--json", "--store", tmp_path, "--workers", 2, "--device", "cpu").json
    cells = expand("smoke").cells
    assert {row["id"] for row in [*plan["artefacts"], *plan["cells"]]} == {cell.id for cell in cells}
    assert plan["open"] == len(cells) and plan["without_estimate"] == len(cells) and plan["workers"] == 2
    kd = next(row for row in plan["cells"] if row["label"] == "kd")
    expected = {"teacher": "resnet14w16s2", "student": "resnet8w8s2", "regime": "offline", "seed": 0, "state": "to do"}
    assert {key: kd[key] for key in expected} == expected
    assert kd["reason"] == "no record; its teacher is trained first"
    assert list(tmp_path.iterdir()) == []  # a plan leaves nothing behind


def test_plan_for_people_says_what_and_why(tmp_path):
    answer = adm("plan", "smoke", "--store", tmp_path, "--workers", 2)
    assert "teacher resnet14w16s2" in answer.out and "its teacher is trained first" in answer.out
    assert "7 cells to train with 2 workers; nothing like them has been timed here yet" in answer.out


def test_status_as_json_tells_what_failed_and_how_far_a_cell_is(tmp_path):
    planned = {row.label: row for row in expand("smoke").rows if row.cell.regime == "offline"}
    failed, begun = planned["kd"], planned["fitnet"]
    attempt = Attempt(status="error", reason="no disk", seconds=1.0)
    Store(tmp_path).write_record(
        Record(id=failed.id, cell=failed.cell, status="error", reason="no disk", attempts=[attempt])
    )
    WorkFolder(tmp_path / "work" / begun.id).report({"epoch": 1, "epochs": 6, "score": 12.5})
    rows = {row["id"]: row for row in adm("status", "smoke", "--json", "--store", tmp_path).json["cells"]}
    assert (rows[failed.id]["state"], rows[failed.id]["reason"]) == ("failed", "last time: error: no disk")
    assert rows[begun.id]["progress"] == {"epoch": 1, "epochs": 6, "score": 12.5}
    shown = adm("status", "smoke", "--store", tmp_path).out
    assert "1 failed" in shown and f"failed {failed.id}  offline resnet14w16s2 > resnet8w8s2  kd  seed 0" in shown


def test_logs_take_the_beginning_of_an_id(tmp_path):
    cells = expand("smoke").rows[:2]
    for row in cells:
        folder = WorkFolder(tmp_path / "work" / row.id)
        folder.path.mkdir(parents=True)
        folder.log.write_text(f"this is {row.label}\n")
    for row in cells:
        answer = adm("logs", row.id[:8], "--store", tmp_path)
        assert (answer.code, answer.out) == (0, f"this is {row.label}\n")
    assert f"no cell in '{tmp_path}' begins with 'ffffffffff'" in refusal("logs", "f" * 10, "--store", tmp_path)
    assert "is the beginning of 2 cells: " in refusal("logs", "", "--store", tmp_path)


@pytest.mark.parametrize("regime", ["offline", "online"])
def test_a_new_method_passes_its_checks_at_once(tmp_path, regime):
    name, file = f"first-try-{regime}", tmp_path / "mine.py"
    made = adm("new-method", name, "--out", file, "--regime", regime)
    assert (made.code, made.out) == (0, f"wrote {file}; next: adm check --method {file}\n")
    checked = adm("check", "--method", file)
    assert checked.code == 0, checked.out
    assert re.search(r"(?m)^([1-9]\d*) of \1 checks passed$", checked.out) and "FAIL" not in checked.out
    assert refusal("new-method", f"{name}-2", "--out", file) == f"{file} exists; give another --out"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("kd", "a method named 'kd' exists; choose another name"),
        ("My_Method", "'My_Method' is not a method name: lower case letters, digits, single hyphens, e.g. my-method"),
    ],
)
def test_a_new_method_needs_a_free_and_proper_name(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    assert refusal("new-method", name) == message
    assert list(tmp_path.iterdir()) == []


def test_check_finds_a_broken_promise_and_ends_with_one(tmp_path):
    file = tmp_path / "leaky.py"
    adm("new-method", "leaky", "--out", file)
    file.write_text(file.read_text().replace("teacher.detached().prediction", "student.prediction"))
    answer = adm("check", "--method", file)
    assert answer.code == 1
    assert "FAIL  leaky  offline  images  gradients reach what they should" in answer.out


def test_check_of_all_tells_each_method_in_a_line_and_what_is_broken(tmp_path, monkeypatch):
    file = tmp_path / "leaky.py"
    adm("new-method", "leaky", "--out", file)
    file.write_text(file.read_text().replace("teacher.detached().prediction", "student.prediction"))
    monkeypatch.setattr(registry, "names", lambda: ["none", "leaky"])
    answer = adm("check", "--all", "--method-file", file)
    assert answer.code == 1
    assert re.search(r"(?m)^pass  none  \d+ checks$", answer.out) and "pass  leaky" not in answer.out
    assert "FAIL  leaky  offline  images  gradients reach what they should" in answer.out
    passed, tried = map(int, re.search(r"(?m)^(\d+) of (\d+) checks of 2 methods passed$", answer.out).groups())
    assert 0 < passed < tried


def test_check_wants_to_know_of_what():
    told = "give either --method, what is to be checked, or --all"
    assert refusal("check") == refusal("check", "--all", "--method", "kd") == told


def test_check_of_what_is_not_there():
    assert refusal("check", "--method", "dk") == "unknown method 'dk'; did you mean dpk, dkd, gdkd?"
    assert refusal("check", "--method", "nowhere.py") == "method file nowhere.py: no such file"


def test_doctor_says_what_is_there_and_how_to_get_what_is_not(tmp_path):
    answer = adm("doctor", "--data-root", tmp_path)
    assert answer.code == 0, answer.out
    assert "fit to run; try: adm run smoke" in answer.out
    assert "missing cifar10 looked in" in " ".join(answer.out.split())
    assert f"{tmp_path}/cifar-10-batches-py" in answer.out and "--download" in answer.out


def test_doctor_as_json(tmp_path, monkeypatch):
    monkeypatch.setenv("ADM_DATA", str(tmp_path))
    found = adm("doctor", "--json").json
    assert set(found) == {"python", "packages", "devices", "data", "problems"} and found["problems"] == []
    assert found["packages"]["torch"] and found["packages"]["jinja2"] and found["devices"]["cores"] >= 1
    sets = {row["name"]: row for row in found["data"]}
    assert sets["digit-scenes"]["found"] is True
    assert sets["cifar10"]["found"] is False and str(tmp_path) in sets["cifar10"]["detail"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lst",), "No such command 'lst'"),
        (("list", "method"), "No such command 'method'"),
        (("plan",), "Missing argument"),
        (("plan", "quick", "--worker", "2"), "No such option: --worker"),
        (("plan", "quick", "--device", "gpu"), "'gpu' is not one of 'auto', 'cpu', 'cuda'"),
        (("run", "quick", "--workers", "0"), "greater than or equal to 1"),
    ],
)
def test_mistyped_commands(words, message):
    answer = adm(*words)
    assert answer.code == 2 and message in answer.err and "Traceback" not in answer.err


def test_the_installed_command_ends_bad_input_with_two_and_no_traceback(tmp_path):
    done = process("run", "qick", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: unknown suite 'qick'; did you mean quick")
    assert list(tmp_path.iterdir()) == []


def test_the_installed_command_uses_its_own_packages_wherever_it_is_called(tmp_path):
    for name in ("tasks", "suites", "results"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('somebody else')")
    done = process("list", "suites", "--json", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert [row["name"] for row in json.loads(done.stdout)] == suite_names()


def test_a_cell_has_several_gpus_where_its_recipe_can_be_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cores stand in for GPUs."""
    monkeypatch.setattr("suites.executors.slots.cores", lambda: 5)
    given = ("run", "smoke", "--store", tmp_path, "--device", "cpu", "--gpus-per-cell")
    assert "accumulate is no multiple of 2 in smoke (1); train by a protocol that says so" in refusal(*given, 2)
    assert refusal(*given, 6) == "--gpus-per-cell 6: 6 CPU cores are wanted, and there are 5 here"
    assert refusal(*given, 2, "--group", 3) == "--group 3 and --gpus-per-cell 2: give one of them"
    plan = json.loads(adm("plan", "smoke", "--store", tmp_path, "--device", "cpu", "--gpus-per-cell", 2, "--json").out)
    assert plan["workers"] == 2 and {cell["together"] for cell in plan["cells"]} <= {1, None}
