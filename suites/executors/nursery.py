"""Workers that start fast: a process imports once what they need, and every worker is a fork of it.

The runner holds a :class:`Nursery`; the process behind it runs this very file as a module and answers one request
after the other over a socket. It has a single thread, for it forks, and it ends with its runner.

Why not multiprocessing's forkserver, which Python 3.11 to 3.13 was tried for:

- It reaps a worker at once, so that the number of the worker's group may belong to strangers before the runner ends
  what the worker left behind.
- It lives on until its last worker has ended, so that workers outlive a runner that is killed.
- There is one for the whole runner, with one list of modules: what one task imports would be in the memory of all.
- A module whose import fails with anything but ImportError ends it, and with it every start.
- Starting a worker waits for the imports and cannot be interrupted.
- A KeyboardInterrupt ends a worker with status 1, and every worker imports the runner's main module.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from adm_core.kernels import Kernels, settle
from suites.worker.parentage import end_by_kernel_with

_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE = 30.0
_PIECE = 65536
_DESCRIPTORS = 253  # as many as Linux passes in one message: a log and locks
_MODULE = "suites.executors.nursery"
_LOG = {"PYTHONIOENCODING": "utf-8:backslashreplace"}
"""What workers print goes into a file that is read as UTF-8, whatever this process's terminal takes."""
_READY = b'{"answer": 0}\n'


class Nursery:
    """A process that starts workers, each in a process group of its own, and tells how they ended.

    When the process ends, its workers end with it: all count as killed, and another nursery is needed. One that does
    not answer for half a minute counts as ended.

    Args:
        modules: what to import before the first fork; one that cannot be imported is left to the workers to report.
        environment: variables beside those of this process.
        log: where the process writes what it has to say, such as warnings while importing.
        kernels: that the libraries which it imports are to use.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(
        self, modules: Sequence[str], environment: Mapping[str, str], log: IO[bytes], kernels: Kernels = "portable"
    ) -> None:
        self._socket, theirs = socket.socketpair()
        self._ready = False
        command = [sys.executable, "-P", "-m", _MODULE, str(theirs.fileno()), str(os.getpid()), *modules]
        path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        own = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **_LOG, **environment}
        settle(own, kernels)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=own,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except Exception:
            self._socket.close()
            raise
        finally:
            theirs.close()

    @property
    def lost(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    @property
    def ready(self) -> bool:
        """Whether the process has imported what it is to, and starts workers at once.

        Raises:
            OSError: it has ended.
        """
        if not self._ready:
            self._socket.settimeout(0)
            try:
                self._socket.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                return False
            self._await_imports()
        return self._ready

    def start(
        self, worker: str, arguments: Sequence[str], variables: Mapping[str, str], log: IO[bytes], locks: Sequence[int]
    ) -> int:
        """Start a worker, once the process is ready, and return its process id.

        Args:
            worker: module that is run, as ``python -m`` would.
            arguments: its command line, to which ``--parent`` and the process without which it ends are added.
            variables: of the environment, beside those of the nursery.
            log: where it prints.
            locks: descriptors that it keeps open as long as it lives.

        Raises:
            OSError: it cannot be started, or the nursery is lost.
        """
        request = {"worker": worker, "arguments": list(arguments), "environment": dict(variables)}
        return self._ask({"start": request}, [log.fileno(), *locks])

    def has_ended(self, worker: int) -> bool:
        """Whether a worker has ended, leaving it unreaped: until then its group's number is not given to others."""
        try:
            return bool(self._ask({"has_ended": worker}))
        except ChildProcessError:
            return True

    def end(self, worker: int) -> int:
        """Kill what is left of a worker's group and return how the worker ended: exit status, or minus the signal.

        To be called once for each worker.
        """
        try:
            return self._ask({"end": worker})
        except ChildProcessError:
            # The kernel has ended the worker, but not what that has started.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(worker, signal.SIGKILL)
            return -signal.SIGKILL

    def close(self) -> None:
        """End the process, and with it the workers that are left."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _ask(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> int:
        if not self._ready:
            self._await_imports()
        message = json.dumps(request).encode() + b"\n"
        with contextlib.suppress(OSError):  # told by the missing answer
            sent = socket.send_fds(self._socket, [message], descriptors)
            self._socket.sendall(message[sent:])
        return self._answer()

    def _await_imports(self) -> None:
        self._socket.settimeout(None)
        self._answer()
        self._socket.settimeout(_PATIENCE)
        self._ready = True

    def _answer(self) -> int:
        answer = b""
        with contextlib.suppress(OSError):  # as told below
            answer, _ = _receive(self._socket)
        if not answer:
            self.close()
            raise ChildProcessError("the process that starts workers has ended")
        told = json.loads(answer)
        if "error" in told:
            raise OSError(told["error"])
        return int(told["answer"])


@dataclass(frozen=True)
class _Worker:
    """What a forked process is to become."""

    module: str
    arguments: list[str]

    def run(self) -> None:
        """Do what ``python -m`` does with the module; it ends the process as it would end such a one."""
        if sys.platform != "linux":  # macOS lets a process use little of its frameworks between fork and exec
            os.execv(sys.executable, [sys.executable, "-P", "-m", self.module, *self.arguments])
        sys.argv = [self.module, *self.arguments]
        code = 0
        try:
            runpy.run_module(self.module, run_name="__main__", alter_sys=True)
        except SystemExit as exit:
            if exit.code is not None and not isinstance(exit.code, int):
                print(exit.code, file=sys.stderr)
            code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
        except Exception:
            traceback.print_exc()
            code = 1
        # What is left is taking apart all that was imported, which takes seconds and matters to nobody.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve(connection: socket.socket) -> _Worker | None:
    """Say that the imports are done, then answer requests until the runner is gone.

    Returns in every forked process what that is to become.
    """
    connection.sendall(_READY)
    while True:
        message, descriptors = _receive(connection)
        if not message:
            return None
        (wanted, about), nursery = json.loads(message).popitem(), os.getpid()
        try:
            told: dict[str, Any] = {"answer": _REQUESTS[wanted](about)}
        except OSError as error:
            told = {"error": str(error)}
        if os.getpid() != nursery:
            return _begin(about, nursery, *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        connection.sendall(json.dumps(told).encode() + b"\n")


def _begin(request: dict[str, Any], nursery: int, log: int, *_locks: int) -> _Worker:
    """Settle in as a worker. The locks are left open, and so are held as long as this process lives."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.environ.update(request["environment"])
    return _Worker(request["worker"], [*request["arguments"], "--parent", str(nursery)])


def _fork(_request: dict[str, Any]) -> int:
    worker = os.fork()
    if worker:
        with contextlib.suppress(OSError):  # done by the worker as well: neither may rely on the other being first
            os.setpgid(worker, worker)
    return worker


def _has_ended(worker: int) -> bool:
    return os.waitid(os.P_PID, worker, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(worker: int) -> int:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: a group of zombies cannot be signalled
        os.killpg(worker, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])


_REQUESTS: dict[str, Callable[[Any], int]] = {"start": _fork, "has_ended": _has_ended, "end": _end}


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """One line and the descriptors that came with it; an empty one when the other side is gone."""
    message = b""
    descriptors: list[int] = []
    while not message.endswith(b"\n"):
        piece, received, _, _ = socket.recv_fds(connection, _PIECE, _DESCRIPTORS)
        if not piece:
            return b"", descriptors
        message += piece
        descriptors += received
    return message, descriptors


def main() -> _Worker | None:
    """Import what is asked for, then start workers until the runner is gone."""
    parser = argparse.ArgumentParser(prog="suites.executors.nursery", description="Start workers for a runner.")
    parser.add_argument("socket", type=int, help="descriptor over which requests come")
    parser.add_argument("parent", type=int, help="process without which this one ends")
    parser.add_argument("modules", nargs="*", help="what to import for the workers")
    given = parser.parse_args()
    end_by_kernel_with(given.parent)
    # A cluster asks all processes of a job to end; this one ends with its runner.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with socket.socket(fileno=given.socket) as connection:
        for module in given.modules:
            with contextlib.suppress(Exception):  # the worker imports it again, and tells what is wrong in its outcome
                importlib.import_module(module)
        gc.freeze()  # or the collector of every worker goes through all that was imported, and copies its memory
        return serve(connection)


if __name__ == "__main__":
    if (_forked := main()) is not None:
        _forked.run()
