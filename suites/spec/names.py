"""How suites and protocols are given: by name, or by the path of their file."""

from __future__ import annotations

import re
from pathlib import Path

from adm_core.errors import AdmError, unknown

_SUITES = Path(__file__).resolve().parents[1]
DEFINITIONS = _SUITES / "definitions"
PROTOCOLS = _SUITES / "protocols"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
"""What suites, and the networks and benchmarks of their own, may be called."""


def is_path(given: str) -> bool:
    """Whether a suite or a protocol is given by the path of its file rather than by name."""
    return given.endswith((".yaml", ".yml")) or "/" in given


def suite_name(given: str) -> str:
    """The name that a suite goes by, given that or the path of its file, which need not exist."""
    return Path(given).stem if is_path(given) else given


def suite_names() -> list[str]:
    """The suites that come with the benchmark."""
    return sorted(path.stem for path in DEFINITIONS.glob("*.yaml"))


def protocol_names() -> list[str]:
    """The protocols that come with the benchmark."""
    return sorted(path.stem for path in PROTOCOLS.glob("*.yaml"))


def suite_file(name: str) -> Path:
    """The file of a suite given by name, or by a path to a YAML file of one's own.

    Raises:
        AdmError: no such suite or file.
    """
    if name.endswith(".py"):
        raise AdmError(f"suite {name}: is Python, not YAML; adm run SUITE --method-file {name} adds its method")
    if not is_path(name):
        if name not in suite_names():
            own = f"; did you mean the file {name}.yaml?" if Path(f"{name}.yaml").is_file() else ""
            raise AdmError(f"unknown suite '{name}'{own}") if own else unknown("suite", name, suite_names())
        return DEFINITIONS / f"{name}.yaml"
    path = Path(name).expanduser()
    if not path.is_file():
        raise AdmError(f"suite file {name}: no such file")
    if not re.fullmatch(NAME, path.stem):
        raise AdmError(f"suite file {name}: its name becomes the suite's: use letters, digits, '.', '_' and '-' only")
    return path
