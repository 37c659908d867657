"""YAML files: numbers as version 1.2 has them, anchors as people nest them, and the place of every mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from adm_core.errors import AdmError
from adm_core.yaml_file import read_mapping, read_model
from adm_core.yaml_nodes import Document


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the working folder, so that messages begin with its name."""
    monkeypatch.chdir(tmp_path)
    return Path("some.yaml")


def refused(file: Path, text: str) -> str:
    """What is said about a text."""
    file.write_text(text)
    with pytest.raises(AdmError) as told:
        read_mapping(file)
    return str(told.value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-2", 0.01), ("1E5", 1e5), ("-1e+3", -1e3), (".5e3", 500.0), ("+.5", 0.5), ("3.", 3.0), ("1.5", 1.5),
        ("010", 10), ("08", 8), ("-3", -3), ("0o10", 8), ("0x1F", 31), ("+7", 7),
        ("yes", "yes"), ("No", "No"), ("on", "on"), ("y", "y"), ("true", True), ("False", False), ("TRUE", True),
        ("1:30", "1:30"), ("1_000", "1_000"), ("0b11", "0b11"), ("2020-01-01", "2020-01-01"), ("1e", "1e"), ("-", None),
        ("", None), ("~", None), ("null", None), ("'1e-2'", "1e-2"), ('"010"', "010"), ("!!str 1e-2", "1e-2"),
        ("!!float 1", 1.0), ("e1", "e1"), ("=", "="), ("-_", "-_"), ("|-\n 1e-2", "1e-2"),
    ],
)  # fmt: skip
def test_a_value_is_what_the_core_schema_of_yaml_1_2_says(written: str, value: Any) -> None:
    text = f"key: {written}\n" if written != "-" else "key:\n  - \n"
    read = Document(text).value["key"]
    read = read[0] if written == "-" else read
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize("number", ["0.1", "1e-06", "2.5e+20", "-3", "12345678901234567890"])
def test_numbers_are_those_of_json(number: str) -> None:
    assert Document(f"[{number}]").value == json.loads(f"[{number}]")


def test_every_file_claims_to_be_of_version_1_2() -> None:
    assert Document("%YAML 1.1\n---\n[yes, 010, 1e-2]\n").value == ["yes", 10, 0.01]


ANCHORS = """
two: &two {temperature: 2, weight: 0.5}
four: &four {<<: *two, temperature: 4}
eight: {task: 1, <<: [*four, {task: 2, extra: 3}]}
again: {<<: *four, temperature: 8}
same: *four
"""


def test_anchors_and_merge_keys_nest() -> None:
    value = Document(ANCHORS).value
    assert value["four"] == {"temperature": 4, "weight": 0.5} == value["same"]
    assert value["eight"] == {"temperature": 4, "weight": 0.5, "task": 1, "extra": 3}
    assert value["again"] == {"temperature": 8, "weight": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", ", line 3, column 1: key 'a' is given twice, first in line 1, column 1"),
        ("a: {b: 1, 'b': 2}\n", ", line 1, column 11: key 'b' is given twice, first in line 1, column 5"),
        ("a: {1: x, 01: y}\n", ", line 1, column 11: key '1' is given twice, first in line 1, column 5"),
        ("x: &x {k: 1}\ny: {<<: *x, <<: *x}\n", ", line 2, column 13: key '<<' is given twice, first in line 2, col"),
        ("a:\n  b: &b {c: *b}\n", ", line 2, column 6: an alias stands inside of what it refers to"),
        ("a: &a {<<: *a, b: 1}\n", ", line 1, column 4: an alias stands inside of what it refers to"),
        ("a: {<<: 3}\n", ", line 1, column 9: '<<' takes over a mapping or a list of mappings"),
        ("a: !!python/name:os.system\n", ", line 1, column 4: tag '!!python/name:os.system' is not known"),
        ("a: !!set {b}\n", ", line 1, column 4: tag '!!set' is not known"),
        ("a: !!int some\n", ", line 1, column 4: 'some' is not a number, as its tag says"),
        ("{a: 1}: 2\n", ", line 1, column 1: a key should be text, not a list or a mapping"),
        ("a: 1\nb: c: d\n", ", line 2, column 5: is not YAML: mapping values are not allowed here"),
        ("a: [1,\n\tb: 2\n", ", line 3, column 1: is not YAML: while parsing a flow sequence (line 1, column 4): "),
        ("a: *b\n", ", line 1, column 4: is not YAML: found undefined alias 'b'"),
        ("a: 1\n---\nb: 2\n", ", line 2, column 1: is not YAML: expected a single document in the stream (line 1, "),
        ("a: 1\nb: x\x07y\n", ", line 2, column 5: is not YAML: the character U+0007 may not stand in it"),
        ("a:\n  b: [1, 1e999]\n", ", line 2, column 10: key 'a.b.1' = inf: should be a finite number"),
        ("x: &x {k: .nan}\na:\n  <<: *x\n", ", line 1, column 8: key 'x.k' = nan: should be a finite number"),
        ("", ": holds nothing, not a mapping of keys to values"),
        ("- 1\n", ": holds a list, not a mapping of keys to values"),
    ],
)
def test_a_mistake_in_a_text_is_told_with_its_place(file: Path, text: str, message: str) -> None:
    assert refused(file, text).startswith(f"some.yaml{message}")


class Inner(BaseModel):
    """Something with numbers."""

    model_config = ConfigDict(extra="forbid")
    rate: float = Field(gt=0)
    count: int = 1


class Outer(BaseModel):
    """Something with a list and a mapping of those."""

    model_config = ConfigDict(extra="forbid")
    name: str
    several: list[Inner] = []
    named: dict[str, Inner] = {}
    share: Annotated[float, Field(lt=1)] | Literal["all"] | None = None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("several:\n- {rate: 1}\n- rate: 1\n  count: x\n", "line 4, column 3: key 'several.1.count' = 'x': should be"),
        ("several:\n- {rate: 1}\n- {count: 2}\n", "line 3, column 3: key 'several.1.rate' is missing"),
        ("named: {a: &a {rate: 1}, b: {<<: *a, rte: 1}}\n", "line 1, column 38: unknown key 'named.b.rte' (value 1)"),
        ("named:\n  a: {rate: 1}\n  1: {rate: 1}\n", "line 3, column 3: key 'named.1.[key]' = 1: should be text"),
        ("x: 1\n", "line 1, column 1: unknown key 'x' (value 1); there are: name, named"),
        ("several: 3\n", "line 1, column 1: key 'several' = 3: should be a list"),
        ("share: al\n", "line 1, column 1: key 'share' = 'al': should be a number, or 'all'"),
        ("share: 2\n", "line 1, column 1: key 'share' = 2: should be less than 1, or 'all'"),
    ],
)
def test_a_mistake_in_a_model_is_told_with_its_place(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(AdmError) as told:
        read_model(file, Outer, name="fixed")
    assert str(told.value).startswith(f"some.yaml, {message}")


def test_a_mistake_in_what_was_merged_is_told_where_it_was_written(file: Path) -> None:
    file.write_text("several:\n- &a\n  rate: 1\n- &b {<<: *a, count: 1.5}\nnamed: {x: {<<: *b, rate: 2}}\n")
    with pytest.raises(AdmError, match=r"line 4, column 15: key 'several\.1\.count' = 1\.5: should be a whole number"):
        read_model(file, Outer, name="fixed")


def test_a_key_that_the_whole_file_lacks_has_no_place(file: Path) -> None:
    file.write_text("several: []\n")
    with pytest.raises(AdmError, match=r"^some\.yaml: key 'name' is missing$"):
        read_model(file, Outer)


def test_a_byte_order_mark_is_not_part_of_the_first_key(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_mapping(file) == {"a": 1}


def test_what_cannot_be_read_is_told(file: Path, tmp_path: Path) -> None:
    file.write_bytes(b"a: \xff\n")
    with pytest.raises(AdmError, match=r"^some\.yaml: is not UTF-8 text$"):
        read_mapping(file)
    with pytest.raises(AdmError, match=r"absent\.yaml: cannot be read: No such file"):
        read_mapping(tmp_path / "absent.yaml")
