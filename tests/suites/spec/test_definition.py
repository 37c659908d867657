"""Suite and protocol files: mistakes in them end with one message that names file, key, value and what would be right.

Every case is told to ``adm plan``: exit status 2, one line, no traceback.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import adm, refusal

from suites.spec.definition import MethodEntry, Pair, load_protocol, load_suite
from suites.spec.expand import expand
from suites.spec.names import protocol_names, suite_names

SUITE = """title: mine
blocks:
  - title: Table
    task: classification
    benchmark: digit-scenes@1
    protocol: smoke
    pairs: [resnet14w16s2 > resnet8w8s2]
    regime: offline
    methods: [none, kd]
    seeds: [0]
"""
PROTOCOL = """title: a recipe
source: tests
task: classification
recipe: {epochs: 1, batch_size: 64, optimizer: {name: sgd, lr: 0.1}}
"""
KD = "{method: kd, settings: {kd: %s}}"
NETWORKS = "networks: {tiny: {base: resnet8w8s2, overrides: {norm_eps: 1e-6, layers: [1, 2e0], on: no}}}\n"
OVERRIDE = "overrides:\n  - "


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Changes the good suite (or what follows it), plans it and returns the refusal."""
    monkeypatch.chdir(tmp_path)

    def tell(old: str = "", new: str = "", after: str = "", protocol: str = PROTOCOL) -> str:
        assert old in SUITE
        Path("recipe.yaml").write_text(protocol)
        Path("mine.yaml").write_text((SUITE.replace(old, new) if old else SUITE) + after)
        return refusal("plan", "mine.yaml")

    return tell


def test_the_good_suite_is_planned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(SUITE)
    assert adm("plan", "mine.yaml").code == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "title: mine",
            "titel: mine",
            "mine.yaml, line 1, column 1: unknown key 'titel' (value 'mine'); did you mean title, suites?",
        ),
        (
            "seeds: [0]",
            "seed: [0]",
            "mine.yaml, line 10, column 5: unknown key 'blocks.0.seed' (value [0]); did you mean seeds, teach",
        ),
        ("    regime: offline\n", "", "mine.yaml, line 3, column 5: key 'blocks.0.regime' is missing"),
        (
            "offline",
            "of-line",
            "mine.yaml, line 8, column 5: key 'blocks.0.regime' = 'of-line': should be 'offline', 'online' or 'peers'",
        ),
        ("title: mine", "title:", "line 1, column 1: key 'title' = null: should be text"),
        ("[0]", "[zero]", "mine.yaml, line 10, column 13: key 'blocks.0.seeds.0' = 'zero': should be a whole number"),
        ("[0]", "[0, 0]", "line 10, column 5: key 'blocks.0.seeds' = [0, 0]: seeds are distinct numbers from 0 on"),
        ("[none, kd]", "[]", "line 9, column 5: key 'blocks.0.methods' = []: needs at least 1"),
        ("[none, kd]", "kd", "line 9, column 5: key 'blocks.0.methods' = 'kd': should be a list"),
        ("2 > r", "2 r", "regime offline takes pairs of 'teacher > student' each, not 'resnet14w16s2 resnet8w8s2'"),
        ("kd]", "{method: kd, setting: {}}]", "unknown key 'blocks.0.methods.1.setting' (value {}); did you mean set"),
        (
            "kd]",
            "{method: kd, controls: [nome]}]",
            "unknown control of 'kd', a row of this block, 'nome'; did you mean none",
        ),
        ("kd]", "{method: kd, controls: [kd]}]", "'kd': its controls are other rows, each named once"),
        ("mine\n", "mine\n7: x\n", "line 2, column 1: key '7' = 7: keys should be strings"),
        ("title: mine", "title: see /home/ann/x", "key 'title' = 'see /home/ann/x': an absolute path"),
    ],
)
def test_mistakes_in_keys_and_values(told, old, new, message):
    assert message in told(old, new)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "title: mine",
            "title: mine\ntitle: again",
            "mine.yaml, line 2, column 1: key 'title' is given twice, first in line 1, column 1",
        ),
        (
            "offline",
            "offline\n    regime: online",
            "mine.yaml, line 9, column 5: key 'regime' is given twice, first in line 8, column 5",
        ),
        (
            "[none, kd]",
            "[none, kd",
            "mine.yaml, line 10, column 10: is not YAML: while parsing a flow sequence (line 9, column 14): "
            "expected ',' or ']', but got ':'",
        ),
        ("title: mine", "? [a, b]\n: 3", "mine.yaml, line 1, column 3: a key should be text, not a list or a mapping"),
        (SUITE, "- a list\n", "mine.yaml: holds a list, not a mapping of keys to values"),
        (SUITE, "", "mine.yaml: holds nothing, not a mapping of keys to values"),
    ],
)
def test_what_is_no_proper_yaml(told, old, new, message):
    assert told(old, new) == message


def test_nested_anchors_are_settings_as_if_written_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "{method: kd, label: two, settings: {kd: &two {temperature: 2, weight: 0.5}}}, " + (
        "{method: kd, label: four, settings: {kd: &four {<<: *two, temperature: 4}}}"
    )
    after = 'overrides: [{when: {student: "resnet8*"}, settings: {kd: {<<: *four, task_weight: 0.25}}}]\n'
    Path("mine.yaml").write_text(SUITE.replace("[none, kd]", f"[none, {rows}]") + after)
    settings = {
        row.label: row.cell.method[0].settings for row in expand("mine.yaml").cells if row.cell.method_name == "kd"
    }
    assert {label: (of["temperature"], of["weight"], of["task_weight"]) for label, of in settings.items()} == {
        "two": (2, 0.5, 0.25),
        "four": (4, 0.5, 0.25),
    }


def test_numbers_are_numbers_everywhere_and_yes_is_a_word(told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = SUITE.replace("kd]", "{method: kd, settings: {kd: {weight: 1e-2}}}]").replace("[0]", "[010, 0o10]")
    Path("mine.yaml").write_text(text.replace("resnet8w8s2]", "tiny]") + NETWORKS)
    suite = load_suite("mine.yaml")
    assert suite.blocks[0].methods[1].settings == {"kd": {"weight": 0.01}}
    assert suite.blocks[0].seeds == (10, 8)
    assert suite.networks["tiny"].overrides == {"norm_eps": 1e-6, "layers": [1, 2e0], "on": "no"}
    assert "line 10, column 13: key 'blocks.0.seeds.0' = 'yes': should be a whole number" in told("[0]", "[yes]")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (KD % "{temprature: 2}", "methods: method 'kd': unknown setting 'temprature'; did you mean temperature?"),
        (KD % "{temperature: warm}", "method 'kd': setting 'temperature' = 'warm'"),
        (KD % "{temperature: 0}", "method 'kd': setting 'temperature' = 0: Input should be greater than 0"),
        (KD % "{temperature: .nan}", "settings.kd.temperature' = nan: should be a finite number"),
        (KD % "{temperature: .inf}", "settings.kd.temperature' = inf: should be a finite number"),
        (KD % "{temperature: {a: 1}}", "should be a number, a word, true or false, or a list of these"),
        (KD % "{temperature: 2020-01-01}", "setting 'temperature' = '2020-01-01': Input should be a valid number"),
        ("{method: kd, settings: {temperature: 2}}", "'temperature' should stand under the name of its method"),
        (
            "{method: adm, settings: {adm: {form: Q}}}",
            "setting 'form' = 'Q': Input should be 'auto', 'H', 'M', 'W' or 'F'",
        ),
        ("{method: adm, settings: {adm: {taps: [/etc/x]}}}", "an absolute path must not be recorded"),
        ("{method: kd, settings: {dkd: {beta: 2}}}", "settings for 'kd': unknown method 'dkd'; did you mean kd?"),
    ],
)
def test_mistakes_in_settings(told, given, message):
    found = told("[none, kd]", f"[none, {given}]")
    assert found.startswith("mine.yaml") and message in found


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ("settings: {kd: {temperature: 2}}\n", "'settings' needs a sibling 'chosen' that says how they were chosen"),
        ("settings: {dkd: {}}\nchosen: so\n", "settings: unknown method 'dkd'; did you mean kd?"),
        (OVERRIDE + "{when: {methd: kd}, settings: {}}\n", "line 12, column 13: unknown key 'overrides.0.when.methd'"),
        (
            OVERRIDE + "{when: {teacher: resnet14}, settings: {kd: {weight: 2}}}\n",
            "overrides.0 matches no cell of the suite: when.teacher = 'resnet14'; did you mean resnet14w16s2",
        ),
        (
            OVERRIDE + "{when: {method: dkd}, settings: {dkd: {beta: 2}}}\n",
            "overrides.0 matches no cell of the suite: when.method = 'dkd'; did you mean kd?",
        ),
        (
            OVERRIDE + "{when: {regime: offline}, settings: {dkd: {beta: 2}}}\n",
            "overrides.0 matches no cell of the suite: settings.dkd; did you mean kd?",
        ),
    ],
)
def test_mistakes_in_settings_of_the_whole_suite(told, after, message):
    found = told(after=after)
    assert found.startswith("mine.yaml") and message in found


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lr: 0.1", "lr: 0", "recipe.yaml, line 4, column 60: key 'recipe.optimizer.lr' = 0: should be greater than 0"),
        (
            "lr: 0.1",
            "lr: .inf",
            "recipe.yaml, line 4, column 60: key 'recipe.optimizer.lr' = inf: should be a finite number",
        ),
        ("sgd", "sdg", "line 4, column 49: key 'recipe.optimizer.name' = 'sdg': should be 'sgd' or 'adamw'"),
        ("epochs: 1", "epoch: 1", "line 4, column 10: unknown key 'recipe.epoch' (value 1); did you mean epochs"),
        (
            "size: 64",
            "size: 64, accumulate: 7",
            "line 4, column 1: key 'recipe': batch_size 64 is not a multiple of acc",
        ),
        ("task: cl", "data: {flipp: true}\ntask: cl", "'recipe': unknown key 'data.flipp'; did you mean data.f"),
        ("task: cl", "data: {validation: 2}\ntask: cl", "key 'data.validation' = 2: should be 'own', a share of the"),
        ("task: cl", "data: {crop_padding: -1}\ntask: cl", "key 'data.crop_padding' = -1: should be greater than or"),
        ("classification", "diffusion", "protocol 'recipe' is for task 'diffusion', not 'classification'"),
    ],
)
def test_mistakes_in_a_protocol_file(told, old, new, message):
    assert message in told("protocol: smoke", "protocol: ./recipe.yaml", protocol=PROTOCOL.replace(old, new))


def test_a_protocol_file_that_is_not_there(told):
    message = told("protocol: smoke", "protocol: ./recipes.yaml")
    assert message == "mine.yaml, block 'Table', protocol: ./recipes.yaml: no such file"


def test_all_that_comes_along_can_be_read():
    for name in suite_names():
        assert load_suite(name).name == name
    for name in protocol_names():
        assert load_protocol(name)[0] == name


def test_short_forms():
    assert Pair.model_validate(" a>b ") == Pair(teacher="a", student="b")
    assert str(Pair.model_validate("a > b")) == "a > b"
    assert MethodEntry.model_validate("kd").shown == "kd"
    assert MethodEntry(method="kd", settings={"kd": {"temperature": 2}}).shown == "kd (temperature=2)"
    several = MethodEntry(method="kd+adm", settings={"kd": {"weight": 1}, "adm": {"form": "M"}})
    assert several.shown == "kd+adm (kd.weight=1, adm.form=M)"
    assert MethodEntry(method="kd", label="mine", settings={"kd": {"weight": 1}}).shown == "mine"
