"""What a wheel holds: the packages with their data, and nothing that is the repository's alone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("adm_core", "tasks", "suites", "results")
BESIDE = ("adm_bench.py", "adm_files.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of a copy of this tree, built with the setuptools that is installed; needs no network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in BESIDE:
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


def metadata(wheel: zipfile.ZipFile, name: str = "METADATA") -> str:
    (found,) = [entry for entry in wheel.namelist() if entry.endswith(f".dist-info/{name}")]
    return wheel.read(found).decode()


def test_the_wheel_holds_the_packages_with_their_data_and_no_leaderboards(wheel: zipfile.ZipFile) -> None:
    packaged = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.is_file()]
    leaderboards = ROOT / "results" / "leaderboards"
    wanted = {
        file.relative_to(ROOT).as_posix()
        for file in files
        if "__pycache__" not in file.parts and not file.is_relative_to(leaderboards)
    }
    assert packaged == wanted | {"adm_bench.py", "adm_files.py"}
    assert {Path(name).suffix for name in packaged} >= {".py", ".yaml", ".j2", ".css", ".js", ".safetensors", ".typed"}


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    told: Message = Parser().parsestr(metadata(wheel))
    assert told["Name"] == "adm-bench" and told["License-Expression"] == "Apache-2.0"
    assert told.get_all("License-File") == ["LICENSE"]
    assert metadata(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()
    assert "adm = adm_bench:main" in metadata(wheel, "entry_points.txt")
