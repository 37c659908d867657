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
