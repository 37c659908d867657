"""What counts as a method's code, and as the code that all methods share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from adm_core import registry, source

METHOD = """
from adm_core import Losses, Method, MethodCard, Needs, register
{imports}

@register
class Mine(Method):
    card = MethodCard("watched-{name}", "Mine", "none", 2026, frozenset({{"offline"}}), "logits")
    needs = Needs(prediction="class_logits")

    def losses(self, student, teacher, step):
        return Losses(student={{"pull": (student.prediction - teacher.detached().prediction).pow(2).mean()}})
"""


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test registers is gone after it."""
    before = dict(registry._known)
    yield
    registry._known.clear()
    registry._known.update(before)


def digest(file: Path, name: str, imports: str = "") -> str | None:
    """The SHA-256 of a method whose file has just been written."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(METHOD.format(imports=imports, name=name))
    registry.load_file(file)
    return source.of_method(registry.get(f"watched-{name}"))


def test_a_file_of_ones_own_is_known_by_its_content(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    found = digest(file, "a")
    assert found == hashlib.sha256(file.read_bytes()).hexdigest()
    assert digest(tmp_path / "elsewhere" / "b.py", "b") != found


def test_what_it_imports_from_beside_itself_counts_and_what_only_lies_there_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "constants_of_mine.py").write_text("from further_of_mine import FACTOR\n")
    (tmp_path / "further_of_mine.py").write_text("FACTOR = 1.0\n")
    digests = []
    for number, further, unrelated in ((0, 1.0, 0), (1, 1.0, 1), (2, 2.0, 1)):
        (tmp_path / "further_of_mine.py").write_text(f"FACTOR = {further}\n")
        (tmp_path / "unrelated.py").write_text(f"{unrelated}\n")
        file = tmp_path / "mine.py"
        digest(file, "c", "from constants_of_mine import FACTOR")
        files = source._files(file, "mine")
        assert {path.name for path in files} == {"mine.py", "constants_of_mine.py", "further_of_mine.py"}
        digests.append(source.of_files(files))
        assert number or source.of_method(registry.get("watched-c")) == digests[0]
    assert digests[0] == digests[1] != digests[2]


def test_a_packages_modules_count_as_far_as_they_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "plugged_in"
    (package / "methods").mkdir(parents=True)
    (package / "losses.py").write_text("from . import constants\n")
    for name in ("__init__.py", "methods/__init__.py", "constants.py", "tests.py"):
        (package / name).touch()
    (package / "methods" / "mine.py").write_text(METHOD.format(imports="from ..losses import constants", name="d"))
    monkeypatch.syspath_prepend(tmp_path)
    __import__("plugged_in.methods.mine")
    files = source._files(package / "methods" / "mine.py", registry.get("watched-d").__module__)
    named = sorted(str(path.relative_to(package)) for path in files)
    assert named == ["__init__.py", "constants.py", "losses.py", "methods/mine.py"]


def test_a_method_that_builds_upon_another_changes_with_it() -> None:
    folder = Path(source.__file__).parent / "methods"
    named = {path.name for path in source._files(folder / "koala.py", "adm_core.methods.koala")}
    assert named == {"__init__.py", "koala.py", "bksdm.py"}
    assert source._files(folder / "kd.py", "adm_core.methods.kd") == {folder / "kd.py"}


def test_a_class_without_a_file_has_no_digest() -> None:
    assert source.of_method(type("Typed", (), {"__module__": "typed_into_a_session"})) is None


def test_folders_are_known_by_paths_and_content_of_their_modules_alone(tmp_path: Path) -> None:
    def of(files: dict[str, str]) -> str:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}" / "core"
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        return source.of_folders([folder], without=("methods",))

    plain = of({"a.py": "1", "b/c.py": "2"})
    assert plain == of({"a.py": "1", "b/c.py": "2", "methods/kd.py": "3", "notes.txt": "", "__pycache__/a.pyc": ""})
    assert len({plain, of({"a.py": "2", "b/c.py": "1"}), of({"a.py": "1", "c.py": "2"}), of({"a.py": "1"})}) == 4
