"""The contract of a method as checks that its author can run: ``check_method("kd")`` or ``adm check --method kd``.

Every check trains tiny real networks for a step or two on the CPU; all together take a few seconds.
"""

from __future__ import annotations

import inspect
import multiprocessing
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adm_core import registry
from adm_core.compose import parts_of
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


def check_methods(
    specs: Sequence[str], processes: int, files: Sequence[Path] = ()
) -> Iterator[tuple[str, list[Check]]]:
    """:func:`check_method` of many methods, each by one of several processes of one torch thread.

    Args:
        specs: registered names or compositions, with their defaults.
        processes: at once.
        files: that register methods of one's own, for these processes.

    Yields:
        Each method with its results, in the order of ``specs``.
    """
    fresh = multiprocessing.get_context("spawn")  # a fork of a process that has run backward passes cannot run any
    with ProcessPoolExecutor(processes, fresh, initializer=_prepare, initargs=(tuple(files),)) as pool:
        yield from zip(specs, pool.map(_checked, specs), strict=True)


def _prepare(files: tuple[Path, ...]) -> None:
    torch.set_num_threads(1)
    for file in files:
        registry.load_file(file)


def _checked(spec: str) -> list[Check]:
    return list(check_method(spec))


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
        files = {inspect.getfile(type(part)) for part in parts_of(setup.method)}
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
        place = f" (line {own[-1].lineno} of {Path(own[-1].filename).name})" if own else ""
        detail = f"{type(error).__name__}: {error}{place}"
    return Check(setup.regime, setup.form, name, not detail, detail)
