"""Every registered method, and the compositions that suites use, honours the contract in every regime it declares."""

import pytest

from adm_core import registry
from adm_core.testing.checks import check_method

COMPOSITIONS = ["dml+adm", "kdcl+adm", "switokd+adm", "kd+adm", "dkd+adm"]
COMPOSITIONS += ["bsd+adm", "kd+skd", "kd+cwd+adm", "kd+cirkd+adm"]
COMPOSITIONS += ["kd+crd", "kd+ofd", "kd+ab"]
COMPOSITIONS += ["output+adm", "bksdm+adm", "koala+adm", "mutual+adm", "bksdm+progressive", "consistency+adm"]
WIDTHS = [("M", width) for width in ("auto", "pool", "class", "attention", "projector")]
FORMS_OF_ADM = [*WIDTHS, ("H", "auto"), ("W", "auto")]
"""Form and width act apart: the width shapes the maps that are compared, the form what their likeness weights."""
ADM = [{"form": form, "width": width, "stop_gradient": True} for form, width in FORMS_OF_ADM]
ADM += [{"form": "M", "width": width, "stop_gradient": False} for width in ("auto", "projector")]
KDCL = [{"ensemble": e} for e in ("naive", "linear", "min-logit")]


def broken(spec, settings=None):
    return [f"{c.regime}, {c.form}: {c.name}: {c.detail}" for c in check_method(spec, settings) if not c.passed]


@pytest.mark.parametrize("name", registry.names())
def test_every_method_honours_the_contract(name):
    assert broken(name) == []


@pytest.mark.parametrize("spec", COMPOSITIONS)
def test_compositions_honour_the_contract(spec):
    assert broken(spec) == []


@pytest.mark.parametrize("settings", ADM, ids=lambda s: "-".join(map(str, s.values())))
def test_every_form_and_width_of_adm_honours_the_contract(settings):
    assert broken("adm", {"adm": settings}) == []


@pytest.mark.parametrize("settings", KDCL, ids=lambda s: s["ensemble"])
def test_every_ensemble_of_kdcl_honours_the_contract(settings):
    checks = list(check_method("kdcl", {"kdcl": settings}))
    assert [c for c in checks if not c.passed] == []
    assert {c.form for c in checks if c.name != "declines with a reason"} >= {"images", "pixels"}
