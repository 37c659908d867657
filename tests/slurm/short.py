"""A queue of real Slurm jobs whose training is the short sum of ``suite_test_worker``; run as a module, such a job."""

from __future__ import annotations

import fcntl
import os
import sys

from drive import ShortTraining

from suites.executors.registry import register
from suites.executors.slurm import Slurm
from suites.run.job import main


class ShortSlurm(Slurm):
    """Slurm, which may be looked at often, and whose jobs run this module."""

    name = "slurm-short"
    about = "for tests"
    module = "tests.slurm.short"
    patience = 0.5


if __name__ == "__main__":
    register(ShortSlurm)
    if os.environ.get("SLURMD_NODENAME") == os.environ.get("TESTS_NODE_WITHOUT_LOCKS", "none"):
        fcntl.flock = lambda *_: None
    sys.exit(main(executor=ShortTraining))
