"""A real Ray cluster on this machine: a head without CPUs and several nodes, on the loopback interface.

By hand: ``python -m tests.ray.cluster FOLDER`` starts one, prints how to reach it, and ends it on Ctrl-C.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.processes import descendants

_HEAD = "127.0.0.101"
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_prestart_worker_first_driver": "0",
    # A node that has gone is noticed in seconds.
    "RAY_health_check_period_ms": "1000",
}


def why_not() -> str:
    """Why no cluster can be started here; empty where one can."""
    return "" if importlib.util.find_spec("ray.scripts") else "no package ray: pip install 'adm-bench[ray]'"


class Cluster:
    """A cluster, started when it is made.

    Args:
        folder: where everything lies that it writes; its path is short, as sockets lie in it.
        nodes: how many, called ``n1``, ``n2``, ...; the head, to which drivers are connected, is another.
        cpus: of each node, which Ray is told to have a GPU as well.
    """

    def __init__(self, folder: Path, nodes: int = 2, cpus: int = 1) -> None:
        self.folder, self._cpus = folder, cpus
        self.nodes = {f"n{i}": f"127.0.0.{101 + i}" for i in range(1, nodes + 1)}
        # Not 127.0.0.1, in whose place Ray puts the address that others see.
        self.address = f"{_HEAD}:{_free_port()}"
        own = ("--include-dashboard=false", f"--temp-dir={folder}", "--num-cpus=0", "--num-gpus=0")
        try:
            self._start(_HEAD, "--head", f"--port={self.address.partition(':')[2]}", *own)
            for node in self.nodes:
                self.power_on(node)
        except BaseException:
            self.down()
            raise

    def power_on(self, node: str) -> None:
        """Start a node's daemon."""
        self._start(self.nodes[node], f"--address={self.address}", f"--num-cpus={self._cpus}", "--num-gpus=1")

    def node_of(self, process: int) -> str:
        """The node on which a process runs."""
        return next(node for node, address in self.nodes.items() if process in self._processes(address))

    def cut_power(self, node: str) -> None:
        """End a node's daemon and all that runs on it, at once."""
        _end(self._processes(self.nodes[node]))

    def down(self) -> None:
        """End everything."""
        _end(self._processes(""))

    def _start(self, address: str, *arguments: str) -> None:
        own = (f"--node-ip-address={address}", "--object-store-memory=80000000", "--include-log-monitor=false")
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *own, *arguments]
        environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | _ENVIRONMENT
        # Into a file, as daemons hold it open.
        with (self.folder / "started.log").open("ab") as log:
            codes = (subprocess.run(command, env=environment, stdout=log, stderr=log).returncode for _ in range(3))
            # Ray allows a node half a minute, which a busy machine may exceed.
            assert 0 in codes, (self.folder / "started.log").read_text()

    def _processes(self, address: str) -> list[int]:
        """The daemons of an address, and what they started."""
        words = {f"{self.folder}/session_", address}
        ours = [pid for pid, told in _commands().items() if all(word in told for word in words)]
        return [pid for daemon in ours for pid in (daemon, *descendants(daemon))]


def _commands() -> Mapping[int, str]:
    """The command line of every process."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
    return {pid: told for pid, told in found.items() if pid != os.getpid()}


def _end(processes: list[int]) -> None:
    # First the daemons, which would otherwise notice.
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HEAD, 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    place = Path(sys.argv[1]).absolute()
    place.mkdir(parents=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell has what it starts in the background ignore the first
        signal.signal(number, signal.default_int_handler)
    made = Cluster(place)
    print(f"export RAY_ADDRESS={made.address}", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        made.down()
