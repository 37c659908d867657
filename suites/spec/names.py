"""How suites and protocols are given: by name, or by the path of their file."""

from __future__ import annotations

from pathlib import Path

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""What suites, and the networks and benchmarks of their own, may be called."""


def is_path(given: str) -> bool:
    """Whether a suite or a protocol is given by the path of its file rather than by name."""
    return given.endswith((".yaml", ".yml")) or "/" in given


def suite_name(given: str) -> str:
    """The name that a suite goes by, given that or the path of its file, which need not exist."""
    return Path(given).stem if is_path(given) else given
