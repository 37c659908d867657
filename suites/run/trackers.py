"""Experiment trackers to which ``adm run --tracker`` mirrors the curves of running cells: one run for each cell.

Their packages are extras; each is imported when it is asked for.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from adm_core.errors import AdmError, unknown

Values = Mapping[str, float]
"""Name to value, the part before the first ``/`` a group of charts: ``train/student.task``, ``validation/...``."""


@dataclass(frozen=True)
class Description:
    """What a tracker is told of the cell whose run it shows.

    Attributes:
        suite: its name.
        name: of the run: suite / row / pair / seed.
        key: 8 hexadecimal digits that tell the run from all others; the same when its cell is resumed.
        config: id, settings and protocol of the cell, as JSON values.
        store: folder in which trackers keep what they keep on this machine.
    """

    suite: str
    name: str
    key: str
    config: Mapping[str, Any]
    store: Path


class TrackedRun(ABC):
    """A cell's run in a tracker, begun when it is made, or gone on with where it has begun one of that key before.

    Any method may raise whatever the tracker's package does.

    Attributes:
        package: that must be importable.
    """

    package: ClassVar[str]

    @abstractmethod
    def __init__(self, about: Description) -> None: ...

    @abstractmethod
    def log(self, epoch: int, values: Values) -> None:
        """Add an epoch's values to the curves; epochs come in order, each once."""

    @abstractmethod
    def end(self, status: str, summary: Values) -> None:
        """End the run.

        Args:
            status: of the cell's record, or ``retry`` where the cell will be tried again.
            summary: final scores on the test split, of a cell that is ok.
        """


class TensorBoardRun(TrackedRun):
    """Event files in ``STORE/tensorboard/``, a folder for each run; ``tensorboard --logdir STORE/tensorboard``."""

    package = "tensorboard"

    def __init__(self, about: Description) -> None:
        from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        parts = [re.sub(r"[^\w.+=-]+", "-", part) for part in about.name.split(" / ")]
        folder = about.store.joinpath("tensorboard", *parts[:-1], f"{parts[-1]}-{about.key}")
        self._writer, self._epoch = EventFileWriter(str(folder)), 0
        start = SessionStartInfo(start_time_secs=time.time())
        for name, value in _flat(about.config):
            if isinstance(value, bool):
                start.hparams[name].bool_value = value
            elif isinstance(value, int | float):
                start.hparams[name].number_value = value
            else:
                start.hparams[name].string_value = str(value)
        self._session("START", start)

    def log(self, epoch: int, values: Values) -> None:
        """Add the values as scalars at this step."""
        self._epoch = epoch
        self._add([{"tag": name, "simple_value": value} for name, value in values.items()])

    def end(self, status: str, summary: Values) -> None:
        """Add the scores as scalars; an ending from which nothing is resumed goes to the page HPARAMS as well."""
        from tensorboard.plugins.hparams import api_pb2
        from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo

        self._add([{"tag": name, "simple_value": value} for name, value in summary.items()])
        if status not in ("retry", "interrupted"):  # TensorBoard keeps the first ending that it reads
            how = api_pb2.STATUS_SUCCESS if status == "ok" else api_pb2.STATUS_FAILURE
            self._session("END", SessionEndInfo(status=how, end_time_secs=time.time()))
        self._writer.close()

    def _session(self, which: str, info: Any) -> None:
        """What the HPARAMS page shows of the run."""
        from tensorboard.compat.proto.summary_pb2 import SummaryMetadata
        from tensorboard.plugins.hparams import metadata
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        kind: dict[str, Any] = {f"session_{which.lower()}_info": info}
        content = HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **kind).SerializeToString()
        data = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=content)
        tag = getattr(metadata, f"SESSION_{which}_INFO_TAG")
        self._add([{"tag": tag, "metadata": SummaryMetadata(plugin_data=data)}])

    def _add(self, values: list[dict[str, Any]]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(**value) for value in values])
        self._writer.add_event(Event(step=self._epoch, wall_time=time.time(), summary=summary))
        self._writer.flush()


class WandbRun(TrackedRun):
    """A run in the Weights & Biases project of the suite's name; its own variables (``WANDB_MODE``, ...) hold.

    What it keeps on this machine lies in ``STORE/wandb/`` unless ``WANDB_DIR`` says otherwise. Of the machine and of
    what the command prints it is told nothing.
    """

    package = "wandb"

    def __init__(self, about: Description) -> None:
        import wandb

        quiet = wandb.Settings(
            console="off", silent=True, disable_code=True, disable_git=True,
            x_disable_stats=True, x_disable_meta=True, x_disable_machine_info=True,
        )  # fmt: skip
        about.store.mkdir(parents=True, exist_ok=True)
        self._run = wandb.init(
            project=about.suite, name=about.name, id=about.key, resume="allow", config=dict(about.config),
            dir=os.environ.get("WANDB_DIR", str(about.store)), reinit="create_new", settings=quiet,
        )  # fmt: skip

    def log(self, epoch: int, values: Values) -> None:
        """Log the values at this step, and the epoch beside them."""
        self._run.log({"epoch": epoch, **values}, step=epoch)

    def end(self, status: str, summary: Values) -> None:
        """Put scores and status into the summary and finish; what is not ok counts as failed."""
        self._run.summary.update({"status": status, **summary})
        self._run.finish(exit_code=0 if status == "ok" else 1)


class MlflowRun(TrackedRun):
    """A run in the MLflow experiment of the suite's name, on the server or in the file of ``MLFLOW_TRACKING_URI``.

    Without that variable it is ``STORE/mlflow.db``: ``mlflow ui --backend-store-uri sqlite:///STORE/mlflow.db``.
    """

    package = "mlflow"

    def __init__(self, about: Description) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        about.store.mkdir(parents=True, exist_ok=True)
        local = f"sqlite:///{about.store.absolute() / 'mlflow.db'}"
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", local))
        known = self._client.get_experiment_by_name(about.suite)
        experiment = known.experiment_id if known else self._client.create_experiment(about.suite)
        before = self._client.search_runs([experiment], f"tags.adm_run = '{about.key}'")
        if before:
            self._id = before[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            return
        tags = {"mlflow.runName": about.name, "adm_run": about.key}
        self._id = self._client.create_run(experiment, tags=tags).info.run_id
        params = [Param(_plain(name), str(value)[:500]) for name, value in _flat(about.config)]
        for first in range(0, len(params), 100):  # as many as a request may hold
            self._client.log_batch(self._id, params=params[first : first + 100])

    def log(self, epoch: int, values: Values) -> None:
        """Log the values as metrics at this step."""

        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._client.log_batch(self._id, [Metric(_plain(name), value, now, epoch) for name, value in values.items()])

    def end(self, status: str, summary: Values) -> None:
        """Log the scores as metrics and the status as a tag; what may be resumed is KILLED."""
        self._client.set_tag(self._id, "status", status)
        for name, value in summary.items():
            self._client.log_metric(self._id, _plain(name), value)
        how = {"ok": "FINISHED", "retry": "KILLED", "interrupted": "KILLED"}
        self._client.set_terminated(self._id, how.get(status, "FAILED"))


TRACKERS: Mapping[str, type[TrackedRun]] = {"tensorboard": TensorBoardRun, "wandb": WandbRun, "mlflow": MlflowRun}
"""What ``--tracker`` takes."""


def runs_of(name: str) -> type[TrackedRun]:
    """The runs of a tracker, by its name.

    Raises:
        AdmError: unknown name, or its package is not installed.
    """
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS, where="--tracker")
    found = TRACKERS[name]
    try:
        importlib.import_module(found.package)
    except ImportError as error:
        raise AdmError(
            f"--tracker {name}: the package '{found.package}' cannot be imported ({error}); "
            f"pip install 'adm-bench[{name}]'"
        ) from error
    return found


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings under dotted names; lists as JSON."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value) if isinstance(value, list | tuple) else value


def _plain(name: str) -> str:
    """A name of the characters that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", name)
