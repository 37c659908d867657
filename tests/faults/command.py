"""``python -m tests.faults.command run SUITE ...``: ``adm`` with an executor more, ``noted``."""

from __future__ import annotations

import adm_bench
from suites.executors.base import Job
from suites.executors.local import LocalExecutor
from suites.executors.registry import register
from suites.executors.slots import Slot


@register
class NotedExecutor(LocalExecutor):
    """The local executor, whose workers note every step."""

    name = "noted"
    about = "local, and every step is noted"
    worker = "tests.faults.worker"

    def preloaded(self, job: Job, slot: Slot) -> tuple[str, ...]:
        """What those of ``local`` preload."""
        return super().preloaded(job, slot)


if __name__ == "__main__":
    adm_bench.main()
