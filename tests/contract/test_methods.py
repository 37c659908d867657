"""Every registered method, and the compositions that suites use, honours the contract in every regime it declares."""

import itertools
import math

import pytest

from adm_core import registry
from adm_core.testing.checks import FORMS, check_method, setup_that_suits
from adm_core.testing.promises import CHECKS, PIXEL_CHECKS
from adm_core.testing.setup import Setup
from tests.built_in import BUILT_IN

COMPOSITIONS = ["dml+adm", "kdcl+adm", "switokd+adm", "dcm+adm", "kd+adm", "dkd+adm"]
COMPOSITIONS += ["bsd+adm", "kd+skd", "kd+cwd+adm", "kd+cirkd+adm"]
COMPOSITIONS += ["kd+crd", "kd+ofd", "kd+ab", "kd+clda", "ft+clda", "kd+pets"]
COMPOSITIONS += ["output+adm", "bksdm+adm", "koala+adm", "mutual+adm", "bksdm+progressive", "consistency+adm"]
WIDTHS = [("M", width) for width in ("auto", "pool", "class", "attention", "projector")]
FORMS_OF_ADM = [*WIDTHS, ("H", "auto"), ("W", "auto")]
"""Form and width act apart: the width shapes the maps that are compared, the form what their likeness weights."""
ADM = [{"form": form, "width": width, "stop_gradient": True} for form, width in FORMS_OF_ADM]
ADM += [{"form": "M", "width": width, "stop_gradient": False} for width in ("auto", "projector")]
ADAPT = [("clda", {"confidence": 0.0}), ("pets", {}), ("kd+pets", {})]
"""What learns from pictures without labels by a setting, and what lets the tiny teachers be sure enough for it."""
KDCL = [{"ensemble": e} for e in ("naive", "linear", "min-logit", "general")]

OF_PARTS = {"a step on a GPU stays there and waits for nothing"}
"""What a composition keeps where its parts do: it has no operation of its own."""


def broken(setup, without=frozenset()):
    """The promises that a method set up so does not keep."""
    checks = CHECKS | (PIXEL_CHECKS if setup.form == "pixels" else {})
    details = {name: check(setup.twin()) for name, check in checks.items() if name not in without}
    return {name: detail for name, detail in details.items() if detail}


def setups(spec, settings, places):
    """The method in every regime and on every form of ``places`` that it does not decline."""
    tried = [setup_that_suits(spec, regime, settings, form) for regime, form in places]
    assert not [told for told in tried if isinstance(told, str)]
    return [setup for setup in tried if isinstance(setup, Setup)]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_method_honours_the_contract(name):
    assert [f"{c.regime}, {c.form}: {c.name}: {c.detail}" for c in check_method(name) if not c.passed] == []


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda teacher, step: teacher.prediction.mul_(2), "the teacher's prediction"),
        (lambda teacher, step: teacher.detached().features["stage2"].relu_(), "the teacher's stage2"),
        (lambda teacher, step: step.batch.student_input.add_(1), "batch.student_input, batch.teacher_input"),
    ],
)
def test_a_method_that_changes_what_it_is_shown_is_told_what(spoil, told):
    setup = Setup("fitnet", "offline", {"fitnet": {"tap": "stage2"}})
    losses = setup.method.losses
    setup.method.losses = lambda student, teacher, step: (losses(student, teacher, step), spoil(teacher, step))[0]
    detail = CHECKS["what a method is shown stays as it was"](setup)
    assert detail.startswith(f"{told} changed in place")


READS = [name for name in BUILT_IN if {"tap", "taps"} & registry.get(name).defaults().keys()]
"""The methods whose taps are settings."""
SETTINGS = {"adm": {"form": "M", "width": "projector"}, "cirkd": {"pixel_queue": 100, "pixel_contrast": 64}}
SETTINGS["cirkd"] |= {"region_contrast": 64}


@pytest.mark.parametrize("name", READS)
def test_taps_with_a_dot_in_their_name_can_be_read_and_groups_where_several_are(name):
    """Parts are of torch's modules, whose names must hold no dot."""
    several, tried = "taps" in registry.get(name).defaults(), []
    staged = [["stage2.preact", "last"]] + [["last", "all-stages"], ["all-stages.preact", "stage2"]] * several
    for form, each in (("images", staged), ("pixels", staged), ("denoisers", [["mid.attention", "up2"]])):
        for taps in each:
            own = SETTINGS.get(name, {}) | ({"taps": taps} if several else {"tap": taps[0]})
            for setup in setups(name, {name: own}, [("offline", form)]):
                assert not CHECKS["terms are finite named scalars"](setup)
                assert math.isfinite(setup.step(0)) and math.isfinite(setup.step(1))
                tried.append(form)
    assert tried


@pytest.mark.parametrize("spec", COMPOSITIONS)
def test_compositions_honour_the_contract(spec):
    every = {"cirkd": SETTINGS["cirkd"], "kdcl": {"views": "shared"}}
    settings = {name: own for name, own in every.items() if name in spec.split("+")}
    places = itertools.product(sorted(registry.create(spec, settings).card.regimes), FORMS)
    tried = {f"{setup.regime}, {setup.form}": broken(setup, OF_PARTS) for setup in setups(spec, settings, places)}
    assert tried and not any(tried.values()), tried


@pytest.mark.parametrize("settings", ADM, ids=lambda s: "-".join(map(str, s.values())))
def test_every_form_and_width_of_adm_honours_the_contract(settings):
    """Each regime and each form of prediction once: the default is tried on all of them together."""
    places = [("online", "images"), ("offline", "pixels"), ("online", "denoisers")]
    tried = {setup.form: broken(setup) for setup in setups("adm", {"adm": settings}, places)}
    assert "images" in tried and not any(tried.values()), tried


@pytest.mark.parametrize("settings", KDCL, ids=lambda s: s["ensemble"])
def test_every_ensemble_of_kdcl_honours_the_contract(settings):
    places = [("online", "images"), ("online", "pixels"), ("peers", "images")]
    tried = [broken(setup) for setup in setups("kdcl", {"kdcl": settings}, places)]
    assert tried == [{}] * (2 if settings["ensemble"] == "general" else 3)


def test_okddip_of_networks_honours_the_contract():
    networks = {"okddip": {"form": "networks", "count": 3}}
    tried = {setup.form: broken(setup) for setup in setups("okddip", networks, [("peers", form) for form in FORMS])}
    assert tried == {"images": {}, "pixels": {}}


@pytest.mark.parametrize(("spec", "settings"), ADAPT, ids=lambda value: str(value))
def test_what_adapts_honours_the_contract(spec, settings):
    own = {spec.rpartition("+")[2]: settings | {"adapt": True}}
    tried = {setup.form: broken(setup, OF_PARTS) for setup in setups(spec, own, [("offline", f) for f in FORMS])}
    assert tried == {"images": {}, "pixels": {}}
