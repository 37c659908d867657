"""Networks that a suite defines itself, as far as a plan goes: identities, files, and every way to get them wrong."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import adm, refusal

from adm_core.errors import AdmError
from adm_core.network_definition import NetworkDefinition
from results.records.schema import Cell, NetworkIdentity
from suites.spec.expand import expand, teacher_cell
from suites.spec.networks import checkpoint_of, config_digest, definition_of, sha256
from tasks import catalogue
from tasks.classification import offer

SUITE = """title: mine
networks:
  own: {base: resnet14w16s2, checkpoint: weights/teacher.pth}
blocks:
  - title: Table
    task: classification
    benchmark: digit-scenes@1
    protocol: smoke
    pairs: [own > resnet8w8s2]
    regime: offline
    methods: [none, kd]
    seeds: [0]
"""
CONFIG = b"model = 1\n"


@pytest.fixture
def write(tmp_path: Path):
    """Writes a suite beside a teacher's weights, which are never read here, and returns the suite's file."""

    def to(suite: str = SUITE, folder: str = "here", weights: bytes = b"weights") -> Path:
        place = tmp_path / folder
        (place / "weights").mkdir(parents=True, exist_ok=True)
        (place / "weights" / "teacher.pth").write_bytes(weights)
        (place / "model.py").write_bytes(CONFIG)
        (place / "mine.yaml").write_text(suite)
        return place / "mine.yaml"

    return to


@pytest.fixture
def offering(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets the classification task take config files and overrides, and offer more, as another task does."""

    def change(**changes: Any) -> None:
        monkeypatch.setattr(offer, "OFFER", replace(offer.OFFER, **changes))

    change(check_definition=lambda definition: None)
    return change


def ids(file: Path) -> list[str]:
    return [row.id for row in expand(str(file)).rows]


def only(file: Path) -> Cell:
    return expand(str(file)).rows[-1].cell


def test_a_checkpoint_takes_the_place_of_the_teachers_training(write):
    expansion = expand(str(write()))
    digest = hashlib.sha256(b"weights").hexdigest()
    assert expansion.artefacts == () and [row.teacher for row in expansion.rows] == [None, None]
    for row in expansion.rows:
        assert row.cell.teacher_recipe is None and teacher_cell(row.cell) is None
        assert row.cell.networks == {"own": NetworkIdentity(base="resnet14w16s2", checkpoint=digest)}
    assert expansion.files == {digest: expansion.checkpoints[0].file}


def test_plan_and_status_tell_where_the_teacher_comes_from(write, tmp_path):
    file, store = write(), tmp_path / "runs"
    digest = hashlib.sha256(b"weights").hexdigest()
    told = f"teacher own: checkpoint teacher.pth (SHA-256 {digest[:12]}), not trained here"
    for command in ("plan", "status"):
        answer = adm(command, file, "--store", store)
        assert answer.code == 0 and told in answer.out.splitlines()
        assert str(tmp_path) not in answer.out
    plan = adm("plan", file, "--store", store, "--json").json
    assert plan["artefacts"] == [] and len(plan["cells"]) == 2
    assert plan["checkpoints"] == [{"network": "own", "file": "teacher.pth", "sha256": digest}]


def test_content_is_science_and_the_place_is_not(write):
    here = write()
    base = ids(here)
    assert ids(write(folder="there")) == base
    renamed = write(SUITE.replace("teacher.pth", "renamed.pth"))
    (here.parent / "weights" / "renamed.pth").write_bytes(b"weights")
    assert ids(renamed) == base
    known = SUITE.replace("networks:\n  own: {base: resnet14w16s2, checkpoint: weights/teacher.pth}\n", "")
    for other in (
        write(folder="a", weights=b"others"),
        write(SUITE.replace("own", "mine"), folder="b"),
        write(SUITE.replace("resnet14w16s2", "resnet14"), folder="c"),
        write(known.replace("own > ", "resnet14w16s2 > "), folder="d"),
    ):
        assert not set(ids(other)) & set(base)


def test_a_network_of_ones_own_without_weights_is_trained_like_any_other(write):
    text = SUITE.replace(", checkpoint: weights/teacher.pth", "")
    expansion = expand(str(write(text)))
    (teacher,) = expansion.artefacts
    assert (teacher.cell.student, teacher.cell.networks) == ("own", {"own": NetworkIdentity(base="resnet14w16s2")})
    assert all(row.teacher and row.teacher.id == teacher.id for row in expansion.rows)
    student = only(write(text.replace("own > resnet8w8s2", "resnet14 > own")))
    assert set(student.networks) == {"own"} and teacher_cell(student).networks == {}
    online = only(write(text.replace("offline", "online").replace("[none, kd]", "[dml]")))
    assert set(online.networks) == {"own"}


def test_a_library_network_may_be_the_base(write):
    assert only(write(SUITE.replace("resnet14w16s2", "timm/resnet10t"))).networks["own"].base == "timm/resnet10t"


def test_config_files_are_known_by_name_and_content(write, offering):
    text = SUITE.replace("resnet14w16s2", "model.py, overrides: {head: {width: 3}}")
    file = write(text)
    cell = only(file)
    own = cell.networks["own"]
    assert (own.base, own.config) == ("model.py", hashlib.sha256(CONFIG).hexdigest())
    assert own.overrides == {"head": {"width": 3}}
    files = expand(str(file)).files
    assert definition_of(cell, "own", files) == NetworkDefinition(
        "model.py", own.overrides, file.parent / "model.py", brought=True
    )
    assert definition_of(cell, "resnet8w8s2", files) is None
    assert ids(write(text, folder="there")) == ids(file)
    assert ids(write(text.replace("width: 3", "width: 4"))) != ids(write(text))


def test_a_config_that_builds_upon_others_is_known_by_all_of_them(tmp_path, offering):
    parts = [tmp_path / "a.py", tmp_path / "b.py"]
    for part in parts:
        part.write_text("x = 1\n")
    alone = config_digest("classification", parts[0])
    assert alone == sha256(parts[0])
    offering(config_files=lambda file: parts[1:])
    both = config_digest("classification", parts[0])
    parts[1].write_text("x = 2\n")
    assert len({alone, both, config_digest("classification", parts[0])}) == 3


@pytest.mark.parametrize("base", ["brought", "./brought"])
def test_a_folder_stands_for_the_files_that_the_task_finds_in_it(write, offering, base):
    def locate(place: str, part: str, where: str) -> Path:
        names = {"config": "net.cfg", "weights": "net.bin"}
        if not Path(place).is_dir():
            raise AdmError(f"{where}: {place} cannot be had")
        return Path(place) / names[part]

    offering(locate=locate)
    text = SUITE.replace("resnet14w16s2", base).replace("weights/teacher.pth", "brought")
    file = write(text)
    folder = file.parent / "brought"
    folder.mkdir()
    (folder / "net.cfg").write_bytes(CONFIG)
    (folder / "net.bin").write_bytes(b"weights")
    cell, expansion = only(file), expand(str(file))
    config, weights = (hashlib.sha256(content).hexdigest() for content in (CONFIG, b"weights"))
    assert cell.networks["own"] == NetworkIdentity(base="net.cfg", config=config, checkpoint=weights)
    assert expansion.files == {config: folder / "net.cfg", weights: folder / "net.bin"}
    assert definition_of(cell, "own", expansion.files) == NetworkDefinition("net.cfg", {}, folder / "net.cfg", True)
    assert checkpoint_of(cell, expansion.files) == folder / "net.bin"

    library = write(SUITE.replace("weights/teacher.pth", "timm/resnet10t"), folder="there")
    assert "networks.own.checkpoint: timm/resnet10t cannot be had" in refusal("plan", library)
    named = write(SUITE, folder="elsewhere")
    (named.parent / "resnet14w16s2").mkdir()
    assert only(named).networks["own"].base == "resnet14w16s2"  # a network's name comes before a folder's


def test_a_u_net_of_diffusers_may_be_given_as_its_folder(tmp_path):
    folder, weights = tmp_path / "pipeline" / "unet", b"weights"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(weights)
    config = catalogue.locate("diffusion", "pipeline", tmp_path, "config", "mine.yaml")
    assert config == folder / "config.json" == catalogue.locate("diffusion", str(config), tmp_path, "config", "")
    assert catalogue.locate("diffusion", "pipeline", tmp_path, "weights", "").read_bytes() == weights
    catalogue.check_definition("diffusion", NetworkDefinition("config.json", {}, config), "mine.yaml: networks.own")
    with pytest.raises(AdmError, match=r"^mine\.yaml: networks\.own\.overrides: unknown key 'dropuot'"):
        wrong = NetworkDefinition("config.json", {"dropuot": 0.1}, config)
        catalogue.check_definition("diffusion", wrong, "mine.yaml: networks.own")
    with pytest.raises(AdmError, match=rf"^x: {tmp_path}/gone: no such file$"):
        catalogue.locate("diffusion", "gone", tmp_path, "weights", "x")
    (folder / "config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    with pytest.raises(AdmError, match=rf"^x: {folder}: config\.json is of class UNet2DConditionModel"):
        catalogue.locate("diffusion", "pipeline", tmp_path, "weights", "x")


def test_a_file_that_changes_or_goes_after_the_plan_is_told(write, offering):
    file = write(SUITE.replace("resnet14w16s2", "model.py"))
    cell, files = only(file), expand(str(file)).files
    weights, config = file.parent / "weights" / "teacher.pth", file.parent / "model.py"
    assert checkpoint_of(cell, files) == weights
    weights.write_bytes(b"others")
    config.write_bytes(b"model = 2\n")
    with pytest.raises(AdmError, match=rf"^{weights}: has changed since the run was planned \(SHA-256 "):
        checkpoint_of(cell, files)
    with pytest.raises(AdmError, match=rf"^{config}: has changed since the run was planned \(SHA-256 "):
        definition_of(cell, "own", files)
    weights.unlink()
    with pytest.raises(AdmError, match=r"teacher 'own': .* was there when the run was planned and is gone"):
        checkpoint_of(cell, files)
    with pytest.raises(AdmError, match="nobody said where the file with SHA-256"):
        checkpoint_of(cell, {})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("weights/teacher.pth", "weights/tea.pth", ": networks.own.checkpoint: {folder}/weights/tea.pth: no such file"),
        ("weights/teacher.pth", "weights", ": networks.own.checkpoint: {folder}/weights: is a folder, not a file"),
        ("resnet14w16s2", "absent.py", ": networks.own.base: {folder}/absent.py: no such file"),
        ("resnet14w16s2", "some/model", ": networks.own.base: {folder}/some/model: no such file"),
        ("resnet14w16s2", "weights", ": networks.own.base: {folder}/weights: is a folder, not a file"),
        ("resnet14w16s2", "resnet14w16s3", ": networks.own.base: unknown network 'resnet14w16s3'; did you mean"),
        ("resnet14w16s2", "model.py", ": networks.own.base: classification builds no networks from files"),
        ("base: resnet14w16s2", "base: resnet14, overrides: {a: 1}", ": networks.own.overrides: classification takes"),
        ("base: resnet14w16s2", "base: timm/resnet10t, overrides: {normalisation: imagenet}",
         ": networks.own.overrides.normalisation = imagenet: should be 'benchmark', 'library', or"),
        ("own", "resnet20", ": networks.resnet20: classification already has a network of this name; choose another"),
        ("[own >", "[owm >", ": networks.own stands in no pair; did you mean owm?"),
        ("[own >", "[own > resnet8w8s2, owm >", "pairs: unknown network (teacher) 'owm'; did you mean own?"),
        ("own > resnet8w8s2", "resnet14 > own", "pairs: network 'own' is the student, but"),
        ("offline", "online", "pairs: network 'own' is trained online, but"),
        ("checkpoint:", "chekpoint:", ": unknown key 'networks.own.chekpoint'"),
        ("  own:", "  o/n:", ": key 'networks.o/n.[key]'"),
        ("base: resnet14w16s2, ", "", ": key 'networks.own.base' is missing"),
        ("kd]", "{method: fitnet, settings: {fitnet: {tap: stage9}}}]", "unknown tap 'stage9'"),
        ("resnet14w16s2,", "x.py, overrides: {a: /home/ann},", ": key 'networks.own.overrides': an absolute"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(write, old, new, message):
    file = write(SUITE.replace(old, new, 1) if old != "own" else SUITE.replace("own", new))
    found = refusal("plan", file)
    assert found.startswith(str(file)) and "\n" not in found
    assert message.format(folder=file.parent) in found


def test_the_suites_of_the_documentation_expand(tmp_path):
    page = (Path(__file__).resolve().parents[3] / "docs" / "suites.md").read_text()
    suites = [text for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if text.startswith("title:")]
    (tmp_path / "teacher.safetensors").write_bytes(b"weights")
    for split in ("train", "val", "test"):
        for number in range(102):
            (tmp_path / "data" / "flowers" / split / f"{number:03}").mkdir(parents=True)
            (tmp_path / "data" / "flowers" / split / f"{number:03}" / "0.jpg").write_bytes(b"x")
    cells = []
    for text in suites:
        (tmp_path / "page.yaml").write_text(text)
        cells.append(len(expand(str(tmp_path / "page.yaml")).cells))
    assert cells == [16, 2, 7, 6]
