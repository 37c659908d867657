"""The leaderboards of a fixed suite, byte for byte; ``golden_suite`` says how to renew the files."""

from __future__ import annotations

import re

import matplotlib
import pytest

from results import report
from results.report import Results
from results.tables import registry
from tests.results.golden_suite import FOLDER, MADE_WITH, contents

NAMES = [f"{table}.{form}" for table in registry.names() for form in ("md", "csv", "tex", "txt")] + [report.PAGE]
RENEW = "if that is meant: .venv/bin/python -m tests.results.golden_suite"


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    return contents()


@pytest.mark.parametrize("name", NAMES)
def test_the_leaderboards_are_the_committed_ones(name: str, made: dict[str, str]) -> None:
    expected, found = (FOLDER / name).read_bytes().decode(), made[name]
    if name == report.PAGE and (FOLDER / MADE_WITH).read_text().strip() != matplotlib.__version__:
        expected, found = (re.sub(r'<svg class="plot".*?</svg>', "", text, flags=re.S) for text in (expected, found))
    assert found == expected, f"golden/{name} differs; {RENEW}"


def test_no_golden_file_is_left_over(made: dict[str, str]) -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted([*made, MADE_WITH])


def test_the_page_is_the_same_the_second_time(made: dict[str, str], golden: Results) -> None:
    assert report.page(golden) == made[report.PAGE]
