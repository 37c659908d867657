"""Faults: what is done to running runners, and to the store between two runs."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

from tests.faults.steps import Fault
from tests.processes import alive, descendants, wait_for

Runner = Popen[bytes]


def workers(runner: Runner) -> list[int]:
    """The workers of a runner: what its nurseries have forked."""
    below = descendants(runner.pid)
    return [pid for nursery in below for pid in below if nursery == _parent(pid)]


def _one_worker(runner: Runner, dice: random.Random) -> list[int]:
    found = workers(runner)
    return dice.sample(found, min(1, len(found)))


def _nurseries(runner: Runner, _: random.Random) -> list[int]:
    return [pid for pid in descendants(runner.pid) if _parent(pid) == runner.pid]


_Choice = Callable[[Runner, random.Random], list[int]]
KILLS: dict[str, tuple[int, signal.Signals, _Choice]] = {
    "SIGKILL to one worker": (14, signal.SIGKILL, _one_worker),
    "SIGKILL to all workers": (5, signal.SIGKILL, lambda runner, _: workers(runner)),
    "SIGKILL to the workers' parent": (1, signal.SIGKILL, _nurseries),
    "SIGKILL to the runner": (2, signal.SIGKILL, lambda runner, _: [runner.pid]),
    "SIGKILL to runner and workers": (1, signal.SIGKILL, lambda runner, _: [runner.pid, *descendants(runner.pid)]),
    "SIGTERM to the runner": (1, signal.SIGTERM, lambda runner, _: [runner.pid]),
    "SIGTERM to runner and workers": (1, signal.SIGTERM, lambda runner, _: [runner.pid, *descendants(runner.pid)]),
}
"""By name: how often beside the others (runs that must begin again take most time), the signal, and to whom it goes."""
_EARLY = "SIGKILL to the runner"


def strike(runner: Runner, dice: random.Random) -> Fault | None:
    """End something of a run and wait until that and all below it are gone; None: it had ended before."""
    begun = bool(workers(runner))
    kind = dice.choices(list(KILLS), [often for often, _, _ in KILLS.values()])[0] if begun else _EARLY
    _, number, choose = KILLS[kind]
    victims = choose(runner, dice) if runner.poll() is None else []
    if not victims:
        return None
    gone = {*victims, *(pid for victim in victims for pid in descendants(victim))}
    for victim in victims:
        _send(victim, number)
    wait_for(lambda: not any(map(alive, gone)), seconds=60.0)
    return Fault(kind, time.monotonic())


def suspend(runner: Runner, dice: random.Random) -> Fault:
    """Stop a runner and all below it for a while, as a closed lid does."""
    processes = [runner.pid, *descendants(runner.pid)]
    for process in processes:
        _send(process, signal.SIGSTOP)
    time.sleep(dice.uniform(0.2, 1.0))
    for process in processes:
        _send(process, signal.SIGCONT)
    return Fault("suspended for up to a second", time.monotonic(), ends=False)


def tear(store: Path, dice: random.Random) -> Fault | None:
    """Cut a random file of a store at a random place, or write nonsense into it; None: there is none."""
    kinds = [kind for kind in _FILES if any(_found(store, kind))]
    if not kinds:
        return None
    kind = dice.choice(kinds)
    file = dice.choice(list(_found(store, kind)))
    content = file.read_bytes()
    place = dice.randrange(len(content) + 1)
    nonsense = dice.randbytes(32)
    file.write_bytes(content[:place] + (nonsense + content[place + len(nonsense) :] if dice.random() < 0.5 else b""))
    cell = file.stem if kind == "record" else None if kind == "manifest" else file.parent.name
    return Fault(f"torn: {kind}", time.monotonic(), ends=False, cell=cell, file=kind)


def litter(store: Path, dice: random.Random) -> Fault | None:
    """Leave half-written files beside a random one, as a kill in the middle of a write does."""
    files = [file for kind in _FILES for file in _found(store, kind)]
    if not files:
        return None
    file = dice.choice(files)
    file.with_name(f".{file.name}.{dice.randbytes(4).hex()}.tmp").write_bytes(file.read_bytes()[:100])
    return Fault("half-written file left", time.monotonic(), ends=False)


_FILES = {
    "checkpoint.pt": "work/*/checkpoint.pt",
    "progress.json": "work/*/progress.json",
    "outcome.json": "work/*/outcome.json",
    "cell.json": "work/*/cell.json",
    "record": "records/*.json",
    "manifest": "suites/*.json",
}


def _found(store: Path, kind: str) -> Iterator[Path]:
    return (file for file in sorted(store.glob(_FILES[kind])) if not file.name.startswith("."))


def _parent(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def _send(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)
