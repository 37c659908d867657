"""The contract of a method as checks that its author can run: ``check_method("kd")`` or ``adm check --method kd``.

Every check trains tiny real networks for a step or two on the CPU; all together take a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from adm_core import registry
from adm_core.errors import AdmError, Unsupported
from adm_core.method import Method
from adm_core.testing.networks import Form
from adm_core.testing.promises import CHECKS, PIXEL_CHECKS
from adm_core.testing.setup import SettingsByPart, Setup

FORMS: tuple[Form, ...] = ("images", "pixels", "denoisers")


@dataclass(frozen=True)
class Check:
    """One promise of the contract.

    Attributes:
        regime: in which it was tried.
        form: on what: whole images, pixels or denoisers.
        name: what was checked.
        passed: whether it holds.
        detail: why it does not hold, or why it does not apply.
    """

    regime: str
    form: Form
    name: str
    passed: bool
    detail: str = ""


def check_method(spec: str, settings: SettingsByPart | None = None) -> Iterator[Check]:
    """Try every promise of the contract on a method, on images, pixels and denoisers, in each regime that it declares.

    It may decline some of these forms (``supports``), which is told, but not all.

    Args:
        spec: a registered name or a composition; load a file of your own with ``registry.load_file`` first.
        settings: per part, what differs from its defaults.

    Yields:
        A result per regime, form and promise, as soon as it is known.

    Raises:
        AdmError: there is no such method, or its settings are invalid.
    """
    method: Method = registry.create(spec, settings)
    for regime in sorted(method.card.regimes):
        setups: dict[Form, Setup | Unsupported | str] = {
            form: setup_that_suits(spec, regime, settings or {}, form) for form in FORMS
        }
        runs = any(isinstance(setup, Setup) for setup in setups.values())
        for form, setup in setups.items():
            if isinstance(setup, Setup):
                checks = CHECKS | (PIXEL_CHECKS if form == "pixels" else {})
                yield from (_try(name, check, setup) for name, check in checks.items())
            else:
                declines = isinstance(setup, Unsupported) and runs
                name = "declines with a reason" if declines else "runs on the tiny networks"
                yield Check(regime, form, name, declines, str(setup))


def setup_that_suits(spec: str, regime: Any, settings: SettingsByPart, form: Form) -> Setup | Unsupported | str:
    """A method on networks of unequal widths, or of equal ones where it declines those.

    Returns:
        The setup, why the method declines both, or what went wrong.
    """
    reason: Unsupported | None = None
    for widths in ((8, 12), (8, 8)):
        try:
            return Setup(spec, regime, settings, widths, form)
        except Unsupported as error:
            reason = reason or error
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return reason or ""


def _try(name: str, check: Callable[[Setup], str], setup: Setup) -> Check:
    try:
        detail = check(setup.twin())
    except AdmError as error:
        detail = str(error)
    except Exception as error:  # a plug-in may fail in any way; the author needs to see how
        detail = f"{type(error).__name__}: {error}"
    return Check(setup.regime, setup.form, name, not detail, detail)
