"""A Ray cluster whose training is the short sum of ``suite_test_worker``; run as a module it is ``adm`` with it."""

from __future__ import annotations

from drive import ShortTraining

import adm_bench
from suites.executors.ray import RayExecutor
from suites.executors.registry import register


class ShortRay(RayExecutor):
    """Tasks of Ray whose training is a short sum."""

    name = "ray-short"
    about = "for tests"
    on_node = ShortTraining


if __name__ == "__main__":
    register(ShortRay)
    adm_bench.main()
