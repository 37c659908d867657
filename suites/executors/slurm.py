"""Jobs of a Slurm cluster, through Slurm's own commands: plain arrays, submitted and left."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from adm_core.errors import AdmError
from suites.executors.base import Queue, QueuedJob
from suites.executors.registry import register

_ROOT = Path(__file__).resolve().parents[2]
_OURS = ("array", "dependency", "error", "job-name", "output", "parsable", "wrap", "a", "d", "e", "J", "o", "W", "wait")
"""Options of sbatch that say which jobs there are, and are not the user's to give."""
_ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"}
)
_SCRIPT = """#!/bin/bash
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR2@60
{header}
# Python heeds the signal as soon as it can; until then it must not end the job.
trap '' USR2
export PYTHONPATH={root}${{PYTHONPATH:+:$PYTHONPATH}} PYTHONUNBUFFERED=1
# In place of this shell, to which alone Slurm sends the signal.
exec {command} "$SLURM_ARRAY_TASK_ID"
"""
_SINCE = "now-90days"
"""How far back accounts are read."""
_SECONDS = 120.0
"""How long one of Slurm's commands may take."""


@register
class Slurm(Queue):
    """The cluster that ``sbatch`` on this machine submits to.

    Args:
        options: for ``sbatch``, such as ``--partition=gpu``.
        header: lines for the head of the batch script, ``#SBATCH`` lines and commands of the shell.
    """

    name = "slurm"
    about = "jobs of a Slurm cluster, submitted and left"

    def __init__(self, options: Sequence[str] = (), header: str = "") -> None:
        self._options, self._header = list(options), header

    @classmethod
    def from_options(cls, options: str | None) -> Self:
        """The cluster of this machine.

        Args:
            options: of ``sbatch``, beginning with ``-``; or the path of a file for the head of the batch script.

        Raises:
            AdmError: there is no ``sbatch``, no such file, or an option that is not the user's to give.
        """
        if shutil.which("sbatch") is None:
            raise AdmError(f"--executor {cls.name}: no 'sbatch' on the path; run this on a login node of the cluster")
        given = (options or "").strip()
        if given and not given.startswith("-"):
            try:
                return cls(header=_checked(Path(given).expanduser().read_text(encoding="utf-8"), given))
            except OSError as error:
                told = f"--slurm {given}: {error.strerror}; give options of sbatch, '--partition=gpu', or a file"
                raise AdmError(f"{told} with #SBATCH lines") from error
        words = shlex.split(given)
        _refuse_ours(words, f"--slurm '{given}'")
        return cls(words)

    def largest(self) -> int:
        """What the cluster's ``MaxArraySize`` allows; numbers of an array stay below it."""
        for line in _run(["scontrol", "show", "config"]).splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "MaxArraySize" and value.strip().isdigit():
                return max(int(value), 1)
        return 1001

    def submit(self, name: str, command: Sequence[str], count: int, log: str, after: str | None = None) -> list[str]:
        """Submit one array."""
        script = _SCRIPT.format(
            header=self._header, root=shlex.quote(str(_ROOT)), command=shlex.join([sys.executable, "-P", *command])
        )
        ours = [
            f"--job-name={name}",
            f"--array=0-{count - 1}",
            f"--output={log.replace('%', '%%').replace('{}', '%a')}",
        ]
        ours += [f"--dependency=afterany:{after}"] if after else []
        told = _run(["sbatch", *self._options, "--parsable", *ours], script)
        # Behind the number stands the name of the cluster, where there are several.
        array = told.strip().splitlines()[-1].partition(";")[0]
        return [f"{array}_{number}" for number in range(count)]

    def jobs(self) -> Mapping[tuple[str, int], QueuedJob]:
        """As ``squeue`` tells them."""
        form = "--format=%j|%K|%i|%T|%N|%r"
        return _parsed(_run(["squeue", "--me", "--noheader", "--array", "--states=all", form]))

    def recall(self, name: str) -> Mapping[tuple[str, int], QueuedJob]:
        """As ``sacct`` tells them, on sites that keep accounts."""
        if shutil.which("sacct") is None:
            return {}
        command = ["sacct", "--allocations", "--noheader", "--parsable2", f"--name={name}", f"--starttime={_SINCE}"]
        try:
            told = _run([*command, "--format=JobName,JobID,State,NodeList"])
        except AdmError:
            return {}
        lines = [line.replace("None assigned", "").split("|") for line in told.splitlines()]
        # A state may say by whom, as CANCELLED by 0; accounts may say RUNNING of a job whose end they missed.
        told = "\n".join(f"{job}|{id.rpartition('_')[2]}|{id}|{state.split()[0]}|{at}|" for job, id, state, at in lines)
        return {key: job for key, job in _parsed(told).items() if job.ended}

    def cancel(self, ids: Iterable[str]) -> None:
        """With ``scancel``, a few hundred at once."""
        given = list(ids)
        for first in range(0, len(given), 200):
            _run(["scancel", "--", *given[first : first + 200]])

    def requeue(self) -> None:
        """With ``scontrol``, which ends this job."""
        array, number = os.environ["SLURM_ARRAY_JOB_ID"], os.environ["SLURM_ARRAY_TASK_ID"]
        _run(["scontrol", "requeue", f"{array}_{number}"])


def _parsed(told: str) -> dict[tuple[str, int], QueuedJob]:
    """The lines of ``squeue``, those of jobs that stand alone left out."""
    found: dict[tuple[str, int], QueuedJob] = {}
    for line in told.splitlines():
        name, number, id, state, node, reason = line.rsplit("|", 5)
        if number.isdigit():
            reason = "" if reason in ("None", "") else reason
            found[name, int(number)] = QueuedJob(id, state, state in _ENDED, state == "CANCELLED", node, reason)
    return found


def _checked(header: str, file: str) -> str:
    for line in header.splitlines():
        if line.startswith("#SBATCH"):
            _refuse_ours(shlex.split(line.removeprefix("#SBATCH"), comments=True), file)
    return header


def _refuse_ours(words: Sequence[str], where: str) -> None:
    for word in words:
        name = word.partition("=")[0]
        if name.startswith("-") and name.lstrip("-") in _OURS:
            raise AdmError(f"{where}: {name} is set by adm itself; leave it out")


def _run(command: Sequence[str], given: str | None = None) -> str:
    """What one of Slurm's commands prints.

    Raises:
        AdmError: it fails, or takes too long.
    """
    try:
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=_SECONDS)
    except OSError as error:
        raise AdmError(f"{command[0]}: cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise AdmError(f"{command[0]}: no answer in {_SECONDS:.0f} s; try again later") from error
    if done.returncode:
        told = " ".join((done.stderr or done.stdout).split())
        raise AdmError(f"{command[0]}: {told or f'exit status {done.returncode}'}")
    return done.stdout
