"""Options that several commands share, and how their values reach the rest."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Device(StrEnum):
    """Where cells are trained."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Again(StrEnum):
    """How cells may have ended that are tried again."""

    diverged = "diverged"
    oom = "oom"
    timeout = "timeout"
    error = "error"
    skipped = "skipped"


SuiteName = Annotated[str, typer.Argument(help="Name of a suite (adm list suites), or path of a YAML file.")]
StoreFolder = Annotated[Path, typer.Option("--store", help="Folder of records and work files.")]
MethodFiles = Annotated[
    list[Path] | None, typer.Option("--method-file", help="Python file with a method of your own; repeatable.")
]
DataRoots = Annotated[
    list[Path] | None,
    typer.Option("--data-root", help="Folder with data sets, looked at before ADM_DATA; repeatable."),
]
Trusted = Annotated[
    list[Path] | None,
    typer.Option(
        "--trust",
        metavar="FILE",
        help="Checkpoint of a teacher that holds more than weights: loading it executes the code in it, with your "
        "rights. Only for files whose source you trust; repeatable.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Cells at once; default: one per GPU, or one per CPU core.")
]
PerGpu = Annotated[
    int | None,
    typer.Option("--per-gpu", min=1, help="Cells at once on each GPU, which share its memory equally; default: 1."),
]
GpusPerCell = Annotated[
    int,
    typer.Option(
        "--gpus-per-cell",
        min=1,
        help="GPUs that train one cell together, or cores where there are none; recipe.accumulate is a multiple of it.",
    ),
]
GroupSize = Annotated[
    int | None,
    typer.Option(
        "--group",
        min=1,
        max=64,
        help="Offline cells that one worker trains together on one frozen teacher, at most; 1: every cell alone. "
        "Default: as many as fit into memory.",
    ),
]
DeviceChoice = Annotated[Device, typer.Option("--device", help="auto takes GPUs where there are any.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="KEY=PATTERN",
        help="Cells of tables alone that match, and the teachers that these lack: method='kd*', seed=0, label, block, "
        "benchmark, task, regime, teacher, student, or the first digits of an id. Repeated: one pattern of each key.",
    ),
]
Retry = Annotated[
    list[Again] | None,
    typer.Option("--retry", help="Endings after which cells are tried again; all but skipped by default; repeatable."),
]
CellsPerJob = Annotated[
    int | None,
    typer.Option(
        "--cells-per-job",
        min=1,
        help="On a cluster: cells that one job trains, one after the other; default: one, or as many as --group says.",
    ),
]
SlurmOptions = Annotated[
    str | None,
    typer.Option(
        "--slurm",
        metavar="OPTIONS",
        help="On Slurm: what jobs ask for, '--partition=gpu --gres=gpu:1 --time=04:00:00', or a file with #SBATCH "
        "lines and what the shell is to do before.",
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Train anew what other code than the present has trained.")]

DEFAULT_STORE = Path("runs")


def group_size(group: int | None, gpus_per_cell: int) -> int | None:
    """How many cells a worker may train together, as asked for; one where it is itself one of several.

    Raises:
        AdmError: both are asked for.
    """
    if gpus_per_cell == 1:
        return group
    if group not in (None, 1):
        from adm_core.errors import AdmError

        raise AdmError(f"--group {group} and --gpus-per-cell {gpus_per_cell}: give one of them")
    return 1


def absolute(paths: Iterable[Path] | None) -> tuple[Path, ...]:
    """Paths that mean the same in a worker's folder."""
    return tuple(path.expanduser().absolute() for path in paths or ())
