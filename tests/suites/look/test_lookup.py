"""What a name on the command line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from adm_core.errors import AdmError
from results.records.store import Store
from suites.look.lookup import cell_by_prefix, suite_meant
from suites.spec.names import suite_name
from suites.work.folder import WorkFolder


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("quick", "quick"),
        ("mine.yaml", "mine"),
        ("there/mine.yml", "mine"),
        ("my.suite", "my.suite"),
        ("./my.suite.yaml", "my.suite"),
    ],
)
def test_a_suite_goes_by_the_stem_of_its_file(given: str, name: str) -> None:
    assert suite_name(given) == name


def test_a_suite_that_was_run_comes_before_a_cell(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert suite_meant("cafe", store) is None and suite_meant("cafe.yaml", store) == "cafe"
    assert suite_meant("quick", store) == "quick"
    store.manifest_path("cafe").parent.mkdir()
    store.manifest_path("cafe").touch()
    assert suite_meant("cafe", store) == suite_meant("folder/cafe.yaml", store) == "cafe"


def test_cells_are_found_by_record_or_by_work_folder(tmp_path: Path) -> None:
    store = Store(tmp_path)
    WorkFolder.of(tmp_path, "aa11" * 4).report({})
    store.record_path("aa22" * 4).parent.mkdir()
    store.record_path("aa22" * 4).touch()
    assert (cell_by_prefix(store, "aa1"), cell_by_prefix(store, "aa2")) == ("aa11" * 4, "aa22" * 4)
    with pytest.raises(AdmError, match=r"'aa' is the beginning of 2 cells: (aa11){4}, (aa22){4}; give more digits"):
        cell_by_prefix(store, "aa")
    with pytest.raises(AdmError, match=r"no cell in .* begins with 'bb'"):
        cell_by_prefix(store, "bb")
