"""Reading published figures: what ships can be read, and mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.claims.claims import CLAIMS_FILE, load_claims
from results.errors import RecordError


def test_the_published_figures_that_come_with_the_package_can_be_read() -> None:
    found = load_claims()
    assert CLAIMS_FILE.name == "claims.yaml" and found
    assert all(claim.source and claim.protocol and claim.value > 0 for claim in found)
    assert all(claim.value <= 100 for claim in found if claim.metric != "fid")


def test_figures_of_generated_images_state_their_evaluations() -> None:
    found = {
        (c.source, c.nfe): c.value for c in load_claims() if c.benchmark == "cifar10" and c.student == "ddpm-cifar"
    }
    eta_0 = {nfe: value for (source, nfe), value in found.items() if source == "DDIM paper, eta 0"}
    assert eta_0 == {10: 13.36, 20: 6.84, 50: 4.67, 100: 4.16, 1000: 4.04}
    assert found["DDPM paper", 1000] == 3.17


def test_one_entry_of_pairs_or_of_evaluations_holds_for_all_figures(tmp_path: Path) -> None:
    opening = "- {source: s, benchmark: b, protocol: p, metric: fid, "
    (tmp_path / "claims.yaml").write_text(
        f"{opening} regime: alone, pairs: [a], nfe: [10, 20], student: {{none: [8, 4]}}}}\n"
        f"{opening} regime: offline, pairs: [a > b, a > c], nfe: [10], student: {{kd: [6, 5]}}}}\n"
        f"{opening} regime: offline, pairs: [a > d, a > e], nfe: [1, 2], student: {{kd: [3, 2]}}}}\n"
    )
    found = [(c.teacher, c.student, c.nfe, c.value) for c in load_claims(tmp_path / "claims.yaml")]
    assert found == [(None, "a", 10, 8), (None, "a", 20, 4), ("a", "b", 10, 6), ("a", "c", 10, 5), ("a", "d", 1, 3),
                     ("a", "e", 2, 2)]  # fmt: skip


def test_no_published_column_mixes_the_cityscapes_val_set_with_its_test_server() -> None:
    splits: dict[str, set[str]] = {"test": set(), "val": set()}
    for claim in load_claims():
        if claim.benchmark == "cityscapes":
            split = "test" if claim.source.endswith(", test server") else "val"
            splits[split].add(claim.protocol.split(":")[0])
    assert splits["test"] == {"Cityscapes test server, not val"}
    assert splits["val"] and all(opening.startswith("Cityscapes val") for opening in splits["val"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {source: s", "is not YAML"),
        ("- {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a > b], methods: {}}", "methods"),
        ("- {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a to b]}", r"pairs\.0"),
        ("- {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a > b, a > b]}", "stands twice"),
        (
            "- {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a > b], student: {kd: [1, 2]}}",
            "2 figures for 1",
        ),
        ("- {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a > b], student: {kd: [.nan]}}", "finite"),
        (
            "- &x {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a > b], student: {kd: [1]}}\n- *x",
            "gives kd on a > b .student. twice",
        ),
        (
            "- {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a > b], metric: ffid}",
            "'ffid' is none of",
        ),
        ("- {source: s, benchmark: b, regime: offline, protocol: p, pairs: [a]}", "teacher > student each"),
        ("- {source: s, benchmark: b, regime: alone, protocol: p, pairs: [a > b]}", "one network each"),
        (
            "- {source: s, benchmark: b, regime: alone, protocol: p, pairs: [a], teacher: {none: [1]}}",
            "stands under 'student'",
        ),
        (
            "- {source: s, benchmark: b, regime: alone, protocol: p, pairs: [a], nfe: [1, 2], student: {none: [1]}}",
            "1 figures for 2 numbers of evaluations",
        ),
        (
            "- {source: s, benchmark: b, regime: alone, protocol: p, pairs: [a, b], nfe: [1, 2, 3]}",
            "'nfe' has 3 entries for 2 pairs",
        ),
    ],
)
def test_a_mistake_in_published_figures_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(RecordError, match=message) as raised:
        load_claims(tmp_path / "claims.yaml")
    assert str(raised.value).startswith(str(tmp_path / "claims.yaml"))


LETTERS = {"a": "resnet56 > resnet20", "b": "resnet110 > resnet32", "b'": "resnet110 > resnet20",
           "c": "resnet32x4 > resnet8x4", "d": "wrn_40_2 > wrn_16_2", "e": "wrn_40_2 > wrn_40_1", "f": "vgg13 > vgg8",
           "g": "resnet32x4 > shufflenetv1", "h": "resnet32x4 > shufflenetv2", "i": "resnet50 > mobilenetv2",
           "j": "vgg13 > mobilenetv2", "k": "wrn_40_2 > shufflenetv1", "l": "resnet50 > vgg8"}  # fmt: skip
PRINTED = {
    (
        "TTM README",
        "wttm",
    ): "d 76.37, e 74.58, a 71.92, b' 71.67, b 74.13, c 76.06, f 74.44, j 69.16, i 69.59, l 74.82, "
    "g 74.37, h 76.55, k 75.42",
    (
        "NORM README",
        "norm",
    ): "d 75.65, e 74.82, a 71.35, b' 71.55, b 73.67, c 76.49, f 73.95, j 68.94, i 70.56, l 75.17, "
    "g 77.42, h 78.07, k 77.06",
    ("SDD README", "sdd"): "g 77.30, k 77.21, i 71.36, j 70.25, h 78.05, l 75.86",
    ("CTKD README", "ctkd"): "a 71.19, b 73.52, b' 70.99, d 75.45, e 73.93, f 73.52",
    ("RLD paper, second-hand", "rld"): "c 76.64, f 74.93, e 74.88, a 72.00, b 74.02, b' 71.67, d 76.06",
    ("LDRLD paper, second-hand", "ldrld"): "a 72.20, b' 71.98, c 77.20, d 76.35, f 75.06, g 76.46",
    ("StreamLined paper, second-hand", "skd26"): "c 78.33, d 76.60, f 75.75, a 72.50, g 77.91, j 68.60",
    ("other papers' tables, second-hand", "nkd"): "a 71.18, c 76.35, d 75.43, f 74.86, g 75.31, k 75.96, i 69.39, "
    "j 68.72, h 76.26, l 74.01",
}
"""Figures in the order in which their sources, or those who quote them, print the pairs."""


@pytest.mark.parametrize(("source", "method"), PRINTED)
def test_figures_stand_at_the_pairs_that_sources_print_them_for(source: str, method: str) -> None:
    printed = dict(pair.rsplit(" ", 1) for pair in PRINTED[source, method].split(", "))
    found = {
        f"{c.teacher} > {c.student}": c.value
        for c in load_claims()
        if (c.source, c.method, c.benchmark) == (source, method, "cifar100")
    }
    assert found == {LETTERS[letter]: float(value) for letter, value in printed.items()}
