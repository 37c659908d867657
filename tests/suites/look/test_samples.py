"""``adm samples`` on generators trained here: pictures, and what it refuses."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import adm, refusal

from results.records.schema import Manifest, ManifestRow, Primary, Record
from results.records.store import Store
from suites.look.samples import chosen
from suites.spec.expand import expand

ROOT = Path(__file__).resolve().parents[3]
RECIPE = """title: two batches
source: tests
task: diffusion
recipe: {epochs: 1, batch_size: 64, optimizer: {name: adamw, lr: 0.004}}
data:
  train_limit: 128
  noise: {schedule: cosine, prediction: v_prediction}
  sampling: {steps: 2, samples: 70}
"""
TASK = "task: diffusion\n    benchmark: digits@2\n    protocol: ./recipe.yaml\n    pairs: [unet-w16 > unet-w8]"
SUITE = f"""title: A suite to look at
blocks:
  - title: Offline
    {TASK}
    regime: offline
    methods: [none, output]
    seeds: [0]
  - title: Online
    {TASK}
    regime: online
    methods: [none]
    seeds: [0]
"""
CPU = ("--device", "cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the suite ``mine`` was run."""
    folder = tmp_path_factory.mktemp("samples")
    (folder / "recipe.yaml").write_text(RECIPE)
    (folder / "mine.yaml").write_text(SUITE)
    answer = adm("run", folder / "mine.yaml", "--store", folder / "runs", "--executor", "inline", *CPU)
    assert answer.code == 0, answer
    return folder / "runs"


@pytest.fixture
def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy of it to write into or to do harm to."""
    return Path(shutil.copytree(trained, tmp_path / "copied"))


def rows(store: Path) -> list[ManifestRow]:
    return Store(store).read_manifest("mine").rows


def test_a_suite_gets_a_picture_per_row_which_its_page_shows_and_which_never_changes(copied: Path) -> None:
    answer = adm("samples", "mine", "--store", copied, *CPU)
    assert answer.code == 0, answer
    files = [copied / "samples" / f"{row.id}.png" for row in rows(copied)]
    assert answer.out.split() == [str(file) for file in files]
    first = [file.read_bytes() for file in files]
    assert len(set(first)) == 3 and all(content.startswith(b"\x89PNG") for content in first)
    assert adm("samples", "mine", "--store", copied, *CPU).code == 0
    assert [file.read_bytes() for file in files] == first
    assert adm("report", "mine", "--store", copied, "--out", copied / "page.html").code == 0
    assert len(re.findall(r'<img src="data:image/png;base64,', (copied / "page.html").read_text())) == 3


def test_cells_are_drawn_by_the_beginning_of_their_id_into_any_folder(trained: Path, tmp_path: Path) -> None:
    ids = [row.id for row in rows(trained)]
    teacher = next(path.stem for path in (trained / "records").glob("*.json") if path.stem not in ids)
    out = tmp_path / "seen"
    answer = adm("samples", ids[0][:8], teacher, "--store", trained, "--out", out, "--count", 5, *CPU)
    assert answer.code == 0, answer
    assert answer.out.split() == [str(out / f"{ids[0]}.png"), str(out / f"{teacher}.png")]
    assert not (trained / "samples").exists()


def test_student_and_teacher_are_shown_with_their_scores(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {}
    monkeypatch.setattr("suites.look.samples.draw", lambda grids, title: drawn.setdefault(title, grids) and b"")
    assert adm("samples", "mine", "--store", trained, "--out", trained.parent / "faked", *CPU).code == 0
    offline, online = drawn["digits@2: unet-w16 → unet-w8, offline"], drawn["digits@2: unet-w16 → unet-w8, online"]
    records, _ = Store(trained).records(row.id for row in rows(trained))
    for grids, row in ((offline, rows(trained)[0]), (online, rows(trained)[2])):
        record = records[row.id]
        frozen = record.teacher.score if record.teacher else record.score("teacher")
        assert [grid.label for grid in grids] == [
            f"none, seed 0: Fréchet {record.score('student'):.2f}", f"teacher: Fréchet {frozen:.2f}"
        ]  # fmt: skip
        assert [grid.images.shape for grid in grids] == [(64, 8, 8, 1)] * 2
        assert (grids[0].images != grids[1].images).any()
    assert (offline[1].images != online[1].images).any()


def test_the_first_finished_seed_of_a_row_is_taken(copied: Path) -> None:
    record, store = Store(copied).read_record(rows(copied)[0].id), Store(copied)
    assert record is not None
    cells = [record.cell.model_copy(update={"seed": seed}) for seed in (5, 6, 7)]
    places = [ManifestRow(cell=cell, id=cell.id, label="none", block="Offline") for cell in cells]
    store.write_manifest(Manifest(suite="seeds", title="seeds", rows=places))
    for cell in cells[1:]:
        store.write_record(record.model_copy(update={"id": cell.id, "cell": cell}))
        shutil.copytree(copied / "work" / record.id, copied / "work" / cell.id)
    found, remarks = chosen(["seeds", cells[1].id], store)
    assert [one.cell.seed for one in found] == [6] and remarks == []


def test_rows_without_a_finished_seed_are_left_out_aloud(copied: Path) -> None:
    (copied / "records" / f"{rows(copied)[1].id}.json").unlink()
    answer = adm("samples", "mine", "--store", copied, "--count", 1, *CPU)
    assert answer.code == 0 and len(answer.out.split()) == 2
    assert answer.err.splitlines()[0] == "output: left out, as none of its seeds is finished"
    assert "is not finished" in refusal("samples", rows(copied)[1].id, "--store", copied)
    for path in (copied / "records").glob("*.json"):
        path.unlink()
    assert "no cell of it" in refusal("samples", "mine", "--store", copied)


def test_missing_weights_are_one_clear_error(copied: Path) -> None:
    (copied / "work" / rows(copied)[2].id / "teacher.safetensors").unlink()
    message = refusal("samples", "mine", "--store", copied)
    assert "no trained weights of 1 of 3 finished cells (online unet-w16 > unet-w8, none, seed 0)" in message
    assert "'adm run SUITE --store FOLDER' with a fresh folder" in message


def test_a_task_without_samples_is_refused_and_beside_one_with_samples_left_out(copied: Path) -> None:
    planned, store = expand("cifar100-smoke").rows[0], Store(copied)
    primary = Primary(metric="top1", higher_is_better=True, unit="%", selection="last")
    scores = {"student": {"top1": 50.0}}
    store.write_record(Record(id=planned.id, cell=planned.cell, status="ok", scores=scores, primary=primary))
    place = ManifestRow(cell=planned.cell, id=planned.id, label=planned.label, block="Photos")
    store.write_manifest(Manifest(suite="photos", title="photos", rows=[place]))
    store.write_manifest(Manifest(suite="both", title="both", rows=[place, rows(copied)[0]]))
    for name in ("photos", planned.id):
        assert "its task makes no samples (classification)" in refusal("samples", name, "--store", copied)
    found, remarks = chosen(["both"], store)
    assert [record.id for record in found] == [rows(copied)[0].id]
    assert remarks == ["Photos: left out, as classification makes no samples"]


def test_other_bad_input_is_one_clear_error(trained: Path, tmp_path: Path) -> None:
    assert "begins with 'abcdabcd'" in refusal("samples", "abcdabcd", "--store", trained)
    assert "did you mean 'mine'" in refusal("samples", "mein", "--store", trained)
    assert "nothing has been run" in refusal("samples", "smoke", "--store", tmp_path)
    message = refusal("samples", "mine", "--store", trained, "--out", tmp_path, "--count", 71, *CPU)
    assert message == "--count 71: the protocol makes only 70 images of each network"
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal("samples", "mine", "--store", trained, "--out", tmp_path / "file", *CPU)


def test_its_help_loads_nothing_heavy() -> None:
    code = (
        "import atexit, sys, adm_bench\n"
        "heavy = {'torch', 'numpy', 'matplotlib'}\n"
        "atexit.register(lambda: print(*heavy & sys.modules.keys(), file=sys.stderr))\n"
        "sys.argv = ['adm', 'samples', '--help']\nadm_bench.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "SUITE|CELL" in done.stdout and done.stderr.strip() == ""
