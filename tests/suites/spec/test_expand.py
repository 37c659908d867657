"""From a suite to its cells: names, precedence of settings, and what an identity depends on (and what it does not)."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from command_line import adm, refusal

from adm_core import registry
from adm_core.errors import AdmError
from suites.spec.expand import Expansion, expand, teacher_cell
from suites.spec.method_settings import method_of
from suites.spec.names import suite_names
from tasks import catalogue

SUITE = """title: mine
blocks:
  - title: Table
    task: classification
    benchmark: digit-scenes@1
    protocol: ./recipe.yaml
    pairs: [resnet14w16s2 > resnet8w8s2]
    regime: offline
    methods: [none, kd]
    seeds: [0, 1]
"""
PROTOCOL = """title: a recipe
source: tests
task: classification
recipe: {epochs: 1, batch_size: 64, optimizer: {name: sgd, lr: 0.1}}
"""
PLUGIN = """
from adm_core import Losses, Method, MethodCard, Needs, register


@register
class Pull(Method):
    card = MethodCard("{name}", "Pull", "none", 2026, frozenset({{"offline"}}), "logits", version={version})
    needs = Needs(prediction="class_logits")

    def losses(self, student, teacher, step):
        return Losses(student={{"pull": (student.prediction - teacher.detached().prediction).pow(2).mean()}})
"""


@pytest.fixture
def write(tmp_path: Path):
    """Writes a suite beside its protocol and returns the suite's file."""

    def to(suite: str = SUITE, protocol: str = PROTOCOL, name: str = "mine") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "recipe.yaml").write_text(protocol)
        (folder / f"{name}.yaml").write_text(suite)
        return folder / f"{name}.yaml"

    return to


def ids(expansion: Expansion) -> dict[tuple[str, int], str]:
    return {(row.label, row.cell.seed): row.id for row in expansion.rows}


def settings(file: Path, label: str) -> dict[str, object]:
    row = next(row for row in expand(str(file)).rows if row.label == label)
    return {key: value for part in row.cell.method for key, value in part.settings.items()}


@pytest.mark.parametrize("name", suite_names())
def test_every_suite_that_comes_along_expands_and_no_cell_stands_twice(name):
    expansion = expand(name)
    assert expansion.rows
    assert len({cell.id for cell in expansion.cells}) == len(expansion.cells)
    assert {row.teacher.id for row in expansion.rows if row.teacher} == {cell.id for cell in expansion.artefacts}
    apart = [row for row in expansion.rows if method_of(row.cell).needs.gradient_groups]
    # by other optimisers they would be skipped
    assert all(row.protocol.recipe.optimizer.name == "sgd" for row in apart)
    assert not any(row.protocol.recipe.optimizer.nesterov for row in apart)
    for row in expansion.rows:
        if each := method_of(row.cell).needs.per_class:  # a balanced batch's classes are different ones
            classes = catalogue.benchmarks(row.cell.task)[row.cell.benchmark].classes
            assert row.protocol.recipe.batch_size <= each * classes, row.label


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("kd]", "dk]", "methods: unknown method 'dk'; did you mean dpk, dkd, gdkd?"),
        ("kd]", "kd+ad]", "methods: unknown method 'ad'; did you mean"),
        ("resnet14w16s2", "resnet14w16s3", "pairs: unknown network (teacher) 'resnet14w16s3'; did you mean resnet14w"),
        ("resnet8w8s2", "resnet8w8", "pairs: unknown network (student) 'resnet8w8'; did you mean resnet8w8s2"),
        ("digit-scenes@1", "digit-scenes@2", "unknown benchmark 'digit-scenes@2'; did you mean digit-scenes@1"),
        ("task: classification", "task: clasification", "task: unknown task 'clasification'; did you mean classific"),
        ("./recipe.yaml", "smok", "protocol: unknown protocol 'smok'; did you mean smoke"),
        ("kd]", "dml]", "methods: method 'dml' does not run offline; it runs online"),
        ("kd]", "kd+dml]", "methods: method 'kd+dml' has no regime in common: 'kd' runs offline; 'dml' runs online"),
        ("kd]", "none+kd]", "methods: method 'none+kd': 'none' adds nothing to a composition; leave it out"),
        ("kd]", "kd, kd]", "methods: two rows are labelled 'kd'"),
        ("kd]", "kd, {method: kd, label: x}]", "methods: 'kd' and 'x' are the same experiment; leave one out"),
        (
            "kd]",
            "{method: fitnet, settings: {fitnet: {tap: stage9}}}]",
            "method 'fitnet': network 'resnet14w16s2': unknown tap 'stage9'; did you mean stage3, stage2, stage1?",
        ),
    ],
)
def test_a_wrong_name_is_told_with_its_place_and_its_neighbours(write, old, new, message):
    file = write(SUITE.replace(old, new, 1))
    found = refusal("plan", file)
    assert found.startswith(f"{file}, block 'Table', ") and message in found and "\n" not in found


SEGMENTORS = (
    SUITE.replace("classification", "segmentation")
    .replace("digit-scenes@1", "shape-scenes@3")
    .replace("./recipe.yaml", "shape-scenes-quick")
    .replace("resnet14w16s2 > resnet8w8s2", "segformer-b0x0.5 > pspnet-r18w8")
)


@pytest.mark.parametrize(
    ("row", "lacking"),
    [
        ("none", None),
        ("{method: fitnet, settings: {fitnet: {tap: all-stages.4}}}", None),
        ("ab", "'all-stages.preact'"),
        ("kd+ofd", "'all-stages.preact'"),
        ("reviewkd", "'all-stages.preact'"),
        ("{method: reviewkd, settings: {reviewkd: {preact: false}}}", None),
        ("dsd", "'auxiliary1'"),
        ("{method: dist, settings: {dist: {auxiliary_weight: 0.5}}}", "'auxiliary1'"),
    ],
)
def test_a_row_whose_method_reads_taps_that_a_network_lacks_is_to_be_skipped(write, row, lacking):
    rows = [found for found in expand(str(write(SEGMENTORS.replace("none, kd", row)))).rows if found.cell.seed == 0]
    there = "there are stage1, stage2, stage3, stage4, penultimate, logits"
    expected = lacking and f"network 'segformer-b0x0.5' has no tap {lacking}; {there}"
    assert [found.skipped for found in rows] == [expected]


UNDER = {
    "classification": ("digit-scenes@1", "resnet14w16s2 > resnet8w8s2", ""),
    "segmentation": ("shape-scenes@3", "pspnet-r18w16 > pspnet-r18w8", "data: {crop: [64, 64]}"),
    "diffusion": ("digits@2", "unet-w16 > unet-w8", "data: {sampling: {steps: 2, samples: 500}}"),
    "language": ("kjv-characters@1", "gpt2-l2w32 > gpt2-l1w16", ""),
}
DROPPED = "data: {sampling: {steps: 2, samples: 500}, conditional: true, label_dropout: 0.1}"
NOISED = "data: {{sampling: {{steps: 2, samples: 500}}, noise: {{{}}}}}".format
NOISE_ALONE = (
    "the method asks networks for the clean example where the noise schedule ends in noise alone, and to predict noise "
    "says nothing of it there; set the protocol's data.noise.prediction, or data.noise.schedule: linear"
)
FEW = "{} sampling steps do not fit into a noise schedule of 20 timesteps".format


TO_FEWER = ("progressive", "consistency", "rcfd", "sfd", "dmd2", "ect", "output+consistency")
STEPS = (
    ("progressive", "{steps: 3, rounds: 3}", 24), ("consistency", "{grid: 21}", 21), ("rcfd", "{steps: 11}", 22),
    ("rcfd", "{steps: 10}", None), ("sfd", "{steps: 4, between: 5}", 24), ("dmd2", "{steps: 21}", 21),
    ("dkdm", "{steps: 25}", 25), ("dkdm", "{steps: 20}", None),
)  # fmt: skip


@pytest.mark.parametrize(
    ("task", "row", "changes", "reason"),
    [
        ("diffusion", "kd+adm", {}, "the method reads class_logits, this task predicts denoiser"),
        ("segmentation", "output", {}, "the method reads denoiser, this task predicts class_logits"),
        ("segmentation", "bksdm", {}, "the method reads denoiser, this task predicts class_logits"),
        ("segmentation", "crld", {}, "the method needs a second, strong view, which segmentation does not have"),
        ("language", "pets", {}, "the method gives each network a view of its own, which language does not have"),
        ("classification", "{method: clda, settings: {clda: {adapt: true}}}", {},
         "the method needs pictures without labels, and only a block under a shift has some"),
        ("classification", "{method: clda, settings: {clda: {adapt: true}}}",
         {"regime:": "condition: {shift: {corruptions: [gaussian-noise], severity: 3}}\n    regime:"}, None),
        ("classification", "{method: clda, settings: {clda: {adapt: false}}}", {}, None),
        ("diffusion", "guidance", {},
         "the method needs networks that are sometimes told no class; a protocol's data.conditional and "
         "data.label_dropout train some"),
        ("diffusion", "guidance", {"data:": DROPPED}, None),
        *(("diffusion", method, {"data:": NOISED("schedule: cosine")}, NOISE_ALONE) for method in TO_FEWER),
        *(("diffusion", method, {"data:": NOISED("schedule: linear")}, None) for method in TO_FEWER),
        ("diffusion", "ect", {"data:": NOISED("schedule: cosine, prediction: v_prediction")}, None),
        ("diffusion", "progressive", {"data:": NOISED("schedule: cosine, prediction: sample")}, None),
        ("diffusion", "output", {"data:": NOISED("schedule: cosine")}, None),
        *(("diffusion", f"{{method: {method}, settings: {{{method}: {given}}}}}", {"data:": NOISED("timesteps: 20")},
           steps and FEW(steps)) for method, given, steps in STEPS),
        ("classification", "kd+dot", {}, None),
        ("classification", "kd+dot", {"sgd": "adamw"},
         "'kd+dot' treats momenta apart, which is defined for SGD without Nesterov, not adamw"),
        ("classification", "deepkd", {"batch_size": "clip_norm: 1, batch_size"},
         "'deepkd' keeps gradients apart, which clip_norm and precision fp16 would mix"),
    ],
)  # fmt: skip
def test_a_row_whose_method_is_not_for_the_task_or_the_recipe_is_to_be_skipped(write, task, row, changes, reason):
    benchmark, pair, data = UNDER[task]
    suite = SUITE.replace("classification", task).replace("digit-scenes@1", benchmark).replace("none, kd", row)
    suite = suite.replace("resnet14w16s2 > resnet8w8s2", pair)
    protocol = PROTOCOL.replace("classification", task) + changes.get("data:", data)
    for old, new in changes.items():
        suite, protocol = suite.replace(old, new), protocol.replace(old, new) if old != "data:" else protocol
    rows = expand(str(write(suite, protocol))).rows
    assert len(rows) == 2 and {found.skipped for found in rows} == {reason}


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("{method: at, settings: {at: {taps: [stage2, stage6]}}}", "unknown tap 'stage6'; did you mean stage4, stage3"),
        ("{method: at, settings: {at: {taps: [all-stages.preact]}}}", "unknown tap 'all-stages.preact'; did you mean"),
        ("{method: fitnet, settings: {fitnet: {tap: all-stages.5}}}", "unknown tap 'all-stages.5'; did you mean all-"),
    ],
)
def test_a_tap_that_the_suite_names_must_be_there(write, row, told):
    assert f"network 'segformer-b0x0.5': {told}" in refusal("plan", write(SEGMENTORS.replace("none, kd", row)))


DENOISING = """title: a recipe
source: tests
task: diffusion
recipe: {epochs: 1, batch_size: 64, optimizer: {lr: 0.1}}
data: {inherit: true, sampling: {steps: 10, samples: 100}}
"""
DENOISERS = (
    SUITE.replace("classification", "diffusion")
    .replace("digit-scenes@1", "digits@2")
    .replace("resnet14w16s2 > resnet8w8s2", "unet-w16 > unet-w8")
)


@pytest.mark.parametrize(
    ("suite", "protocol", "message"),
    [
        (SUITE.replace("digit-scenes", "fashion-mnist"), PROTOCOL + "data: {validation: own}\n",
         "key 'data.validation' = 'own': the benchmark has only train, test of its own; say which share of train to"),
        (SUITE, PROTOCOL + "data: {validation: own, scored: validation, test_limit: 9}\n",
         "key 'data.scored' = 'validation': scored 'validation' leaves no test images to limit; leave out"),
        (SUITE.replace("digit-scenes", "imagenet"), PROTOCOL + "data: {crop_padding: 4}\n",
         "key 'data.crop_padding' = 4: images in folders are cropped by RandomResizedCrop, without padding"),
        (DENOISERS.replace("offline", "online").replace("none, kd", "none"), DENOISING,
         "key 'data.inherit' = True: it is for students of a teacher that is trained first, and regime online has"),
    ],
)  # fmt: skip
def test_case_04_a_data_setting_that_would_be_ignored_is_refused_by_name(write, suite, protocol, message):
    """huggingface/pytorch-image-models#209: keys that entered the digest and changed nothing."""
    file = write(suite, protocol)
    told = refusal("plan", file)
    assert told.startswith(f"{file}, block 'Table', protocol") and f": {message}" in told


def test_a_wrong_suite_name(write, monkeypatch):
    assert refusal("plan", "qick").startswith("unknown suite 'qick'; did you mean quick")
    assert refusal("plan", "nowhere/mine.yaml") == "suite file nowhere/mine.yaml: no such file"
    monkeypatch.chdir(write().parent)
    assert refusal("plan", "mine") == "unknown suite 'mine'; did you mean the file mine.yaml?"
    told = "suite mine.py: is Python, not YAML; adm run SUITE --method-file mine.py adds its method"
    assert refusal("plan", "mine.py") == told
    Path("my suite.yaml").write_text(SUITE)
    assert "use letters, digits, '.', '_' and '-' only" in refusal("plan", "my suite.yaml")


def test_the_same_science_has_the_same_identity_wherever_and_however_it_is_run(write, tmp_path):
    here, there = write(), write(SUITE.replace("title: mine", "title: other words"), name="elsewhere")
    assert ids(expand(str(here))) == ids(expand(str(there)))
    plans = [
        adm("plan", here, "--json", "--store", tmp_path / store, "--device", device, "--workers", workers).json
        for store, device, workers in (("a", "cpu", 1), ("b", "auto", 7))
    ]
    assert [cell["id"] for cell in plans[0]["cells"]] == [cell["id"] for cell in plans[1]["cells"]]


def test_title_and_source_of_a_protocol_are_not_science_but_its_recipe_is(write):
    base = ids(expand(str(write())))
    told = PROTOCOL.replace("a recipe", "the recipe").replace("source: tests", "source: elsewhere")
    assert ids(expand(str(write(protocol=told)))) == base
    for change in (("lr: 0.1", "lr: 0.2"), ("epochs: 1", "epochs: 2"), ("task:", "data: {flip: false}\ntask:")):
        assert not set(ids(expand(str(write(protocol=PROTOCOL.replace(*change))))).values()) & set(base.values())


def test_defaults_written_out_give_the_identity_of_defaults_left_out(write):
    base = ids(expand(str(write())))
    defaults = registry.get("kd").defaults()
    entry = f"{{method: kd, label: kd, settings: {{kd: {{{', '.join(f'{k}: {v}' for k, v in defaults.items())}}}}}}}"
    assert ids(expand(str(write(SUITE.replace("kd]", f"{entry}]"))))) == base
    whole = PROTOCOL.replace("lr: 0.1", "lr: 0.10, momentum: 0.9, nesterov: false").replace("64,", "64, accumulate: 1,")
    assert ids(expand(str(write(protocol=whole)))) == base
    integer = "{method: kd, label: kd, settings: {kd: {temperature: 4}}}"
    assert ids(expand(str(write(SUITE.replace("kd]", f"{integer}]"))))) == base
    held = expand(str(write(SUITE.replace("kd]", "{method: kd, controls: [none]}]"))))
    assert ids(held) == base and {(row.label, row.controls) for row in held.rows} == {("none", ()), ("kd", ("none",))}


def test_seed_settings_pair_regime_benchmark_and_teacher_seed_are_science(write):
    base = set(ids(expand(str(write()))).values())
    assert len(base) == 4
    for change in (
        ("[0, 1]", "[2, 3]"),
        ("[none, kd]", "[dkd, {method: kd, settings: {kd: {temperature: 2}}}]"),
        ("resnet8w8s2", "resnet8"),
        ("resnet14w16s2", "resnet14"),
        ("offline", "online"),
        ("digit-scenes@1", "fashion-mnist@1"),
        ("seeds: [0, 1]", "seeds: [0, 1]\n    teacher_seed: 1"),
    ):
        text = SUITE.replace(*change).replace("[none, kd]", "[none, dml]" if "online" in change else "[none, kd]")
        assert not set(ids(expand(str(write(text)))).values()) & base, change


def test_a_methods_version_is_science(write, tmp_path):
    files = [tmp_path / f"pull{version}.py" for version in (1, 2)]
    for version, file in enumerate(files, start=1):
        file.write_text(textwrap.dedent(PLUGIN).format(name=f"pull-{tmp_path.name}", version=version))
    suite = write(SUITE.replace("kd]", f"pull-{tmp_path.name}]"))
    first = ids(expand(str(suite), [files[0]]))
    registry._known.pop(f"pull-{tmp_path.name}")  # as in another process, in which the file has been edited
    second = ids(expand(str(suite), [files[1]]))
    assert {key for key in first if first[key] != second[key]} == {(f"pull-{tmp_path.name}", s) for s in (0, 1)}


def test_the_teacher_is_one_artefact_per_recipe_whatever_learns_from_it(write):
    second = SUITE.split("blocks:\n")[1].replace("Table", "Other").replace("resnet8w8s2", "resnet8")
    one = expand(str(write(SUITE + second)))
    assert len(one.artefacts) == 1 and {row.teacher.id for row in one.rows} == {one.artefacts[0].id}
    assert all(teacher_cell(row.cell).id == one.artefacts[0].id for row in one.rows)
    assert len(expand(str(write(SUITE + second + "    teacher_seed: 5\n"))).artefacts) == 2
    alone = one.artefacts[0].cell
    assert (alone.regime, alone.student, alone.teacher, alone.method_name) == ("alone", "resnet14w16s2", None, "none")
    assert expand(str(write(SUITE.replace("offline", "online").replace("kd]", "dml]")))).artefacts == ()


def test_the_row_wins_over_the_override_and_the_override_over_the_suite(write):
    rows = "[none, kd, {method: kd, label: own, settings: {kd: {weight: 3}}}]"
    file = write(
        SUITE.replace("[none, kd]", rows)
        + "settings: {kd: {weight: 1, temperature: 7}}\nchosen: for this test\n"
        + "overrides:\n"
        + '  - {when: {teacher: "resnet*"}, settings: {kd: {weight: 2}}}\n'
        + "  - {when: {student: resnet8w8s2, method: kd}, settings: {kd: {task_weight: 0.5}}}\n"
    )
    assert settings(file, "kd") == {"temperature": 7.0, "weight": 2.0, "task_weight": 0.5, "standardise": False}
    assert settings(file, "own") == {"temperature": 7.0, "weight": 3.0, "task_weight": 0.5, "standardise": False}


def test_an_override_holds_for_the_part_of_a_composition(write):
    text = SUITE.replace("[none, kd]", "[none, kd, kd+adm]")
    file = write(text + "overrides:\n  - {when: {method: adm}, settings: {adm: {consensus: 2}}}\n")
    assert settings(file, "kd+adm")["consensus"] == 2.0
    assert "consensus" not in settings(file, "kd")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import torhc\n", "cannot be imported: ModuleNotFoundError: No module named 'torhc' (line 1 of plug.py)"),
        ("x = (\n", "cannot be imported: SyntaxError"),
        ("x = 1\n", "registers no method; put @register above the class"),
        (PLUGIN.format(name="kd", version=1), "two methods are named 'kd': "),
    ],
)
def test_a_method_file_that_is_no_good(write, tmp_path, text, message):
    plug = tmp_path / "plug.py"
    plug.write_text(text)
    found = refusal("plan", write(), "--method-file", plug)
    assert str(plug) in found and message in found


def test_a_method_file_that_is_not_there(write, tmp_path):
    absent = tmp_path / "no.py"
    assert refusal("plan", write(), "--method-file", absent) == f"method file {absent}: no such file"


def test_a_suite_of_suites_has_their_cells_with_their_own_settings(tmp_path):
    block = """
  - title: {title}
    task: classification
    benchmark: digit-scenes@1
    protocol: smoke
    pairs: [resnet14w16s2 > resnet8w8s2]
    regime: offline
    methods: [none, kd]
    seeds: [0]
settings: {{kd: {{temperature: {t}}}}}
chosen: by hand
data_roots: [data{t}]
"""
    for name, t in (("one", 2), ("two", 3)):
        (tmp_path / f"{name}.yaml").write_text(f"title: {name}\nblocks:" + block.format(title=name, t=t))
    both = tmp_path / "both.yaml"
    both.write_text("title: both\nsuites: [one.yaml, two.yaml]\n")
    whole = expand(str(both))
    parts = [expand(str(tmp_path / f"{name}.yaml")) for name in ("one", "two")]
    assert [row.id for row in whole.rows] == [row.id for part in parts for row in part.rows]
    assert [row.block for row in whole.rows] == ["one", "one", "two", "two"]
    assert len(whole.artefacts) == 1  # the teacher is the same
    assert whole.data_roots == (tmp_path / "data2", tmp_path / "data3")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("suites: [mine.yaml]", "leads back to this suite"),
        ("suites: [quik]", "suites: unknown suite 'quik'.*quick"),
        ("suites: [gone.yaml]", "gone.yaml: no such file"),
        ("data_roots: [x]", "needs 'blocks', or 'suites'"),
    ],
)
def test_a_suite_of_suites_that_cannot_be_is_told(tmp_path, text, told):
    file = tmp_path / "mine.yaml"
    file.write_text(f"title: mine\n{text}\n")
    with pytest.raises(AdmError, match=told):
        expand(str(file))


def test_a_frozen_teacher_may_be_trained_by_a_protocol_of_its_own(write):
    file = write(SUITE + "    teacher_protocol: ./longer.yaml\n")
    longer = file.parent / "longer.yaml"
    longer.write_text(PROTOCOL.replace("epochs: 1", "epochs: 9"))
    expansion = expand(str(file))
    (teacher,) = expansion.artefacts
    assert teacher.protocol.recipe.epochs == 9 and teacher.cell.protocol == "longer"
    assert {row.protocol.recipe.epochs for row in expansion.rows} == {1}
    assert ids(expansion).keys() == ids(expand(str(write()))).keys()
    assert not set(ids(expansion).values()) & set(ids(expand(str(write()))).values())
    longer.write_text(PROTOCOL + "data: {flip: false}\n")
    with pytest.raises(AdmError, match="'data' of protocol 'recipe' and of teacher_protocol 'longer' differ"):
        expand(str(write(SUITE + "    teacher_protocol: ./longer.yaml\n")))
    online = SUITE.replace("offline", "online").replace("kd", "dml")
    with pytest.raises(AdmError, match="teacher_protocol is for offline blocks"):
        expand(str(write(online + "    teacher_protocol: ./longer.yaml\n")))


@pytest.mark.parametrize(
    ("patterns", "told"),
    [
        ("{mobilnet*: {lr: 0.01}}", "recipe.networks: 'mobilnet\\*' matches none of the \\d+ networks of task"),
        ("{resnet21: {lr: 0.01}}", "'resnet21' matches none .*; did you mean .*resnet20"),
        ("{mobilenet*: {lr: 0.01}, 'torchvision/*': {lr: 0.1}, resnet8w8s2: {lr: 0.1}}", None),
    ],
)
def test_patterns_of_networks_that_match_nothing_are_refused(write, patterns, told):
    file = write()
    recipe = file.parent / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("epochs: 1,", f"epochs: 1, networks: {patterns},"))
    if told is None:
        assert expand(str(file)).rows
    else:
        with pytest.raises(AdmError, match=told):
            expand(str(file))
