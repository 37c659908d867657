"""Files of the kernel's that tell the control groups of this process, laid in a folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from adm_core import control_groups


def lay(folder: Path, patch: pytest.MonkeyPatch, memberships: str = "", files: Mapping[str, str] | None = None) -> None:
    """Let this process be a member of groups that are told in a folder.

    Args:
        folder: holds the files.
        patch: lets the package read them.
        memberships: what the kernel tells of a process; empty: nothing.
        files: of groups, by path.
    """
    patch.setattr(control_groups, "_MEMBERSHIPS", folder / "memberships")
    patch.setattr(control_groups, "_GROUPS", folder / "cgroup")
    (folder / "memberships").write_text(memberships)
    for path, content in (files or {}).items():
        file = folder / "cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
