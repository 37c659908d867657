"""A real Slurm of several nodes on this machine: its own daemons as root, without systemd, on the loopback interface.

By hand: ``python -m tests.slurm.cluster FOLDER`` starts one, prints how to reach it, and ends it on Ctrl-C. What it
needs on Debian: ``apt-get install --no-install-recommends slurmctld slurmd slurm-client munge``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.processes import descendants, wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo")
_CONFIG = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
# A job that is started again waits as long as its credential is valid.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=1000,sched_interval=1,bf_interval=1,batch_sched_delay=0,default_queue_depth=1000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
ReturnToService=2
MaxArraySize={largest}
KillWait=2
CompleteWait=0
SlurmdTimeout=10
NodeName=DEFAULT CPUs={cpus} RealMemory=4000 State=UNKNOWN
{nodes}
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def why_not() -> str:
    """Why no cluster can be started here; empty where one can."""
    missing = [program for program in PROGRAMS if not _program(program)]
    if missing:
        return f"no {missing[0]}: apt-get install --no-install-recommends slurmctld slurmd slurm-client munge"
    return "" if os.geteuid() == 0 else "Slurm's daemons are started by root alone"


class Cluster:
    """A cluster, started when it is made.

    Args:
        folder: where everything lies that it writes; its path is short, as sockets lie in it.
        nodes: how many, called ``n1``, ``n2``, ...
        cpus: of each.
        largest: MaxArraySize.
    """

    def __init__(self, folder: Path, nodes: int = 2, cpus: int = 2, largest: int = 5) -> None:
        self.folder = folder
        self.nodes = [f"n{i}" for i in range(1, nodes + 1)]
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        (folder / "state").mkdir()
        (folder / "munge").mkdir(mode=0o700)
        key = folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        port, *ports = _free_ports(1 + nodes)
        host = socket.gethostname().partition(".")[0]
        lines = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={own}"
            for node, own in zip(self.nodes, ports, strict=True)
        ]
        (folder / "slurm.conf").write_text(
            _CONFIG.format(host=host, port=port, folder=folder, largest=largest, cpus=cpus, nodes="\n".join(lines))
        )
        self._start("munged", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket",
                    f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munge/log",
                    f"--seed-file={folder}/munge/seed", "--num-threads=2")  # fmt: skip
        self._start("slurmctld", "-c")
        for node in self.nodes:
            self.power_on(node)
        wait_for(lambda: self.command("sinfo", "-h", "-N", "-p", "low", "-o", "%T").split().count("idle") == nodes)

    def command(self, *words: str) -> str:
        """What one of Slurm's commands prints."""
        done = subprocess.run(words, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def power_on(self, node: str) -> None:
        """Start a node's daemon."""
        self._start("slurmd", "-N", node)

    def cut_power(self, node: str) -> None:
        """End a node's daemon and all that runs on it, at once, and have the controller notice."""
        self._kill(node)
        self.command("scontrol", "update", f"nodename={node}", "state=down", "reason=no-power")

    def down(self) -> None:
        """End everything."""
        for node in self.nodes:
            self._kill(node)
        for name in ("slurmctld", "munged"):
            _end([int((self.folder / f"{name}.pid").read_text())])

    def _start(self, program: str, *arguments: str) -> None:
        command = [_program(program), *arguments]
        with (self.folder / "daemons.log").open("ab") as log:
            subprocess.run(
                command, env={**os.environ, **self.environment}, stdout=log, stderr=log, check=True, timeout=60
            )

    def _kill(self, node: str) -> None:
        log = str(self.folder / f"slurmd.{node}.log")
        keepers = subprocess.run(["pgrep", "-x", "slurmstepd"], capture_output=True, text=True).stdout.split()
        ours = [pid for pid in map(int, keepers) if log in _open_files(pid)]
        file = self.folder / f"slurmd.{node}.pid"
        daemon = [int(file.read_text())] if file.exists() else []
        _end([*daemon, *ours, *(child for keeper in ours for child in descendants(keeper))])


def _program(name: str) -> str:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") or ""


def _open_files(pid: int) -> set[str]:
    """Those of a process, among which is the log of its node."""
    found = set()
    with contextlib.suppress(OSError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            found.add(os.readlink(link))
    return found


def _end(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


if __name__ == "__main__":
    place = Path(sys.argv[1]).absolute()
    place.mkdir(parents=True)
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell has what it starts in the background ignore the first
        signal.signal(number, signal.default_int_handler)
    made = Cluster(place)
    print(f"export SLURM_CONF={place}/slurm.conf", flush=True)
    try:
        time.sleep(1e9)
    except KeyboardInterrupt:
        made.down()
