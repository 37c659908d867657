"""A worker whose training is a short sum, with the accidents that the tests ask for; run as a module.

``behaviour.json`` in the store maps ``method/seed`` to an accident; ``starts.txt`` gets a line per training begun,
``workers.txt`` the process that does it, and ``epochs.txt`` one per epoch trained. The cells of a group are trained one
after the other.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adm_core.errors import AdmError, Diverged, Stopped, Unsupported
from adm_core.recipe import Protocol
from results.records.schema import Cell
from suites.work.options import RunOptions
from suites.worker.entry import main
from suites.worker.stopping import asked, heed_requests

STEP_SECONDS = 0.01
HALFWAY = 5


def train(
    cell: Cell, protocol: Protocol, work: Path, options: RunOptions, report: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """A chain of hashes, one link per epoch, checkpointed after each; its end decides the score."""
    note(options.store / "starts.txt", cell.id)
    note(options.store / "workers.txt", f"{os.getpid()} {cell.id}")
    accident(behaviour(cell, options.store), work, options.store)
    checkpoint, state, done = work / "checkpoint.pt", cell.id, 0
    curve: list[float] = []
    if checkpoint.exists():
        done, state, curve = json.loads(checkpoint.read_text())
    for epoch in range(done, protocol.recipe.epochs):
        state = hashlib.sha256(state.encode()).hexdigest()
        time.sleep(STEP_SECONDS)
        if epoch == HALFWAY and behaviour(cell, options.store) == "slow-step":
            note(options.store / "halfway.txt", cell.id)
            time.sleep(100 * STEP_SECONDS)
        if epoch == HALFWAY and behaviour(cell, options.store) == "hold":
            note(options.store / "halfway.txt", cell.id)
            while not asked.wait(STEP_SECONDS) and behaviour(cell, options.store) == "hold":
                pass
        curve.append(score(state))
        whole = work / "checkpoint.tmp"
        whole.write_text(json.dumps([epoch + 1, state, curve]))
        whole.replace(checkpoint)
        note(options.store / "epochs.txt", f"{cell.id}-{epoch}")
        if asked.is_set():
            raise Stopped(f"stopped in epoch {epoch + 1}, with a checkpoint")
        if epoch == HALFWAY and behaviour(cell, options.store) == "sigkill-halfway" and done == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        told = {"epoch": epoch + 1, "epochs": protocol.recipe.epochs, "score": score(state)}
        report(told | {"curves": curves_of(curve)})
    if cell.regime == "alone":
        (work / "weights.safetensors").write_text(state)
    scores = {"student": {"top1": score(state)}} | ({"teacher": {"top1": 90.0}} if cell.teacher else {})
    return {
        "scores": scores,
        "curves": curves_of(curve),
        "primary": {"metric": "top1", "higher_is_better": True, "unit": "%", "selection": "last"},
        "cost": {"train_s": 0.5},
    }


def curves_of(curve: list[float]) -> dict[str, list[float]]:
    """The curves as a trainer notes them."""
    return {"epoch": [float(epoch) for epoch in range(1, len(curve) + 1)], "validation.student.top1": curve}


def score(state: str) -> float:
    """A percentage made of a hash."""
    return int(state[:6], 16) / 0xFFFFFF * 100


def note(file: Path, line: str) -> None:
    """Append a line; appends this short are not torn between processes."""
    with file.open("a") as handle:
        handle.write(line + "\n")


def behaviour(cell: Cell, store: Path) -> str:
    """The accident that the test wants for this cell."""
    file = store / "behaviour.json"
    wanted: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    name = "alone" if cell.regime == "alone" else cell.method_name
    return wanted.get(f"{name}/{cell.seed}", wanted.get(name, ""))


def accident(kind: str, work: Path, store: Path) -> None:
    """Let it happen."""
    if kind == "sigkill" or (kind == "sigkill-once" and not (work / "was-here").exists()):
        (work / "was-here").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "exit":
        print("last words")
        sys.stdout.flush()
        os._exit(7)
    if kind == "hang":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing to keep, and nobody waits for it
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        (store / "grandchild.txt").write_text(str(child.pid))
        time.sleep(600)
    if kind == "slow":
        time.sleep(1.5)
    raised: dict[str, Exception] = {
        "diverged": Diverged("loss of the student is not finite at step 3"),
        "unsupported": Unsupported("maps are too small"),
        "oom": MemoryError("cannot allocate 4 GiB"),
        "adm": AdmError("data set 'x' is missing; get it there"),
        "bug": ZeroDivisionError("division by zero"),
    }
    if kind in raised:
        raise raised[kind]


if __name__ == "__main__":
    heed_requests()
    sys.exit(main(train=train))
