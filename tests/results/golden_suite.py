"""The fixed suite behind ``golden/``: failures, hostile texts, both regimes.

When a change of the tables is meant, make the files anew and read the difference before you commit it:

    .venv/bin/python -m tests.results.golden_suite
    git diff tests/results/golden
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib

from results import report
from results.analysis.blocks import collect
from results.claims.claims import Claim, load_claims
from results.records.schema import Cell, Manifest, MethodPart, Record
from results.report import Results
from results.tables import claims as claims_table
from results.tables import registry
from tests.results.factory import failed, make_cell, make_manifest, make_record, make_row

FOLDER = Path(__file__).with_name("golden")
MADE_WITH = "matplotlib.txt"
"""Names the matplotlib that drew the plots in the golden page; another one may draw them a little differently."""
HOSTILE = ("<script>alert(1)//", "=1+1", "a|b", "50%_x$", "back\\slash & {co}", "$x^2$")
_EPOCHS = 6
_CIFAR = {"benchmark": "cifar100@1", "teacher": "resnet56", "student": "resnet20"}

_ONLINE: Mapping[str, tuple[str, tuple[float | None, ...]]] = {
    "none": ("none", (70.0, 71.0, 72.0)),
    "dml": (HOSTILE[0], (73.1, 73.9, 75.2)),
    "dml+adm": (HOSTILE[1], (73.4, 74.4, 75.1)),
    "kdcl": (HOSTILE[2], (74.0, None, 74.8)),
}
"""Method to its label and the students' scores, seed by seed; None: that seed failed."""
_ELSEWHERE: Mapping[str, tuple[str, tuple[float | None, ...]]] = {
    "none": ("none", (60.0, 61.0, 62.0)),
    "dml": (HOSTILE[0], (62.1, 62.9, 64.2)),
    "dml+adm": (HOSTILE[1], (61.4, 63.4, 64.1)),
}
_CONTROLS: Mapping[str, tuple[str, ...]] = {HOSTILE[1]: (HOSTILE[0], HOSTILE[2]), HOSTILE[5]: ("none",)}
"""Label to the labels of its controls; one of them is incomplete."""
_OFFLINE: Mapping[str, tuple[str, tuple[float | None, ...]]] = {
    "none": ("none", (69.0, 69.5, 70.3)),
    "kd": (HOSTILE[3], (71.2, 71.9, 72.4)),
    "at": (HOSTILE[4], (69.9, 70.1, 71.2)),
    "adm": (HOSTILE[5], (70.4, 71.0, 71.5)),
    "dkd": ("dkd", (None, None, None)),
}


def results() -> Results:
    """The suite as it is read from a store."""
    manifest, records = suite()
    return Results(manifest, collect(manifest, records, {unread().id: "records/x.json: is damaged: test"}), ())


def suite() -> tuple[Manifest, dict[str, Record]]:
    """Manifest and records."""
    rows, records = [], []
    for title, methods, cell_of in (
        ("Online & <together>", _ONLINE, _online),
        ("Online, elsewhere", _ELSEWHERE, _elsewhere),
        ("Offline, 100% frozen", _OFFLINE, _offline),
    ):
        for method, (label, values) in methods.items():
            for seed, value in enumerate(values):
                cell = cell_of(method, seed)
                rows.append(make_row(cell, label, title, _CONTROLS.get(label, ())))
                records.append(_record(cell, value))
    skipped, absent = _offline("fsp", 0), _offline("vid", 0)
    rows += [make_row(cell, block="Offline, 100% frozen") for cell in (skipped, absent, unread())]
    records.append(failed(skipped, "skipped", "fsp needs two stages of equal size; <b>none here | none there"))
    return make_manifest([], "golden", title="Golden <suite> & more", rows=rows), {r.id: r for r in records}


def claims() -> tuple[Claim, ...]:
    """Published figures of the tests' own."""
    return load_claims(Path(__file__).with_name("published.yaml"))


def unread() -> Cell:
    """The cell whose record could not be read."""
    return _offline("crd", 0)


def contents() -> dict[str, str]:
    """File name to content, for every golden file."""
    kept, claims_table.load_claims = claims_table.load_claims, claims
    try:
        found = results()
        files = {f"{name}.txt": report.text_of(found, name, "terminal", 120) for name in registry.names()}
        return files | report.contents(found)
    finally:
        claims_table.load_claims = kept


def _online(method: str, seed: int) -> Cell:
    return make_cell(method, seed, "online")


def _elsewhere(method: str, seed: int) -> Cell:
    return make_cell(method, seed, "online", benchmark="digit-hues@1")


def _offline(method: str, seed: int) -> Cell:
    part = MethodPart(name=method, version=2, settings={"temperature": 4.0, "taps": ["stage1", "last"]})
    return make_cell(seed=seed, regime="offline", **_CIFAR, parts=(part,))


def _record(cell: Cell, value: float | None) -> Record:
    if value is None:
        return failed(
            cell, "oom" if cell.method_name == "kdcl" else "diverged", "loss is not finite in epoch 3; a_b $5"
        )
    # Online the teacher learns as well: a little better with each method, so that its differences are not zero.
    teacher = 80.0 + cell.seed + len(cell.method_name) / 10 if cell.regime == "online" else 76.5
    needs = ["extra-pass"] if cell.method_name == "kd" else []
    made = make_record(cell, value, teacher, curves=_curves(cell, value, teacher), capabilities=needs,
                       data_digest="sha256:" + "0" * 16)  # fmt: skip
    if cell.regime != "online":
        return made
    parts = {"recall/<b>car": value - 5, "recall/sky|sea": None if cell.seed == 1 else value + 5}
    return made.model_copy(update={"scores": {**made.scores, "student": {**made.scores["student"], **parts}}})


def _curves(cell: Cell, value: float, teacher: float) -> dict[str, list[float | None]]:
    """Plain arithmetic, so that every machine has the same numbers."""
    rise = [1 - 2.0**-epoch for epoch in range(1, _EPOCHS + 1)]
    curves: dict[str, list[float | None]] = {"epoch": [float(epoch) for epoch in range(1, _EPOCHS + 1)]}
    curves["train.student.task"] = [4 - 3 * share for share in rise]
    if cell.regime == "online":
        curves["validation.student.top1"] = [value * share for share in rise]
        curves["validation.teacher.top1"] = [None, *(teacher * share for share in rise[1:])]
    if "adm" in cell.method_name:
        part = "adm." if "+" in cell.method_name else ""
        for number, name in enumerate(("similarity_mean", "similarity_spread", "consensus_entropy")):
            curves[f"log.{part}{name}"] = [share / (1 + number) for share in rise]
    return curves


def main() -> None:
    """Write the golden files anew."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in contents().items():
        (FOLDER / name).write_bytes(text.encode())
    (FOLDER / MADE_WITH).write_text(matplotlib.__version__ + "\n")


if __name__ == "__main__":
    main()
