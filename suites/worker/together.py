"""A cell trained by several processes: the worker, and helpers that run the same module on the same work folder.

The worker is the first of them: it keeps checkpoints, scores and concludes. A helper that fails writes the outcome that
says why, and the worker leaves it; one that is killed takes the worker with it in the same way.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from adm_core.errors import Parted
from suites.work.folder import Assignment, WorkFolder

Report = Callable[[dict[str, Any]], None]
_GRACE_SECONDS = 10.0
"""How long a process may take to notice that another has ended: on a GPU it may wait for it inside a kernel."""
_POLL_SECONDS = 0.2


def train(assignment: Assignment, folder: WorkFolder, report: Report, rank: int, meeting: str | None) -> dict[str, Any]:
    """Train a cell as one of the processes that do so together.

    Args:
        assignment: the cell, and by how many processes it is trained.
        folder: its work folder.
        report: called with the progress after each epoch, by the first process.
        rank: of this process; the first starts the others.
        meeting: the file at which the first one has told the others to meet.

    Returns:
        What :func:`suites.worker.training.train_cell` does.

    Raises:
        Parted: another process has ended; an outcome tells why, if it could write one.
    """
    if meeting is not None:
        return _take_part(assignment, folder, rank, meeting, lambda _: None)
    with _helpers(folder, assignment.options.gpus_per_cell) as place:
        return _take_part(assignment, folder, 0, place, report)


def _take_part(assignment: Assignment, folder: WorkFolder, rank: int, meeting: str, report: Report) -> dict[str, Any]:
    from adm_core.ranks import join
    from suites.worker.training import train_cell

    count = assignment.options.gpus_per_cell
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all are on this machine
    cell, protocol, options = assignment.cell, assignment.protocol, assignment.options
    return train_cell(cell, protocol, folder.path, options, report, lambda device: join(meeting, rank, count, device))


@contextmanager
def _helpers(folder: WorkFolder, count: int) -> Iterator[str]:
    """The other processes, while they train; gives the file at which all meet. None of them is left at the end."""
    with tempfile.TemporaryDirectory() as place:
        meeting, done = str(Path(place) / "meeting"), threading.Event()
        helpers = [_start(folder, rank, meeting) for rank in range(1, count)]
        threading.Thread(target=_watch, args=(helpers, done), name="helper-watch", daemon=True).start()
        try:
            yield meeting
        except Parted:
            _end_like(_failed(helpers, _GRACE_SECONDS), folder)
            raise
        finally:
            done.set()
            for helper in helpers:
                helper.kill()
                helper.wait()


def _start(folder: WorkFolder, rank: int, meeting: str) -> subprocess.Popen[bytes]:
    """Start a helper on the GPU of its number, of those that this process sees."""
    own = dict(os.environ)
    if visible := own.get("CUDA_VISIBLE_DEVICES"):
        own["CUDA_VISIBLE_DEVICES"] = visible.split(",")[rank]
    told = ["--parent", str(os.getpid()), "--rank", str(rank), "--meeting", meeting, str(folder.path)]
    return subprocess.Popen([sys.executable, "-P", "-m", "suites.worker", *told], env=own, stdin=subprocess.DEVNULL)


def _failed(helpers: list[subprocess.Popen[bytes]], patience: float) -> int:
    """How the first helper that did not end in order ended, as soon as there is one; 0: all did, or none has ended."""
    until = time.monotonic() + patience
    while True:
        ended = [helper.poll() for helper in helpers]
        if failed := [code for code in ended if code]:
            return failed[0]
        if None not in ended or time.monotonic() > until:
            return 0
        time.sleep(_POLL_SECONDS)


def _watch(helpers: list[subprocess.Popen[bytes]], done: threading.Event) -> None:
    """End this process where a helper has failed and it does not notice, as it waits for the helper on a GPU."""
    while not done.wait(_POLL_SECONDS):
        if _failed(helpers, 0) and not done.wait(2 * _GRACE_SECONDS):
            os._exit(1)


def _end_like(code: int, folder: WorkFolder) -> None:
    """Where a helper was killed, end in the same way, so that whoever watches this process judges it by that."""
    if code < 0 and folder.outcome() is None:
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
