"""The trials of a suite: as many for every row, at the same points, on validation data and seeds of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adm_core.errors import AdmError
from suites.spec.definition import load_protocol, load_suite
from suites.spec.expand import expand
from suites.spec.names import suite_names
from suites.spec.protocols import on_validation, protocol_digest
from suites.spec.trials import Search, trials_of

ROWS = """
title: rows of many kinds
blocks:
  - title: Offline
    task: classification
    benchmark: digit-scenes@1
    protocol: {protocol}
    pairs: [resnet20 > resnet8]
    regime: offline
    methods: [none, {{method: none, stretch: 2}}, kd, output, {{method: kd+skd, settings: {{skd: {{pair_weight: 0}}}}}}]
    seeds: {seeds}
"""


def rows(count: int, name: str = "smoke") -> dict[str, Search]:
    return {f"{each.row.cell.regime} {each.row.label}": each for each in trials_of(name, count, 2).searches}


def halton(index: int, base: int) -> float:
    """The digits of a number, mirrored at the point (Halton 1960)."""
    value, share = 0.0, 1.0
    while index:
        share /= base
        index, digit = divmod(index, base)
        value += share * digit
    return value


def test_the_first_trial_is_the_row_as_stated_and_the_others_are_the_points_of_one_sequence() -> None:
    tried = [each.settings["kd"] for each in rows(5)["offline kd"].candidates]
    assert tried[0] == {"temperature": 4.0, "weight": 0.9}
    wanted = [(1.0 * 8 ** halton(i, 2), 0.1 * 90 ** halton(i, 3)) for i in range(1, 5)]
    assert [tuple(each.values()) for each in tried[1:]] == [
        (float(f"{temperature:.3g}"), float(f"{weight:.3g}")) for temperature, weight in wanted
    ]
    fitnet = [each.settings["fitnet"]["weight"] for each in rows(5)["offline fitnet"].candidates]
    points = [float(f"{0.1 * 10_000 ** halton(i, 2):.3g}") for i in range(1, 6)]
    assert points[2] == fitnet[0] == 100.0  # the point that the row states already gives way to the next
    assert fitnet[1:] == [point for point in points if point != 100.0]


def test_more_trials_contain_the_fewer() -> None:
    few, more = rows(3), rows(6)
    for label, search in few.items():
        assert more[label].candidates[: len(search.candidates)] == search.candidates


@pytest.mark.parametrize("name", ["quick", "seg-quick", "diffusion-quick", "cifar100-offline", "seg-cityscapes"])
def test_every_row_of_a_suite_has_as_many_trials_on_as_many_seeds(name: str) -> None:
    assert name in suite_names()
    trials = trials_of(name, 4, 2)
    for search in trials.searches:
        settings = [each.settings for each in search.candidates]
        assert len(settings) == (4 if settings[0] else 1) and all(settings.count(each) == 1 for each in settings)
        assert {tuple(cell.cell.seed for cell in each.cells) for each in search.candidates} == {(1000, 1001)}
    assert {row.label for row in trials.suite.rows} >= {search.row.label for search in trials.searches}


def test_trials_are_scored_on_validation_data_and_so_is_their_teacher() -> None:
    trials = trials_of("cifar100-offline", 2, 1)
    cells = trials.expansion.cells
    assert {(cell.protocol.data["validation"], cell.protocol.data["scored"]) for cell in cells} == {(0.1, "validation")}
    assert {cell.cell.seed for cell in cells} == {1000}
    assert {row.cell.protocol_digest for row in trials.suite.rows}.isdisjoint(c.cell.protocol_digest for c in cells)


def test_the_twin_of_a_protocol_differs_in_the_split_that_is_scored_alone() -> None:
    name, protocol = load_protocol("digit-scenes-quick")
    name, twin = on_validation(name, protocol)
    assert name == "digit-scenes-quick-validation"
    assert twin.data == {**protocol.data, "scored": "validation"} and twin.recipe == protocol.recipe
    assert protocol_digest(twin) != protocol_digest(protocol)
    assert on_validation(name, twin) == (name, twin)


def test_controls_are_not_tuned_and_a_term_that_is_left_out_stays_out(write_suite: Callable[[str], Path]) -> None:
    found = rows(3, str(write_suite(ROWS.format(protocol="smoke", seeds=[0]))))
    assert list(found) == ["offline none", "offline kd", "offline output", "offline kd+skd (pair_weight=0)"]
    assert [len(search.candidates) for search in found.values()] == [1, 3, 1, 3]  # output is to be skipped
    last = found["offline kd+skd (pair_weight=0)"].candidates[-1]
    assert last.settings["skd"].keys() == {"adversarial_weight"}
    parts = {part.name: part.settings for part in last.cells[0].cell.method}
    assert parts["skd"]["pair_weight"] == 0 and parts["skd"]["adversarial_weight"] != 0.001


def test_trials_differ_in_what_acts_alone(write_suite: Callable[[str], Path]) -> None:
    offline = ROWS.format(protocol="smoke", seeds=[0])
    many = "[kd, adm, clda, kdpp, {method: kdpp, settings: {kdpp: {kd_weight: 0}}}, koala]"
    start, end = offline.index("[none"), offline.index("    seeds")
    offline = offline[:start] + many + "\n" + offline[end:]
    online = offline[offline.index("  - title") :].replace("Offline", "Online").replace("offline", "online")
    found = rows(3, str(write_suite(offline + online.replace(many, "[dml+adm]"))))
    tried = {label: [each.settings for each in search.candidates] for label, search in found.items()}
    assert [one["adm"].keys() for one in tried["offline adm"]] == [{"consensus"}] * 3
    assert len({one["adm"]["consensus"] for one in tried["offline adm"]}) == 3
    assert {*tried["online dml+adm"][2]["adm"]} == {"consensus", "divergence"}
    assert {*tried["offline clda"][2]["clda"]} == {"weight", "temperature", "rate"}
    assert {*tried["offline kdpp"][2]["kdpp"]} == {"weight", "kd_weight", "temperature"}
    assert {*tried["offline kdpp (kd_weight=0)"][2]["kdpp"]} == {"weight"}
    assert len(tried["offline koala"]) == 1  # it is to be skipped


def test_a_control_at_a_value_that_leaves_its_term_out_keeps_it(write_suite: Callable[[str], Path]) -> None:
    suite = ROWS.format(protocol="smoke", seeds=[0])
    start, end = suite.index("[none"), suite.index("    seeds")
    many = (
        "[{method: dpk, settings: {dpk: {dynamic: false}}}, {method: dpk, settings: {dpk: {dynamic: false, ratio: 1}}}]"
    )
    constant, without = rows(4, str(write_suite(suite[:start] + many + "\n" + suite[end:]))).values()
    assert [set(each.settings["dpk"]) for each in constant.candidates] == [{"weight", "ratio"}] * 4
    assert [set(each.settings["dpk"]) for each in without.candidates] == [{"weight"}] * 4
    assert {each.cells[0].cell.method[0].settings["ratio"] for each in without.candidates} == {1}


def test_rows_that_may_come_to_be_one_experiment_are_refused_before_any_is_trained(
    write_suite: Callable[[str], Path],
) -> None:
    suite = ROWS.format(protocol="smoke", seeds=[0])
    start, end = suite.index("[none"), suite.index("    seeds")
    many = "[kd, {method: kd, label: hot, settings: {kd: {temperature: 8}}}]"
    with pytest.raises(AdmError, match="'kd' and 'hot' would be tried with the same settings"):
        trials_of(str(write_suite(suite[:start] + many + "\n" + suite[end:])), 2, 1)


def test_a_suite_on_seeds_of_the_trials_is_refused(write_suite: Callable[[str], Path]) -> None:
    file = str(write_suite(ROWS.format(protocol="smoke", seeds=[0, 1001])))
    assert trials_of(file, 2, 1).seeds == (1000,)
    with pytest.raises(AdmError, match=r"uses seed 1001.*trials take 1000 to 1001"):
        trials_of(file, 2, 2)


def test_a_suite_of_suites_is_refused() -> None:
    with pytest.raises(AdmError, match=f"tune each of them: {', '.join(load_suite('adm-evidence').suites)}"):
        trials_of("adm-evidence", 2, 2)


def test_the_suite_itself_is_what_it_was() -> None:
    assert [row.id for row in trials_of("smoke", 2, 2).suite.rows] == [row.id for row in expand("smoke").rows]
