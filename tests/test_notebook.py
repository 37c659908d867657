"""The notebook of the docs: every block runs, in order, and gives what the committed tables say."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", (ROOT / "docs" / "notebook.md").read_text(), re.MULTILINE | re.DOTALL)


def test_every_block_runs_and_gives_the_committed_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "leaderboards").symlink_to(ROOT / "results" / "leaderboards")
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    with matplotlib.rc_context():
        matplotlib.use("Agg")
        for language, block in BLOCKS:
            if language == "python":
                exec(compile(block, "docs/notebook.md", "exec"), found)
                continue
            program, *arguments = shlex.split(block)
            assert program == "adm"
            subprocess.run([sys.executable, str(ROOT / "adm_bench.py"), *arguments], check=True, timeout=120)
        found["plt"].close("all")
    assert [language for language, _ in BLOCKS].count("python") >= 6

    shown = pd.read_csv(ROOT / "results" / "leaderboards" / "quick" / "tables" / "scores.csv")
    shown = shown[shown.row_kind != "reference"].set_index(["block", "label"]).sort_index()
    table = found["table"]
    assert list(table.index) == list(shown.index)
    np.testing.assert_allclose(table[["mean", "std"]], shown[["top1", "top1_std"]], rtol=1e-12)
    differences = found["paired"].groupby("block").mean().stack().dropna()
    assert len(differences) == shown.top1_delta.count() == len(shown) - 2  # of each regime's baseline there is none
    np.testing.assert_allclose(differences, shown.top1_delta.dropna().loc[differences.index], rtol=1e-9)
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert set(found["lines"].columns) == set(shown[shown.regime == "online"].index.get_level_values("label"))
    assert len(found["segmentation"]) > 100 and found["step"].loc["none"].notna().all()
