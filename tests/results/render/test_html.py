"""The page: it needs nothing else, obeys no label, and shows what the tables show."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from results import report
from results.analysis.blocks import collect
from results.report import Results
from results.tables import registry
from tests.results.factory import PNG, by_id, make_cell, make_manifest, make_record, make_row, one_block
from tests.results.golden_suite import HOSTILE

ROOT = Path(__file__).parents[3]
SVG = re.compile(r'<svg class="plot".*?</svg>', re.S)


class _Reader(HTMLParser):
    """Collects elements with their attributes, and text by the innermost element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], "elements are left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if data.strip() and self._open:
            self.texts.append((self._open[-1], data))


@pytest.fixture(scope="module")
def page() -> str:
    from tests.results.golden_suite import contents

    return contents()[report.PAGE]


@pytest.fixture(scope="module")
def read(page: str) -> _Reader:
    return _Reader(page)


def test_the_page_refers_to_nothing_outside(page: str, read: _Reader) -> None:
    assert not re.search(r"https?://|//[a-z]+\.[a-z]|@import|url\((?!#)", page.replace("alert(1)//", ""))
    for tag, attributes in read.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
        assert "src" not in attributes
        for key in ("href", "xlink:href"):
            assert (attributes.get(key) or "#").startswith("#")


@pytest.mark.parametrize(
    "file", sorted((ROOT / "results" / "leaderboards").glob("*/tables/*.html")), ids=lambda file: file.parts[-3]
)
def test_the_elements_of_every_committed_page_nest(file: Path) -> None:
    assert len(_Reader(file.read_text(encoding="utf-8")).elements) > 100


def test_a_reader_notices_elements_that_do_not_nest() -> None:
    for wrong in ("<details><table></details></table>", "<section><p></p>", "</p>"):
        with pytest.raises((AssertionError, IndexError)):
            _Reader(wrong)


def test_every_reference_inside_the_page_has_one_target(read: _Reader, page: str) -> None:
    ids = [found["id"] for _, found in read.elements if "id" in found]
    assert len(ids) == len(set(ids))
    wanted = {str(found["href"])[1:] for _, found in read.elements if "href" in found}
    wanted |= set(re.findall(r"url\(#([^)]+)\)", page))
    wanted |= {name for _, found in read.elements for name in (found.get("aria-labelledby") or "").split()}
    assert wanted <= set(ids)


def test_only_our_script_may_run(page: str) -> None:
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page


def test_the_first_seed_of_a_row_that_has_a_picture_is_shown_inside_the_page(tmp_path: Path) -> None:
    label = 'a "quoted" <b>'
    cells = [make_cell(method, seed) for method in ("none", "kd", "at") for seed in (0, 1)]
    rows = [make_row(cell, label if cell.method_name == "kd" else "") for cell in cells]
    manifest = make_manifest([], rows=rows)
    blocks = collect(manifest, {c.id: make_record(c, 70.0 + i) for i, c in enumerate(cells)})
    pictures = {}
    for cell in (cells[0], cells[1], cells[3]):  # none has both seeds, kd the second one, at none
        pictures[cell.id] = tmp_path / f"{cell.id}.png"
        pictures[cell.id].write_bytes(PNG + cell.id.encode())
    page = report.page(Results(manifest, blocks, (), pictures))
    shown = [found for tag, found in _Reader(page).elements if tag == "img"]
    data = [base64.b64decode(str(found["src"]).removeprefix("data:image/png;base64,")) for found in shown]
    assert data == [PNG + cells[0].id.encode(), PNG + cells[3].id.encode()]
    assert [found["alt"] for found in shown] == [
        "Images made by the networks of none, seed 0", f"Images made by the networks of {label}, seed 1"
    ]  # fmt: skip
    assert "img-src data:;" in page and page == report.page(Results(manifest, blocks, (), pictures))


def test_rows_of_different_data_are_not_drawn_together() -> None:
    cells = [make_cell(method, seed) for method in ("none", "kd") for seed in (0, 1)]
    manifest = make_manifest(cells)
    for digest, drawn in (("train 1a", True), ("train 2b", False)):
        digests = ["train 1a", "train 1a", "train 1a", digest]
        records = [make_record(c, 70.0 + i, data_digest=d) for i, (c, d) in enumerate(zip(cells, digests, strict=True))]
        page = report.page(Results(manifest, collect(manifest, by_id(*records)), ()))
        assert bool(SVG.search(page)) is drawn and ('<span class="tag">unranked</span>' in page) is not drawn


def test_hostile_labels_are_shown_and_not_obeyed(page: str, read: _Reader) -> None:
    assert page.count("<script") == 1 and page.count("&lt;script&gt;alert(1)//") > 5
    assert not [attribute for _, found in read.elements for attribute in found if attribute.startswith("on")]
    shown = {text.strip() for tag, text in read.texts if tag in ("strong", "span")}
    assert set(HOSTILE) <= shown
    assert not [tag for tag, _ in read.elements if tag == "b"]


def test_plots_hold_labels_as_text_and_dollars_are_no_formula(page: str) -> None:
    found = [ET.fromstring(svg) for svg in SVG.findall(page)]
    texts = {element.text for svg in found for element in svg.iter("text")}
    assert {"$x^2$", "50%_x$", "<script>alert(1)//", "back\\slash & {co}"} <= texts
    assert not [element for svg in found for element in svg.iter() if element.tag not in
                {"svg", "title", "desc", "g", "defs", "clipPath", "rect", "path", "use", "text"}]  # fmt: skip


def test_plots_have_names_and_follow_the_colour_scheme(page: str) -> None:
    plots_found = SVG.findall(page)
    assert len(plots_found) >= 8
    for svg in plots_found:
        root = ET.fromstring(svg)
        assert root.get("role") == "img" and root.findtext("title") and root.findtext("desc")
        assert not re.search(r"#[0-9a-f]{6}\b", svg) and "font-family" not in svg
    style = page[page.index("<style>") : page.index("</style>")]
    assert "prefers-color-scheme: dark" in style and "@media print" in style
    used = set(re.findall(r"var\((--[a-z0-9]+)\)", page))
    light, dark = (set(re.findall(r"(--[a-z0-9]+):", part)) for part in style.split("prefers-color-scheme: dark")[:2])
    assert used <= light and light <= set(re.findall(r"(--[a-z0-9]+):", style.split("prefers-color-scheme: dark")[1]))
    assert not dark - light


def test_the_page_holds_every_number_of_the_tables(page: str, golden: Results) -> None:
    for kind in registry.names():
        for table in report.tables_of(golden, kind):
            for row in table.rows:
                for entry in row.entries:
                    if isinstance(entry.values[0], float):
                        assert f'data-value="{entry.values[0]!r}"' in page


def test_rows_that_sorting_leaves_alone_stand_in_a_body_of_their_own(page: str) -> None:
    bodies = re.findall(r"<tbody class=\"fixed\">(.*?)</tbody>", page, re.S)
    kinds = {kind for body in bodies for kind in re.findall(r'<tr class="(\w+)">', body)}
    others = re.findall(r"<tbody>(.*?)</tbody>", page, re.S)
    assert kinds == {"reference", "unranked"}
    assert not [body for body in others if 'class="reference"' in body or 'class="unranked"' in body]


def test_what_went_wrong_the_teacher_and_the_hardware_are_told(page: str) -> None:
    text = re.sub(r"<[^>]+>", "", page)
    assert "a|b: oom: loss is not finite in epoch 3; a_b $5" in text
    assert "dkd: diverged (3 seeds)" in text and "is damaged: test" in text
    assert "ab" * 32 in text and "score 76.50" in text
    assert "Test CPU" in text and "2.12.0" in text and "sha256:" + "0" * 16 in text
    assert "needs of 50%_x$" in text and "extra-pass" in text


def test_the_curves_are_those_that_the_records_hold(page: str) -> None:
    titles = [unescape(title) for title in re.findall(r"<figcaption><strong>(.*?)</strong>", page)]
    assert titles.count("Scores with their uncertainty") == titles.count("Score against cost") == 3
    assert titles.count("Student on validation data") == 2 and titles.count("Student's training loss") == 1
    assert titles.count("Teacher minus solo teacher") == 2
    assert titles.count("ADM: mean similarity") == 3 and "ADM: entropy of divergence weights" not in titles


def test_a_kind_without_tables_has_no_heading_in_the_page(page: str) -> None:
    manifest, records = one_block({"none": (70.0, 71.0), "kd": (72.0, 73.0)})
    single = report.page(Results(manifest, collect(manifest, records), ()))
    assert ">Summary</" in page and "Summary" not in single


def test_blocks_without_scores_or_curves_still_make_a_page() -> None:
    for students in ({"none": (None, None)}, {"none": (70.0,)}, {"none": (70.0, 70.0), "kd": (70.0, 70.0)}):
        manifest, records = one_block(students)
        found = Results(manifest, collect(manifest, records), ())
        assert "</html>" in report.page(found)
    manifest = make_manifest([])
    assert "</html>" in report.page(Results(manifest, [], ()))


def test_settings_of_the_user_for_matplotlib_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nsvg.fonttype: path\ntext.usetex: True\nlines.linewidth: 9\n")
    script = "from tests.results.golden_suite import contents; print(contents()['leaderboard.html'], end='')"
    outputs = []
    for env in ({}, {"MATPLOTLIBRC": str(tmp_path), "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}):
        command = ["env", *(f"{key}={value}" for key, value in env.items()), sys.executable, "-c", script]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1] and b"</html>" in outputs[0]


def test_matplotlib_is_loaded_for_the_page_alone() -> None:
    script = "import sys; from results import report; assert not {'matplotlib', 'jinja2', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
