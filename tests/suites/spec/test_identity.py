"""What moves a cell's identity and what does not: spellings, names, defaults, and keys that are yet to come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

from adm_core import registry
from adm_core.errors import AdmError
from adm_core.methods.kd import KD
from adm_core.recipe import Optimizer, Protocol, Recipe
from results.records.schema import Cell
from suites.spec.expand import expand
from suites.spec.protocols import protocol_digest
from tasks import catalogue
from tasks.classification import data_settings

SUITE = """title: mine
blocks:
  - title: Table
    task: classification
    benchmark: digit-scenes@1
    protocol: ./{name}.yaml
    {teacher}
    pairs: [resnet14w16s2 > resnet8w8s2]
    regime: offline
    methods: [none, {method}]
    seeds: [0]
"""
PLAIN = "recipe: {epochs: 5, batch_size: 64, optimizer: {lr: 1, weight_decay: 0.0005}}\ndata: {train_limit: 640}"
Ids = Callable[..., list[str]]


@pytest.fixture
def ids(tmp_path: Path) -> Ids:
    """The ids of a suite on a protocol, teachers included."""

    def of(recipe: str = PLAIN, name: str = "one", method: str = "kd", teacher: str | None = None) -> list[str]:
        head = f"title: {name}\nsource: tests\ntask: classification\n"
        (tmp_path / f"{name}.yaml").write_text(head + recipe)
        (tmp_path / "teacher.yaml").write_text(head + (teacher or recipe))
        also = "teacher_protocol: ./teacher.yaml" if teacher else ""
        (tmp_path / "mine.yaml").write_text(SUITE.format(name=name, teacher=also, method=method))
        return [planned.id for planned in expand(str(tmp_path / "mine.yaml")).cells]

    return of


@pytest.mark.parametrize(
    "spelt",
    [
        PLAIN.replace("lr: 1,", "lr: 1.0,"),
        PLAIN.replace("lr: 1,", "lr: 10e-1,"),
        PLAIN.replace("lr: 1,", "momentum: 0.9, name: sgd, nesterov: false, lr: 1,"),
        PLAIN.replace("epochs: 5", "accumulate: 1, schedule: {}, networks: {}, teacher: {lr: null}, epochs: 5"),
        PLAIN.replace("epochs: 5", "schedule: {name: constant, warmup: 0, final: 0}, ema: null, epochs: 5"),
        PLAIN.replace("640", "640, flip: true, crop_padding: 4, validation: 0, scored: test, test_limit: null"),
        PLAIN.replace("640", "640, validation: 0.0"),
    ],
)
def test_other_spellings_and_defaults_that_are_written_out_are_one_recipe(ids: Ids, spelt: str) -> None:
    assert spelt != PLAIN and ids(spelt) == ids()


@pytest.mark.parametrize(
    "other",
    [
        PLAIN.replace("lr: 1,", "lr: 1.5,"),
        PLAIN.replace("640", "641"),
        PLAIN.replace("640", "640, flip: false"),
        PLAIN.replace("lr: 1,", "lr: 1, nesterov: true,"),
        PLAIN.replace("epochs: 5", "epochs: 5, schedule: {name: cosine}"),
    ],
)
def test_another_recipe_is_another_cell(ids: Ids, other: str) -> None:
    assert not set(ids(other)) & set(ids())


def test_the_name_of_a_protocol_is_no_science(ids: Ids) -> None:
    assert ids(name="renamed") == ids()


def test_the_order_of_a_composition_is_no_science_and_training_has_one(ids: Ids) -> None:
    assert ids(method="kd+at") == ids(method="at+kd") != ids()
    assert registry.create("at+kd").card.name == registry.create("kd+at").card.name == "kd+at"


def test_settings_at_their_defaults_are_none_and_whole_numbers_are_numbers(ids: Ids) -> None:
    assert ids(method="{method: kd, settings: {kd: {temperature: 4, weight: 0.9}}}") == ids()
    eight = ids(method="{method: kd, settings: {kd: {temperature: 8}}}")
    assert eight == ids(method="{method: kd, settings: {kd: {temperature: 8.0}}}") != ids()


def test_a_teacher_protocol_may_spell_a_default_out(ids: Ids) -> None:
    spelt = PLAIN.replace("640", "640, flip: true").replace("epochs: 5", "epochs: 6")
    assert ids(teacher=spelt) == ids(teacher=spelt.replace(", flip: true", "")) != ids()
    with pytest.raises(AdmError, match="'data' of protocol 'one' and of teacher_protocol 'teacher' differ"):
        ids(teacher=spelt.replace("flip: true", "flip: false"))


@pytest.fixture
def grown(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Gives a model a further optional key, as a later version would."""

    def grow(which: str) -> None:
        field: dict[str, Any] = {"yet_to_come": (float, 0.5)}
        if which in ("recipe", "optimizer"):
            optimizer = create_model("Optimizer", __base__=Optimizer, **field)
            further = field if which == "recipe" else {"optimizer": (optimizer, ...)}
            grown = create_model("Recipe", __base__=Recipe, **further)
            protocol = create_model("Protocol", __base__=Protocol, recipe=(grown, ...))
            monkeypatch.setattr("suites.spec.definition.Protocol", protocol)
        elif which == "data":
            data = create_model("Data", __base__=data_settings.DataSettings, **field)
            monkeypatch.setattr(data_settings, "DataSettings", data)
        else:
            settings = make_dataclass("Settings", [("yet_to_come", float, 0.5)], bases=(KD.Settings,), frozen=True)
            monkeypatch.setattr(KD, "Settings", settings)

    yield grow


@pytest.mark.parametrize("which", ["recipe", "optimizer", "data", "settings"])
def test_a_further_key_with_its_default_moves_nothing(ids: Ids, grown: Callable[[str], None], which: str) -> None:
    before = ids()
    grown(which)
    assert ids() == before


def test_a_further_key_that_is_set_is_another_cell(ids: Ids, grown: Callable[[str], None]) -> None:
    before = ids()
    grown("data")
    assert not set(ids(PLAIN.replace("640", "640, yet_to_come: 0.6"))) & set(before)


def test_a_further_field_of_cells_with_its_default_moves_nothing(ids: Ids, tmp_path: Path) -> None:
    ids()
    cell = expand(str(tmp_path / "mine.yaml")).rows[1].cell
    further = create_model("Cell", __base__=Cell, yet_to_come=(int | None, None))
    assert further.model_validate(cell.model_dump()).id == cell.id
    assert further.model_validate(cell.model_dump() | {"yet_to_come": 1}).id != cell.id


def test_the_digests_of_the_protocols_that_come_with_the_benchmark_are_theirs_alone() -> None:
    from suites.spec.definition import load_protocol
    from suites.spec.names import protocol_names

    digests = {name: protocol_digest(load_protocol(name)[1]) for name in protocol_names()}
    assert len(set(digests.values())) == len(digests) and digests["digit-scenes-quick"] == "67101ec27132d8c9"
    assert set(catalogue.tasks()) == {load_protocol(name)[1].task for name in protocol_names()}


STRETCHED = """title: mine
blocks:
  - title: Table
    task: classification
    benchmark: digit-scenes@1
    protocol: smoke
    pairs: [resnet14w16s2 > resnet8w8s2]
    regime: offline
    methods: [{methods}]
    seeds: [0]
"""


def rows(folder: Path, methods: str) -> dict[str, Cell]:
    (folder / "mine.yaml").write_text(STRETCHED.format(methods=methods))
    return {planned.label: planned.cell for planned in expand(str(folder / "mine.yaml")).rows}


def test_a_stretch_is_science(tmp_path: Path) -> None:
    match, twice = "{method: none, stretch: match}", "{method: none, stretch: 2}"
    found = rows(tmp_path, f"none, kd, adm+kd, {match}, {twice}")
    assert list(found) == ["none", "kd", "adm+kd", "none (stretch=match)", "none (stretch=2)"]
    assert len({cell.id for cell in found.values()}) == 5
    assert found["none"] == rows(tmp_path, "none, kd")["none"]

    matched = found["none (stretch=match)"]
    assert matched.stretch is not None
    assert [[part.name for part in parts] for parts in matched.stretch.match] == [["kd"], ["kd", "adm"]]
    for alike in ("kd+adm, kd, {}, none", "none, kd, kd+adm, {}, {{method: kd, stretch: 3}}"):
        assert rows(tmp_path, alike.format(match))["none (stretch=match)"].id == matched.id
    for other in ("none, kd, {}", "none, {{method: kd, settings: {{kd: {{weight: 2}}}}}}, kd+adm, {}"):
        assert rows(tmp_path, other.format(match))["none (stretch=match)"].id != matched.id
    assert rows(tmp_path, "kd, {method: none, stretch: 2.0}")["none (stretch=2)"].id == found["none (stretch=2)"].id


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        ("{method: none, stretch: match}", r"'none \(stretch=match\)' is to train as long as the dearest other"),
        ("none, {method: none, stretch: match}", "and there is no other; add methods, or give a factor"),
        ("none, {method: none, stretch: 1}", "stretch"),
        ("none, {method: none, stretch: .inf}", "stretch"),
        ("none, {method: none, stretch: most}", "stretch"),
    ],
)
def test_a_stretch_that_says_nothing_is_refused(tmp_path: Path, methods: str, told: str) -> None:
    with pytest.raises(AdmError, match=told):
        rows(tmp_path, methods)
