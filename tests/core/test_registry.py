"""Finding methods: names, files, composition, settings, and what is said when something is wrong."""

import textwrap
from pathlib import Path

import pytest

from adm_core import registry
from adm_core.compose import parts_of
from adm_core.errors import AdmError
from adm_core.testing.checks import check_method
from adm_core.testing.setup import Setup

PLUGIN = """
from dataclasses import dataclass
from adm_core import Losses, Method, MethodCard, Needs, register

@register
class Mine(Method):
    card = MethodCard("{name}", "Mine", "", 2026, frozenset({{"offline"}}), "logits")
    needs = Needs(prediction="class_logits")

    def losses(self, student, teacher, step):
        return Losses(student={{"mse": (student.prediction - teacher.detached().prediction).pow(2).mean()}})
"""


def write(folder, name, text):
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def test_every_builtin_can_be_made_and_its_file_bears_its_name():
    for name in registry.names():
        assert registry.create(name).card.name == name


def test_a_file_of_ones_own_joins_the_registry_and_composes(tmp_path):
    file = write(tmp_path, "mine.py", PLUGIN.format(name="mine-a"))
    assert registry.load_file(file) == ["mine-a"]
    assert registry.load_file(file) == ["mine-a"]
    assert [m.card.name for m in parts_of(registry.create("mine-a+adm"))] == ["mine-a", "adm"]


def test_unknown_method_names_the_nearest():
    with pytest.raises(AdmError, match="unknown method 'dlm'; did you mean dml"):
        registry.create("dlm")
    with pytest.raises(AdmError, match="unknown method 'KDCL'; did you mean kdcl"):
        registry.create("KDCL")


def test_unknown_setting_names_the_nearest():
    with pytest.raises(AdmError, match="method 'kd': unknown setting 'temprature'; did you mean temperature"):
        registry.create("kd", {"kd": {"temprature": 1.0}})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": "warm"}, "setting 'temperature' = 'warm'"),
        ({"temperature": True}, "setting 'temperature' = True: Input should be a valid number"),
        ({"temperature": "2"}, "setting 'temperature' = '2': Input should be a valid number"),
        ({"temperature": 0.0}, "greater than 0"),
        ({"weight": -1.0}, "greater than or equal to 0"),
    ],
)
def test_wrong_type_and_range(settings, words):
    with pytest.raises(AdmError, match=words):
        registry.create("kd", {"kd": settings})


def test_a_list_is_asked_for_where_taps_are_read():
    with pytest.raises(AdmError, match="setting 'taps' = 'last': Input should be a list"):
        registry.create("adm", {"adm": {"taps": "last"}})
    assert registry.create("adm", {"adm": {"taps": ["stage2", "last"]}}).settings.taps == ("stage2", "last")


@pytest.mark.parametrize("name", [name for name in registry.names() if "tap" in registry.get(name).defaults()])
def test_a_group_of_several_maps_is_no_single_tap(name):
    for group in ("all-stages", "all-stages.preact"):
        with pytest.raises(AdmError, match=f"method '{name}': setting 'tap' = '{group}': a group of several maps"):
            registry.create(name, {name: {"tap": group}})
    assert registry.create(name, {name: {"tap": "hint"}}).needs.taps in [("hint",), ()]


def test_wrong_choice_lists_the_choices():
    with pytest.raises(AdmError, match="'auto', 'H', 'M', 'W' or 'F'"):
        registry.create("adm", {"adm": {"form": "Z"}})


def test_settings_for_a_part_that_is_not_there():
    with pytest.raises(AdmError, match=r"settings for 'dml\+adm': unknown method 'amd'; did you mean adm"):
        registry.create("dml+adm", {"amd": {}})


def test_two_methods_of_one_name_name_both_files(tmp_path):
    first = write(tmp_path, "first.py", PLUGIN.format(name="twice"))
    second = write(tmp_path, "second.py", PLUGIN.format(name="twice"))
    registry.load_file(first)
    with pytest.raises(AdmError, match=r"two methods are named 'twice': .*first\.py and .*second\.py"):
        registry.load_file(second)


def test_a_builtin_name_is_taken_even_before_it_is_imported(tmp_path):
    with pytest.raises(AdmError, match=r"two methods are named 'kd': .*kd\.py and .*mine\.py"):
        registry.load_file(write(tmp_path, "mine.py", PLUGIN.format(name="kd")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import torhc", r"cannot be imported: ModuleNotFoundError: No module named 'torhc' \(line 1 of bad.py\)"),
        ("x = 1 +", "SyntaxError"),
        ("x = 1", "registers no method"),
    ],
)
def test_a_broken_plugin_says_what_and_where(tmp_path, text, words):
    with pytest.raises(AdmError, match=words):
        registry.load_file(write(tmp_path, "bad.py", text))


def test_missing_file(tmp_path):
    with pytest.raises(AdmError, match="no such file"):
        registry.load_file(tmp_path / "nowhere.py")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("dml+dml", "the same part twice"),
        ("none+adm", "'none' adds nothing"),
        ("kd+dml", "no regime in common: 'kd' runs offline; 'dml' runs online"),
        ("one+adm", "'one' trains branches of one network, 'adm' several networks"),
        ("dml+cl-ilr", "'cl-ilr' trains branches of one network, 'dml' several networks"),
    ],
)
def test_compositions_that_make_no_sense(spec, words):
    with pytest.raises(AdmError, match=words):
        registry.create(spec)


def test_the_parts_of_a_composition_count_the_same_networks():
    with pytest.raises(
        AdmError, match="'mcl\\+dml': its parts want different numbers of networks: 'mcl' 3 and 'dml' 2"
    ):
        registry.create("dml+mcl", {"mcl": {"networks": 3}})
    alike = registry.create("dml+mcl", {"dml": {"networks": 3}, "mcl": {"networks": 3}})
    assert (alike.needs.peers, alike.needs.per_class) == (2, 2)
    assert registry.create("dml+dot", {"dml": {"networks": 3}}).needs.peers == 2  # dot counts none


def test_a_setting_that_gives_own_views_is_not_overruled_in_silence():
    assert registry.create("kdcl").needs.views == "own"
    told = "'kdcl' gives each network .* and 'adm' needs one that all share; set kdcl: {views: shared}"
    with pytest.raises(AdmError, match=told):
        registry.create("kdcl+adm")
    composed = registry.create("kdcl+adm", {"kdcl": {"views": "shared"}})
    assert composed.needs.views == "shared" and composed.resolved("online")["kdcl.views"] == "shared"


def test_shared_views_win_where_own_ones_are_no_setting():
    composed = registry.create("pets+adm").needs
    assert composed.views == "shared" and "own-views" not in composed.capabilities


def test_images_that_one_part_holds_out_are_not_trained_on_by_another():
    general = {"ensemble": "general", "views": "shared"}
    with pytest.raises(AdmError, match="'kdcl' holds training images out, on which other parts would train"):
        registry.create("dml+kdcl", {"kdcl": general})


def test_a_paused_teacher_is_not_trained_by_another_part():
    with pytest.raises(AdmError, match=r"'switokd' leaves .* out of some steps, in which 'jocor' would train it"):
        registry.create("jocor+switokd")


def test_task_weights_of_a_composition_are_those_of_the_part_that_sets_them():
    from adm_core.testing.setup import Setup

    assert Setup("kd+adm", "offline", {}).losses().student_task == pytest.approx(0.1)


OLD = """
from dataclasses import dataclass
from adm_core import Losses, Method, MethodCard, Needs, register


@register
class LogitMSE(Method):
    \"\"\"weight · mean (z_s - z_t)²: regress the teacher's logits (Ba & Caruana, arXiv:1312.6184).\"\"\"

    card = MethodCard(
        name="{name}",
        title="Logit regression",
        paper="arXiv:1312.6184",
        year=2014,
        regimes=frozenset({{"offline"}}),
        family="logits",
        version=1,
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        weight: float = 1.0

    def losses(self, student, teacher, step):
        target = teacher.detached().prediction
        return Losses(student={{"mse": self.settings.weight * (student.prediction - target).pow(2).mean()}})
"""
"""The example of docs/add-a-method.md as it stood before the second edition of the contract."""


def test_a_file_of_the_first_edition_works_unchanged(tmp_path):
    assert registry.load_file(write(tmp_path, "old.py", OLD.format(name="old-a"))) == ["old-a"]
    broken = [(check.form, check.name) for check in check_method("old-a") if not check.passed]
    assert broken == [("pixels", "void positions count for nothing")]  # it reads no mask, and never did


def test_the_example_of_the_page_keeps_the_contract(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0].replace('"logit-mse"', '"of-the-page"')
    assert registry.load_file(write(tmp_path, "of_the_page.py", code)) == ["of-the-page"]
    assert [(check.form, check.name, check.detail) for check in check_method("of-the-page") if not check.passed] == []


def test_what_is_no_losses_is_told_and_an_error_has_its_place(tmp_path):
    text = PLUGIN.format(name="returns-a-tensor")
    start = text.index("        return Losses(")
    registry.load_file(write(tmp_path, "tensor.py", text[:start] + "        return student.prediction.mean()\n"))
    with pytest.raises(AdmError, match=r"'returns-a-tensor': losses\(\) must return Losses, not Tensor"):
        Setup("returns-a-tensor", "offline", {}).outcome(0)
    text = PLUGIN.format(name="reads-no-tap").replace(
        "        return Losses(", "        student.features['stage9']\n        return Losses("
    )
    registry.load_file(write(tmp_path, "tap.py", text))
    line = next(
        number for number, each in enumerate((tmp_path / "tap.py").read_text().splitlines(), 1) if "stage9" in each
    )
    details = {check.detail for check in check_method("reads-no-tap") if not check.passed}
    assert details == {f"KeyError: 'stage9' (line {line} of tap.py)"}


def test_a_syntax_error_is_told_with_its_line_alone(tmp_path):
    file = write(tmp_path, "open.py", "x = (\n")
    with pytest.raises(AdmError, match=r"cannot be imported: SyntaxError: '\(' was never closed \(open\.py, line 1\)$"):
        registry.load_file(file)


def test_a_build_of_the_first_edition_is_told_what_to_change(tmp_path):
    text = OLD.format(name="old-b") + "\n    def build(self, student, teacher):\n        return {}\n"
    file = write(tmp_path, "old_b.py", text)
    with pytest.raises(AdmError) as told:
        registry.load_file(file)
    assert str(told.value) == (
        f"{file}: method 'old-b': build takes 2 arguments where three are given; "
        "write build(self, student, teacher, facts)"
    )
    assert "old-b" not in registry.names()


def test_a_part_whose_name_torch_refuses_is_told_before_anything_runs(tmp_path):
    build = "from torch import nn\n        return {f'fit_{tap}': nn.Identity() for tap in ('stage1', 'stage2.preact')}"
    text = PLUGIN.format(name="dotted") + f"\n    def build(self, student, teacher, facts):\n        {build}\n"
    registry.load_file(write(tmp_path, "dotted.py", text))
    with pytest.raises(
        AdmError, match=r"method 'dotted': build\(\) names a module 'fit_stage2\.preact', .* nn\.ModuleList"
    ):
        Setup("dotted", "offline", {})


def test_a_kind_of_prediction_of_the_first_edition_is_told_its_new_name(tmp_path):
    file = write(tmp_path, "old_c.py", OLD.format(name="old-c").replace('"class_logits"', '"noise"'))
    with pytest.raises(AdmError) as told:
        registry.load_file(file)
    assert str(told.value) == (
        f"method file {file}: needs.prediction 'noise': class_logits, denoiser or None; "
        "'noise' is called 'denoiser' now"
    )
