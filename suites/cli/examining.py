"""``adm doctor --cluster``; and its jobs, ``python -m suites.cli.examining FOLDER SECONDS [ROOT ...] NUMBER``.

Two jobs run at once, and the command waits for both. Each says what its node has. Locks are tried in both ways in which
they must hold: one that the submitting machine holds, and one that the first job holds while the second tries it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suites.cli.console import say
from suites.look.machine import found_here

if TYPE_CHECKING:
    from suites.executors.base import Queue

_OURS, _FIRSTS = "submitter", "first-job"
"""The locks that the submitting machine and the first job hold."""
_JOBS = 2


def examine(queue: Queue, store: Path, roots: list[Path], seconds: float, as_json: bool) -> int:
    """Submit the jobs, wait for what they find, and tell it.

    Args:
        queue: of the cluster.
        store: on whose file system locks are tried.
        roots: folders with data sets.
        seconds: how long to wait for the jobs; what has not begun by then is cancelled.
        as_json: print JSON.

    Returns:
        The exit status: 0 fit to run, 1 something is amiss.

    Raises:
        AdmError: the queue refuses, or the file system has no locks.
    """
    from suites.run.submission import JOBS
    from suites.work.locks import acquire

    folder = store.absolute() / JOBS / f"doctor-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    lock, until = acquire(folder, _OURS), time.monotonic() + seconds
    command = ["-m", "suites.cli.examining", str(folder), str(seconds), *map(str, roots)]
    ids = queue.submit(f"adm-{folder.name}", command, _JOBS, str(folder / "{}.log"))
    say(f"waiting for jobs {' and '.join(ids)}, {seconds:.0f} s at most", err=True)
    try:
        while len(_answers(folder)) < _JOBS and time.monotonic() < until:
            time.sleep(0.2)
    finally:
        answers = _answers(folder)
        if len(answers) < _JOBS:
            queue.cancel(ids)
        if lock:
            lock.release()
    found: dict[str, Any] = {"here": found_here(roots), "nodes": answers}
    found["problems"] = _problems(found, ids, folder)
    if len(answers) == _JOBS:
        shutil.rmtree(folder, ignore_errors=True)
    _show(found, as_json)
    return int(bool(found["problems"]))


def _problems(found: dict[str, Any], ids: list[str], folder: Path) -> list[str]:
    """What is amiss, in the order in which it is to be mended."""
    here, nodes = found["here"], found["nodes"]
    problems = []
    for number, id in enumerate(ids):
        if number not in nodes:
            log = folder / f"{number}.log"
            printed = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
            why = printed[-1] if printed else "it did not begin in time, or its node does not have this folder"
            problems.append(f"job {id} gave no answer: {why}; nodes must have {folder.parent} and {sys.executable}")
    for node in nodes.values():
        name = node["node"]
        problems += [f"{name}: {problem}" for problem in node["problems"]]
        for package, version in here["packages"].items():
            if node["packages"].get(package) != version:
                problems.append(f"{name}: {package} is {node['packages'].get(package)}, here it is {version}")
        missing = {row["name"] for row in here["data"] if row["found"]} - {
            row["name"] for row in node["data"] if row["found"]
        }
        problems += [f"{name}: data set {data} is not there, though it is here" for data in sorted(missing)]
        if not node["locks_of_submitter"]:
            problems.append(f"{name}: a lock that this machine holds is free there; {_WITHOUT_LOCKS}")
        if node.get("locks_of_first_job") is False:
            problems.append(f"{name}: a lock that another node holds is free there; {_WITHOUT_LOCKS}")
    return problems


_WITHOUT_LOCKS = (
    "mount the store with locks (NFS 4, Lustre with -o flock), or submit from one machine alone, and train nothing in "
    "this store by hand meanwhile"
)


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        say(json.dumps(found, indent=1))
        return
    nodes = list(found["nodes"].values())
    for node in nodes:
        devices = node["devices"]
        say(
            f"{node['node']}: python {node['python']}, {devices['cores']} CPU cores, torch sees {devices['torch_sees']}"
        )
    names = {node["node"] for node in nodes}
    if any(node.get("locks_of_first_job", True) is None for node in nodes):
        say("the two jobs did not run at once: locks between nodes were not tried")
    elif len(nodes) == _JOBS and len(names) == 1:
        say(f"both jobs ran on {names.pop()}: locks between nodes were not tried; --slurm '--exclusive' parts them")
    for problem in found["problems"]:
        say(f"problem  {problem}")
    if not found["problems"]:
        say("fit to run; try: adm run smoke --executor slurm")


def _answers(folder: Path) -> dict[int, dict[str, Any]]:
    """What the jobs have written so far, by their numbers."""
    files = [(number, folder / f"{number}.json") for number in range(_JOBS)]
    return {number: json.loads(file.read_text()) for number, file in files if file.is_file()}


def main(arguments: list[str] | None = None) -> int:
    """Write what this node has; exit status 0.

    Args:
        arguments: command line; default: the process's own.
    """
    from suites.work.locks import acquire, is_held

    parser = argparse.ArgumentParser(prog="suites.cli.examining", description="Say what a node of a cluster has.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("seconds", type=float, help="how long to wait for the other job")
    parser.add_argument("roots", type=Path, nargs="*")
    parser.add_argument("number", type=int)
    given = parser.parse_args(arguments)
    folder = given.folder
    answer: dict[str, bool | None] = {"locks_of_submitter": is_held(folder, _OURS)}
    if given.number == 0:
        lock = acquire(folder, _FIRSTS)
        (folder / "held").touch()
    else:
        _await(folder / "held", given.seconds)
        found = is_held(folder, _FIRSTS)
        # Where the first job has not begun, or waits no longer, nothing was tried.
        answer["locks_of_first_job"] = found if (folder / "held").exists() else None
        (folder / "tried").touch()
    _write(
        folder / f"{given.number}.json",
        {"node": os.environ.get("SLURMD_NODENAME", platform.node())} | answer | found_here(given.roots),
    )
    if given.number == 0:
        _await(folder / "tried", given.seconds)
        (folder / "held").unlink(missing_ok=True)
        if lock:
            lock.release()
    return 0


def _await(file: Path, seconds: float) -> None:
    """Wait for a file of the other job, no longer than its submitter does."""
    until = time.monotonic() + seconds
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.1)


def _write(file: Path, content: dict[str, Any]) -> None:
    from adm_files import replacing

    with replacing(file) as new:
        new.write_text(json.dumps(content))


if __name__ == "__main__":
    sys.exit(main())
