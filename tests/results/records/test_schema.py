"""What a record promises: it survives its file, and holds nothing that it must not hold."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import pytest
from pydantic import ValidationError

from results.records.identity import canonical_json
from results.records.privacy import without_paths
from results.records.schema import (
    BenchmarkIdentity,
    Cell,
    Condition,
    LabelNoise,
    Manifest,
    MethodPart,
    NetworkIdentity,
    Record,
    Stretch,
    TeacherIdentity,
    TeacherRecipe,
)
from results.records.store import Store
from tests.results.factory import ENVIRONMENT, TOP1, failed, make_cell, make_manifest, make_record, make_row

SHA = "0123456789abcdef" * 4
REGIMES = ("alone", "offline", "online")


@pytest.mark.parametrize("regime", REGIMES)
def test_a_record_is_the_same_after_its_file(store: Store, regime: str) -> None:
    record = make_record(
        make_cell("dml+adm", 3, regime),
        curves={"epoch": [1.0, 2.0], "lr": [0.1, None]},
        environment=ENVIRONMENT | {"cuda": None, "tf32": True, "scale": 0.1},
        attempts=[{"status": "timeout", "reason": "after 5 s", "seconds": 5.0}, {"status": "ok", "seconds": 0.25}],
    )
    store.write_record(record)
    assert store.read_record(record.id) == record


def test_a_manifest_is_the_same_after_its_file(store: Store) -> None:
    manifest = make_manifest([make_cell(seed=s) for s in range(3)], title="Größe <1> & $x$")
    store.write_manifest(manifest)
    assert store.read_manifest("tiny") == manifest
    assert store.manifests() == ["tiny"]


def test_a_cells_id_is_the_hash_of_what_it_is() -> None:
    settings = {"weight": 1.0, "temperature": 4.5, "taps": ["last"]}
    parts = (
        MethodPart(name="kd", version=1, settings=settings, at_default=("taps",)),
        MethodPart(name="at", version=2),
    )
    cell = make_cell(parts=parts)
    text = (
        '{"benchmark":"digit-scenes@1","method":[{"name":"at","settings":{},"version":2},'
        '{"name":"kd","settings":{"temperature":4.5,"weight":1},"version":1}],"protocol_digest":"0123456789abcdef",'
        '"regime":"offline","seed":0,"student":"resnet8","task":"classification","teacher":"resnet20",'
        '"teacher_recipe":{"protocol_digest":"0123456789abcdef","seed":0}}'
    )
    assert cell.id == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert Cell.model_validate_json(cell.model_dump_json()).id == cell.id


def test_every_field_of_a_cell_but_the_protocols_name_enters_its_id() -> None:
    cell = make_cell("kd")
    changes: dict[str, Any] = {
        "task": "segmentation",
        "benchmark": "digit-scenes@2",
        "own_benchmark": BenchmarkIdentity(
            classes=3, image=8, mean=(0, 0, 0), std=(1, 1, 1), images={"train": 3, "test": 3}, files="0" * 64
        ),
        "condition": Condition(noise=LabelNoise(kind="symmetric", rate=0.2)),
        "protocol_digest": "f" * 16,
        "student": "resnet14",
        "teacher": "resnet32",
        "teacher_recipe": TeacherRecipe(protocol="quick", protocol_digest="0123456789abcdef", seed=1),
        "networks": {"resnet20": NetworkIdentity(base="resnet32")},
        "method": (MethodPart(name="kd", version=2, settings={"weight": 1.0}),),
        "stretch": Stretch(factor=2.0),
        "seed": 7,
    }
    assert changes.keys() | {"regime", "rule", "protocol"} == set(Cell.model_fields)
    assert make_cell("kd", protocol="slow").id == cell.id
    ids = {make_cell("kd", **{key: value}).id for key, value in changes.items() if key not in ("seed", "method")}
    ids |= {make_cell("kd", 7).id, make_cell(parts=changes["method"]).id, make_cell("kd", regime="online").id, cell.id}
    assert len(ids) == len(changes) + 2


@pytest.mark.parametrize(
    ("regime", "first", "wanted"),
    [
        ("alone", "9c82bb35a1d3574f", "0294a02d4194ac86"),
        ("offline", "e7864d65a522beea", "d1267c450efe618d"),
        ("online", "655520c099edaa64", "96a2fa6a2a5d0743"),
    ],
)
def test_the_ids_of_cells_without_networks_of_their_own_never_move(regime: str, first: str, wanted: str) -> None:
    assert (make_cell("kd", 3, regime, rule=1).id, make_cell("kd", 3, regime).id) == (first, wanted)
    assert "networks" not in make_cell("kd", 3, regime).model_dump(mode="json")


def test_a_setting_at_its_default_must_be_a_setting() -> None:
    with pytest.raises(ValidationError, match=r"at_default: \['weight'\] are no settings of it"):
        MethodPart(name="kd", version=1, at_default=("weight",))


def test_everything_that_a_suite_says_of_its_own_network_enters_the_id() -> None:
    definitions: list[dict[str, Any]] = [
        {}, {"base": "x.py"}, {"config": SHA}, {"overrides": {"head": {"width": [1, 2]}}}, {"checkpoint": SHA},
    ]  # fmt: skip
    cells = [
        make_cell(
            networks={"resnet20": NetworkIdentity(**{"base": "resnet32"} | definition)},
            **({"teacher_recipe": None} if "checkpoint" in definition else {}),
        )
        for definition in definitions
    ]
    assert len({cell.id for cell in cells}) == len(definitions)
    assert all(Cell.model_validate_json(cell.model_dump_json()) == cell for cell in cells)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"networks": {"other": NetworkIdentity(base="x")}}, "'other' is neither student nor teacher"),
        ({"networks": {"resnet20": NetworkIdentity(base="x", checkpoint=SHA)}}, "regime 'offline' takes"),
        ({"networks": {"resnet8": NetworkIdentity(base="x", checkpoint=SHA)}}, "can only be a frozen teacher"),
        ({"networks": {"resnet20": {"base": "/home/ann/x.py"}}}, "absolute path"),
        ({"networks": {"resnet20": {"base": "x", "overrides": {"a": [{"b": "/home/ann"}]}}}}, "absolute path"),
        ({"networks": {"resnet20": {"base": "x", "overrides": {"/home/ann": 1}}}}, "absolute path"),
        ({"networks": {"resnet20": {"base": "x", "overrides": {"a": [math.nan]}}}}, "not a finite number"),
        ({"networks": {"resnet20": {"base": "x", "checkpoint": "abc"}}}, "pattern"),
    ],
)
def test_a_definition_that_does_not_hold_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_cell(**changes)


def test_a_record_names_the_checkpoint_of_a_teacher_that_was_not_trained_here(store: Store) -> None:
    cell = make_cell(teacher_recipe=None, networks={"resnet20": NetworkIdentity(base="resnet32", checkpoint=SHA)})
    record = make_record(cell)
    store.write_record(record)
    assert store.read_record(record.id) == record
    assert record.teacher and (record.teacher.checkpoint, record.teacher.digest) == ("teacher.pth", SHA)
    other = record.model_dump() | {"teacher": TeacherIdentity(checkpoint="t.pth", digest="a" * 64)}
    with pytest.raises(ValidationError, match="not that of the checkpoint"):
        Record.model_validate(other)
    for places in ({}, {"cell_id": "0" * 16, "checkpoint": "t.pth"}):
        with pytest.raises(ValidationError, match="either from a cell or from a checkpoint"):
            TeacherIdentity(digest=SHA, **places)
    trained = TeacherIdentity(cell_id="0" * 16, digest=SHA)
    assert "checkpoint" not in trained.model_dump(mode="json")


def test_settings_in_another_order_are_the_same_cell() -> None:
    one = make_cell(parts=(MethodPart(name="kd", version=1, settings={"a": 1.0, "b": [2, "x"]}),))
    two = make_cell(parts=(MethodPart(name="kd", version=1, settings={"b": [2, "x"], "a": 1.0}),))
    assert one.id == two.id


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_number_is_other_than_finite(value: float) -> None:
    cell = make_cell()
    spoilt: list[dict[str, Any]] = [
        {"scores": {"student": {"top1": value}}},
        {"scores": {"student": {"top1": 1.0, "ece": value}}},
        {"curves": {"train.student.task": [value]}},
        {"cost": {"train_s": value}},
        {"cost": {"flops": {"student": value}}},
        {"environment": {"scale": value}},
        {"teacher": {"cell_id": "0" * 16, "digest": "0" * 64, "score": value}},
        {"attempts": [{"status": "ok", "seconds": value}]},
    ]
    for changes in spoilt:
        with pytest.raises(ValidationError):
            make_record(cell, **changes)
    with pytest.raises(ValidationError):
        MethodPart(name="kd", version=1, settings={"weight": value})
    with pytest.raises(ValueError):
        canonical_json({"x": value})


@pytest.mark.parametrize("key", ["host", "hostname", "Node", "user", "USERNAME", "login", "home", "cwd", "ip"])
def test_no_record_says_who_or_where(key: str) -> None:
    with pytest.raises(ValidationError, match="must not be recorded"):
        make_record(make_cell(), environment={key: "x"})


PATHS = (
    "/home/ann/x.py",
    "C:\\Users\\ann\\x",
    "~/data",
    "file:///home/ann",
    "see '/srv/data'",
    "path=/tmp/x",
    "(/a/b)",
    "`/home/ann/x.py`",
    "{/home/ann/x.py}",
    "a |/home/ann/x.py",
    "a;/home/ann/x.py",
    "a>/home/ann/x.py",
    "!/home/ann/x.py",
    "~ann/data",
    r"\\server\share\x",
)
NOT_PATHS = ("top1/top5", "images/s", "https://a.org/b", "torchvision/resnet18", "either / or", "./recipe.yaml", "a:b")
NOT_PATHS += ("f(x)/g(y)", r"a number \d+\w", "kd|dkd", "a > b", "1 / 2 and 3/4", "`images/s`", "{a}/{b}")


@pytest.mark.parametrize("text", PATHS)
def test_an_absolute_path_is_refused_where_text_is_recorded(text: str) -> None:
    places: list[dict[str, Any]] = [{"environment": {"data": text}}, {"capabilities": [text]}, {"data_digest": text}]
    for changes in places:
        with pytest.raises(ValidationError, match="absolute path"):
            make_record(make_cell(), **changes)
    with pytest.raises(ValidationError, match="absolute path"):
        make_cell(student=text)
    with pytest.raises(ValidationError, match="absolute path"):
        make_row(make_cell(), label=text)


@pytest.mark.parametrize("text", NOT_PATHS)
def test_what_only_looks_a_little_like_a_path_may_be_recorded(text: str) -> None:
    assert make_record(make_cell(), environment={"note": text}).environment["note"] == text
    assert without_paths(text) == text


def test_paths_in_a_reason_are_cut_to_their_last_part() -> None:
    record = failed(make_cell(), "error", "FileNotFoundError: '/home/ann/data/x.npz' is missing; see /var/log/y")
    assert record.reason == "FileNotFoundError: '.../x.npz' is missing; see .../y"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("see `/home/ann/x.py`; {/a/b}|/c/d", "see `.../x.py`; {.../b}|.../d"),
        ("'/home/ann lee/my file.txt' is missing", "'.../my file.txt' is missing"),
        ("/home/ann lee/x y/z.py: no such file", ".../z.py: no such file"),
        ("open C:\\Users\\Ann Lee\\x.py failed", "open .../x.py failed"),
        (r"on \\server\ann lee\x.py now", "on .../x.py now"),
        ("/home/ann is full", "... is full"),
        ("cannot read /a/b.txt while reading x/y in z", "cannot read .../b.txt while reading x/y in z"),
        ("/data/set or /scratch/ann/set, 3 images/s", ".../set or .../set, 3 images/s"),
        ("PosixPath('/home/ann/x')", "PosixPath('.../x')"),
    ],
)
def test_no_folder_of_a_path_is_left_in_a_reason(text: str, told: str) -> None:
    assert without_paths(text) == told and without_paths(told) == told


def test_a_long_reason_is_cut_once() -> None:
    record = failed(make_cell(), "error", "size mismatch; " * 5000)
    assert len(str(record.reason)) <= 1000 and "more characters in the log)" in str(record.reason)
    assert Record.model_validate_json(record.model_dump_json()) == record


def test_an_id_that_is_not_the_cells_is_refused() -> None:
    cell, other = make_cell(), make_cell(seed=1)
    with pytest.raises(ValidationError, match="is not the cell's"):
        make_record(cell, id=other.id)
    with pytest.raises(ValidationError, match="is not the cell's"):
        Manifest.model_validate(
            {"suite": "x", "title": "x", "rows": [{"cell": cell, "id": other.id, "label": "a", "block": "b"}]}
        )


@pytest.mark.parametrize(
    ("regime", "changes"),
    [
        ("alone", {"teacher": "resnet20"}),
        ("online", {"teacher": None}),
        ("online", {"teacher_recipe": TeacherRecipe(protocol="q", protocol_digest="0" * 16, seed=0)}),
        ("offline", {"teacher_recipe": None}),
    ],
)
def test_a_regime_says_what_teacher_there_is(regime: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"regime '{regime}' takes"):
        make_cell(regime=regime, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "diverged"}, "needs a reason"),
        ({"status": "lost", "reason": "x"}, "status"),
        ({"scores": {}}, "finite primary score"),
        ({"scores": {"student": {"top1": None}}}, "finite primary score"),
        ({"primary": None}, "finite primary score"),
        ({"curves": {"a": [1.0], "b": [1.0, 2.0]}}, "differ in length"),
        ({"hostname": "x"}, "Extra inputs"),
        ({"primary": TOP1.model_dump() | {"selection": "best-test"}}, "selection"),
        ({"schema_version": 1}, "schema_version"),
    ],
)
def test_a_record_that_does_not_hold_together_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_record(make_cell(), **changes)


def test_a_record_cannot_be_changed() -> None:
    record = make_record(make_cell())
    with pytest.raises(ValidationError):
        record.status = "error"
    assert Record.model_validate_json(record.model_dump_json()) == record
