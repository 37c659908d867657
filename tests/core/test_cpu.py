"""How much of the processor a process may use: the cores it may run on, and quotas as containers have them."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from adm_core import cpu
from tests.control_groups import lay

FOUR = frozenset(range(4))


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on whose four cores this process may run."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: FOUR, raising=False)


V1 = "9:name=systemd:/docker/c\n3:cpu,cpuacct:/docker/c\n2:memory:/docker/c\n"


@pytest.mark.parametrize(
    ("memberships", "files", "quota", "cores"),
    [
        ("0::/\n", {}, math.inf, 4),
        ("0::/\n", {"cpu.max": "max 100000"}, math.inf, 4),
        ("0::/\n", {"cpu.max": "200000 100000"}, 2.0, 2),
        ("0::/\n", {"cpu.max": "250000 100000"}, 2.5, 2),
        ("0::/\n", {"cpu.max": "50000 100000"}, 0.5, 1),
        ("0::/\n", {"cpu.max": "800000 100000"}, 8.0, 4),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3.0, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "100000 50000", "a/cpu.max": "300000 100000"}, 2.0, 2),
        ("0::/../seen/outside\n", {"cpu.max": "200000 100000"}, 2.0, 2),
        (V1, {"cpu,cpuacct/docker/c/cpu.cfs_quota_us": "200000", "cpu,cpuacct/docker/c/cpu.cfs_period_us": "100000"},
         2.0, 2),
        (V1, {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3.0, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, math.inf, 4),
        (V1, {"memory/cpu.cfs_quota_us": "100000", "memory/cpu.cfs_period_us": "100000"}, math.inf, 4),
    ],
)  # fmt: skip
def test_a_quota_bounds_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memberships: str, files: dict[str, str], quota: float, cores: int
) -> None:
    lay(tmp_path, monkeypatch, memberships, files)
    assert (cpu.quota(), cpu.cores()) == (quota, cores)


def test_where_nothing_is_told_there_is_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, monkeypatch)
    assert (cpu.quota(), cpu.cores()) == (math.inf, 4)


def test_the_cores_on_which_a_process_may_run_bound_them_as_well() -> None:
    assert 1 <= cpu.cores() <= len(FOUR)
