"""A queue of real Slurm jobs whose training is the short sum of ``suite_test_worker``.

Run as a module it is such a job, or, with ``run`` or ``status`` for its first word, ``adm`` with this queue.
"""

from __future__ import annotations

import sys

from drive import ShortTraining

import adm_bench
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
    if sys.argv[1] in ("run", "status"):
        adm_bench.main()
    sys.exit(main(executor=ShortTraining))
