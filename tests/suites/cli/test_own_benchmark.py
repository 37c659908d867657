"""A benchmark of one's own: a folder of images, from the suite's file to the report, and every way to get it wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import adm, refusal
from PIL import Image

from adm_core.errors import AdmError
from results.records.schema import BenchmarkIdentity, Cell
from suites.spec.benchmarks import benchmark_of
from suites.spec.expand import expand

RECIPE = """title: two epochs on few files
source: tests
task: classification
recipe: {epochs: 2, batch_size: 8, optimizer: {name: adamw, lr: 0.01}, selection: best-validation}
data: {validation: 0.25}
"""
SUITE = """title: Flowers
benchmarks:
  flowers:
    {folder: data/flowers, classes: 3, image: 28, normalisation: {mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}
blocks:
  - title: Offline, flowers
    task: classification
    benchmark: flowers
    protocol: ./recipe.yaml
    pairs: [resnet8w12s2 > resnet8w8s2]
    regime: offline
    methods: [none, kd]
    seeds: [0]
"""
CLASSES = ("daisy", "poppy", "rose")


def write(root: Path, suite: str = SUITE, splits: tuple[str, ...] = ("train", "test")) -> Path:
    """A suite's file beside a folder of three classes, each of its own colour."""
    rng = np.random.default_rng(0)
    for split in splits:
        for number, name in enumerate(CLASSES):
            folder = root / "data" / "flowers" / split / name
            folder.mkdir(parents=True)
            for image in range(16 if split == "train" else 8):
                pixels = rng.integers(0, 60, (30, 36, 3), dtype=np.uint8)
                pixels[..., number] += 180
                Image.fromarray(pixels).save(folder / f"{image}.png")
    (root / "recipe.yaml").write_text(RECIPE)
    (root / "mine.yaml").write_text(suite)
    return root / "mine.yaml"


def run(suite: Path) -> list[dict[str, Any]]:
    store = suite.parent / "runs"
    done = adm("run", suite, "--store", store, "--device", "cpu", "--executor", "inline")
    assert done.code == 0, done.out + done.err
    return [json.loads(file.read_text()) for file in (store / "records").glob("*.json")]


def ids(suite: Path) -> list[str]:
    return [row.id for row in expand(str(suite)).rows]


def test_a_folder_is_trained_on_and_its_place_is_not_science(tmp_path: Path) -> None:
    suite = write(tmp_path)
    records = run(suite)
    assert len(records) == 3
    for record in records:
        assert record["status"] == "ok" and record["cell"]["benchmark"] == "flowers"
        assert record["cell"]["own_benchmark"]["images"] == {"train": 48, "test": 24}
        assert record["scores"]["student"]["top1"] > 50 and record["scores"]["student"]["ece_ts"] is not None
        assert record["data_digest"] == record["cell"]["own_benchmark"]["files"][:12]
        assert str(tmp_path) not in json.dumps(record)
    report = adm("report", "mine", "--store", tmp_path / "runs").out
    told = "Benchmark 'flowers' is this suite's own: 3 classes, 28x28 pixels, 48 train, 24 test images (files SHA-256"
    assert told in " ".join(report.split()) and "kd" in report

    (tmp_path / "data" / "flowers").rename(tmp_path / "elsewhere")
    suite.write_text(SUITE.replace("data/flowers", "elsewhere"))
    again = adm("run", suite, "--store", tmp_path / "runs", "--device", "cpu", "--executor", "inline")
    assert "nothing to do, 2 cells done" in again.out


def test_what_is_science_moves_the_identity(tmp_path: Path) -> None:
    suite = write(tmp_path)
    before, folder = ids(suite), tmp_path / "data" / "flowers"
    (folder / "train" / "daisy" / ".DS_Store").write_bytes(b"x")
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    assert ids(suite) == before
    for changes in (
        {"28": "32"},
        {"0.25, 0.25]": "0.25, 0.3]"},
        {"  flowers:\n": "  blooms:\n", "mark: flowers": "mark: blooms"},
    ):
        changed = SUITE
        for old, new in changes.items():
            changed = changed.replace(old, new)
        suite.write_text(changed)
        assert not set(ids(suite)) & set(before)
    suite.write_text(SUITE)
    shutil.copy(folder / "test" / "rose" / "0.png", folder / "test" / "rose" / "more.png")
    assert not set(ids(suite)) & set(before)


@pytest.mark.parametrize(
    ("splits", "images"),
    [
        (("train", "val"), {"train": 48, "test": 24}),
        (("train", "valid", "test"), {"train": 48, "validation": 24, "test": 24}),
    ],
)
def test_splits_are_found_in_torchvisions_layout(
    tmp_path: Path, splits: tuple[str, ...], images: dict[str, int]
) -> None:
    suite = write(tmp_path, splits=splits)
    own = expand(str(suite)).rows[0].cell.own_benchmark
    assert own is not None and own.images == images
    renamed = tmp_path / "data" / "flowers" / splits[-1]
    renamed.rename(renamed.with_name("held-out"))
    validation = ", validation: valid" if "validation" in images else ""
    suite.write_text(SUITE.replace("classes: 3,", f"classes: 3, split: {{test: held-out{validation}}},"))
    assert expand(str(suite)).rows[0].cell.own_benchmark == own


def test_files_that_change_after_the_plan_stop_the_cell(tmp_path: Path) -> None:
    suite = write(tmp_path)
    expansion = expand(str(suite))
    cell = expansion.rows[0].cell
    found = benchmark_of(cell, expansion.folders)
    assert found is not None and found.splits["test"] == tmp_path / "data" / "flowers" / "test"
    (tmp_path / "data" / "flowers" / "test" / "rose" / "0.png").unlink()
    with pytest.raises(AdmError, match=r"^benchmark 'flowers': the files of .* have changed since the run"):
        benchmark_of(cell, expansion.folders)
    with pytest.raises(AdmError, match="nobody said where its images lie"):
        benchmark_of(cell, {})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("classes: 3", "classes: 4", ": benchmarks.flowers.classes = 4: {data}/train holds 3 class folders"),
        ("data/flowers", "data/flower", ": benchmarks.flowers: folder: {folder}/data/flower: no such folder"),
        ("classes: 3,", "classes: 3, split: {test: gone},", ": benchmarks.flowers: {data}/gone: no such folder"),
        ("classes: 3,", "classes: 3, split: {test: ./train},", "flowers: split: train, test must be folders of their"),
        ("benchmark: flowers", "benchmark: flower", ": benchmarks.flowers stands in no block; did you mean flower?"),
        ("flowers:\n", "cifar100:\n", ": benchmarks.cifar100: a benchmark of this name is known, and its published"),
        ("  flowers:", "  bloom: {folder: data, classes: 2}\n  flowers:", ": benchmarks.bloom stands in no block"),
        ("classes: 3, ", "", ": key 'benchmarks.flowers.classes' is missing"),
        ("image: 28", "imgae: 28", ": unknown key 'benchmarks.flowers.imgae'"),
        ("0.25, 0.25, 0.25", "0.25, 0.25, 0", ": key 'benchmarks.flowers.normalisation.std.2' = 0"),
        ("task: classification", "task: segmentation", "a folder of images is a benchmark for classification, not for"),
        ("validation: 0.25", "validation: own", "key 'data.validation' = 'own': the benchmark has only train, test of"),
        ("validation: 0.25", "crop_padding: 4", "key 'data.crop_padding' = 4: images in folders are cropped by"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    suite = write(tmp_path)
    for file in (suite, tmp_path / "recipe.yaml"):
        text = file.read_text().replace(old, new, 1)
        file.write_text(text.replace("benchmark: flowers", "benchmark: cifar100") if "cifar100" in new else text)
    told = refusal("plan", suite)
    assert told.startswith(str(suite)) and "\n" not in told
    assert message.format(folder=tmp_path, data=tmp_path / "data" / "flowers") in told


def test_case_03_a_class_that_one_split_lacks_is_told(tmp_path: Path) -> None:
    suite = write(tmp_path)
    shutil.rmtree(tmp_path / "data" / "flowers" / "test" / "poppy")
    assert "have different classes: 1 are in one alone, e.g. 'poppy'" in refusal("plan", suite)


def test_cells_without_a_benchmark_of_their_own_are_what_they_were() -> None:
    given = expand("smoke").rows[0].cell
    assert "own_benchmark" not in json.loads(given.model_dump_json())
    own = BenchmarkIdentity(
        classes=3, image=8, mean=(0, 0, 0), std=(1, 1, 1), images={"train": 3, "test": 3}, files="0" * 64
    )
    assert Cell.model_validate(given.model_dump() | {"own_benchmark": own.model_dump()}).id != given.id
