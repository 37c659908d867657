"""A site over many leaderboards: every suite found, escaped, linked, and the same bytes for the same records."""

from __future__ import annotations

import html as html_module
import re
from pathlib import Path

import pytest

from results import publish, report
from results.errors import RecordError
from tests.results.factory import fid_suite, make_cell, make_manifest, make_record, one_block, write
from tests.results.golden_suite import HOSTILE


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two stores: of classification with a title and a label that are markup, and of diffusion."""
    root = tmp_path_factory.mktemp("stores")
    manifest, records = one_block({"none": (70.0, 71.0, 72.0), "kd": (74.0, 75.5, 76.1), "at": (73.0, None, 75.0)})
    rows = [row.model_copy(update={"label": HOSTILE[0]}) if row.label == "at" else row for row in manifest.rows]
    write(root / "a", manifest.model_copy(update={"title": HOSTILE[0], "rows": rows}), records)
    cells, made = fid_suite({"none": 2.0, "output": 1.0}, frozen=0.5, benchmark="digits@2")
    write(
        root / "b",
        make_manifest(cells, suite="generators", title="Generators"),
        {r.id: r.model_copy(update={"origin": "cluster"}) for r in made},
    )
    return [root / "a", root / "b"]


@pytest.fixture(scope="module")
def site(stores: list[Path]) -> dict[str, str]:
    return dict(publish.contents(stores))


def cells_of(index: str, words: str) -> list[list[str]]:
    """Texts of the lines of the index that are found by some text."""
    lines = re.findall(r'<tr [^>]*data-words="([^"]*)">(.*?)</tr>', index, re.S)
    texts = ((found, [html_module.unescape(re.sub("<[^>]+>", "", c)) for c in re.findall("<t[hd].*?</t[hd]>", line)])
             for found, line in lines)  # fmt: skip
    return [columns for found, columns in texts if words in " ".join([html_module.unescape(found), *columns])]


def test_each_page_is_a_reports_with_a_link_back(site: dict[str, str], stores: list[Path]) -> None:
    assert list(site) == ["leaderboards/generators.html", "leaderboards/tiny.html", "index.html"]
    link = '<li><a href="../index.html">All leaderboards</a></li>\n'
    assert site["leaderboards/tiny.html"].count(link) == 1
    assert site["leaderboards/tiny.html"].replace(link, "") == report.page(report.load(stores[0], "tiny"))


def test_a_page_tells_from_which_store_records_were_merged(site: dict[str, str]) -> None:
    assert "<dt>merged from</dt><dd>cluster</dd>" in site["leaderboards/generators.html"]
    assert "merged from" not in site["leaderboards/tiny.html"]


def test_the_index_lists_suites_and_rows_as_the_tables_have_them(site: dict[str, str]) -> None:
    index = site["index.html"]
    assert cells_of(index, "output")[0][:4] == ["Generators", "diffusion", "digits@2", "1"]
    assert cells_of(index, "output")[1][:4] == ["output", "1", "1.00", "FID ↓"]
    (kd,) = [line for line in cells_of(index, "kd") if line[0] == "kd"]
    assert kd[:6] == ["kd", "1", "75.20 ± 1.08", "top-1 % ↑", "offline", "digit-scenes@1"]
    assert [line[:3] for line in cells_of(index, "classification") if line[0] == HOSTILE[0]][-1:] == [
        [HOSTILE[0], "", "74.00 ± 1.41"]
    ]
    assert not [line for line in cells_of(index, "") if line[0] == "frozen teacher"]
    assert cells_of(index, "tiny")[0][4:] == ["3", "9", "8"]


def test_every_link_of_the_index_leads_to_a_table(site: dict[str, str]) -> None:
    links = re.findall(r'href="(leaderboards/[^"#]*)(?:#([^"]+))?"', site["index.html"])
    assert len(links) == 7
    assert all(page in site and (not anchor or f'id="{anchor}"' in site[page]) for page, anchor in links)


def test_what_users_write_is_escaped_and_nothing_is_fetched(site: dict[str, str]) -> None:
    for text in site.values():
        assert "<script>alert" not in text and text.count("</script>") == 1
        assert not re.search(r"https?://|src=", text) and "default-src 'none'" in text


def test_the_same_records_make_the_same_bytes(site: dict[str, str], stores: list[Path]) -> None:
    assert dict(publish.contents(stores[::-1])) == site


def test_a_suite_in_two_stores_and_none_at_all_are_refused(stores: list[Path], tmp_path: Path) -> None:
    record = make_record(make_cell("kd"))
    write(tmp_path / "c", make_manifest([record.cell]), {record.id: record})
    with pytest.raises(RecordError, match=r"suite 'tiny' is in '.*/a' and in '.*/c'; make one store of them"):
        next(publish.contents([*stores, tmp_path / "c"]))
    with pytest.raises(RecordError, match="nothing has been run in"):
        next(publish.contents([tmp_path / "none"]))
