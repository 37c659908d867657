"""Runs in real trackers, read back with the trackers' own readers: files on this machine, no network."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from adm_core.errors import AdmError
from suites.run.trackers import TRACKERS, Description, TrackedRun, runs_of

CONFIG = {
    "cell": "0123456789abcdef", "seed": 3, "method": {"kd+x": {"temperature": 4.0, "normalise": True}},
    "protocol": {"recipe": {"epochs": 3, "schedule": {"milestones": [1.5, 2.0]}}},
}  # fmt: skip
Told = tuple[dict[str, list[tuple[int, float]]], dict[str, Any], str, str]
"""Curves as pairs of epoch and value, configuration by dotted name, name of the run, how it ended."""


def told_tensorboard(store: Path) -> Told:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    [folder] = {file.parent for file in (store / "tensorboard").rglob("events*")}
    read = EventAccumulator(str(folder)).Reload()
    curves = {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    data = {tag: HParamsPluginData.FromString(part) for tag, part in read.PluginTagToContent("hparams").items()}
    config = {}
    for name, value in data["_hparams_/session_start_info"].session_start_info.hparams.items():
        config[name] = getattr(value, value.WhichOneof("kind"))
    ended = data["_hparams_/session_end_info"].session_end_info.status
    return curves, config, str(folder.relative_to(store / "tensorboard")), {1: "ok"}.get(ended, str(ended))


def told_wandb(store: Path) -> Told:
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # what its own process still holds is then on disk
    name = ""
    curves: dict[str, list[tuple[int, float]]] = {}
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    for file in sorted((store / "wandb").glob("offline-run-*/run-*.wandb")):
        for data in _log_records(file.read_bytes()):
            record = Record.FromString(data)
            name = record.run.display_name or name
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            summary |= {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.summary.update}
            values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            for key in (key for key in values if key != "epoch" and not key.startswith("_")):
                curves.setdefault(key, []).append((values["epoch"], values[key]))
    scores = {key: [(0, value)] for key, value in summary.items() if key.startswith("test/")}
    return curves | scores, _flat(config), name, str(summary["status"])


def _log_records(data: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, behind a header of 7 bytes, in blocks of 32 KiB."""
    at, record = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # no room for a header
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def told_mlflow(store: Path) -> Told:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    [run] = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    curves = {}
    for key in run.data.metrics:
        curves[key] = [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, key)]
    assert run.info.status == "FINISHED"
    return curves, dict(run.data.params), run.info.run_name, run.data.tags["status"]


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


READERS: Mapping[str, Callable[[Path], Told]] = {
    "tensorboard": told_tensorboard, "wandb": told_wandb, "mlflow": told_mlflow,
}  # fmt: skip


def kind_of(name: str) -> type[TrackedRun]:
    pytest.importorskip(TRACKERS[name].package, reason=f"the extra [{name}] is not installed")
    return runs_of(name)


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_a_run_that_was_interrupted_is_one_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    for variable in ("MLFLOW_TRACKING_URI", "WANDB_DIR"):
        monkeypatch.delenv(variable, raising=False)
    kind = kind_of(name)
    about = Description("mine", "mine / kd+x / a > b / seed 3", "0a1b2c3d", CONFIG, tmp_path)
    run = kind(about)
    run.log(1, {"train/student.kd+x": 1.5, "lr": 0.125})
    run.log(2, {"train/student.kd+x": 1.25, "lr": 0.0625})
    run.end("interrupted", {})
    run = kind(about)
    run.log(3, {"train/student.kd+x": 1.0, "lr": 0.03125, "validation/student.top1": 50.0})
    run.end("ok", {"test/student.top1": 51.5})
    curves, config, called, ended = READERS[name](tmp_path)
    loss = "train/student.kd_x" if name == "mlflow" else "train/student.kd+x"  # which takes no plus
    assert curves[loss] == [(1, 1.5), (2, 1.25), (3, 1.0)]
    assert curves["lr"] == [(1, 0.125), (2, 0.0625), (3, 0.03125)]
    assert curves["validation/student.top1"] == [(3, 50.0)]
    assert [value for _, value in curves["test/student.top1"]] == [51.5]
    assert str(config["cell"]) == "0123456789abcdef" and float(config["protocol.recipe.epochs"]) == 3
    assert str(config["protocol.recipe.schedule.milestones"]) == "[1.5, 2.0]"
    assert called in (about.name, "mine/kd+x/a-b/seed-3-0a1b2c3d") and ended == "ok"


def test_an_unknown_tracker_is_told(tmp_path: Path) -> None:
    with pytest.raises(AdmError, match="--tracker: unknown tracker 'wand'; did you mean wandb"):
        runs_of("wand")


def test_a_tracker_without_its_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TRACKERS["wandb"], "package", "no_such_package_here")
    with pytest.raises(AdmError, match=r"--tracker wandb: .* pip install 'adm-bench\[wandb\]'"):
        runs_of("wandb")
