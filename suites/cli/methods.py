"""``adm check`` and ``adm new-method``."""

from __future__ import annotations

import re
import sys
from enum import StrEnum
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Annotated

import typer

from suites.cli.console import make_console, say

if TYPE_CHECKING:
    from adm_core.testing.checks import Check

_TEMPLATE = Template('''"""${title}: one sentence on what it does (authors, identifier of the paper)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from adm_core import losses
from adm_core.method import Losses, Method, MethodCard, Needs, Step, View
from adm_core.registry import register


@register
class ${class_name}(Method):
    """``CE + weight * T^2 KL(p_${source}(T) || p_own(T))``; put your formula and its source here."""

    card = MethodCard(
        name="${name}",
        title="${title}",
        paper="none",
        year=${year},
        regimes=frozenset({"${regime}"}),
        family="logits",
    )
    needs = Needs(prediction="class_logits")

    @dataclass(frozen=True)
    class Settings:
        """Say where the defaults come from."""

        temperature: Annotated[float, Field(gt=0)] = 4.0
        weight: Annotated[float, Field(ge=0)] = 1.0

    def losses(self, student: View, teacher: View, step: Step) -> Losses:
        """${terms}"""
        s = self.settings
${body}
''')

_BODIES = {
    "offline": """        target = teacher.detached().prediction  # no gradient reaches the teacher
        term = losses.logits.kl_divergence(student.prediction, target, s.temperature, step.mask)
        return Losses(student={"match": s.weight * term})""",
    "online": """        kl = losses.logits.kl_divergence
        to_student = kl(student.prediction, teacher.detached().prediction, s.temperature, step.mask)
        to_teacher = kl(teacher.prediction, student.detached().prediction, s.temperature, step.mask)
        return Losses(student={"match": s.weight * to_student}, teacher={"match": s.weight * to_teacher})""",
}


class Regime(StrEnum):
    """How teacher and student train."""

    offline = "offline"
    online = "online"


def check(
    method: Annotated[
        str | None, typer.Option("--method", help="Name of a method, a composition, or a Python file.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every method there is, one line each.")] = False,
    method_file: Annotated[list[Path] | None, typer.Option("--method-file", help="File that registers it.")] = None,
) -> None:
    """Try every promise of the method contract on tiny networks, in seconds on a CPU.

    Exit status: 0 all hold, 1 some do not, 2 bad input.

    Example: adm check --method my_method.py
    """
    from adm_core import registry
    from adm_core.errors import AdmError

    for file in method_file or []:
        registry.load_file(file)
    if every == (method is not None):
        raise AdmError("give either --method, what is to be checked, or --all")
    specs = registry.names() if method is None else [method]
    if method and method.endswith(".py"):
        specs = registry.load_file(Path(method))
    for spec in specs:
        registry.create(spec)  # a wrong name is told before torch is loaded
    tried, failed = _all_of(specs, method_file or []) if every else _each_of(specs)
    if not tried:
        raise AdmError(f"method '{method}': nothing was checked")
    of = f" of {len(specs)} methods" if every else ""
    make_console().print(f"{tried - failed} of {tried} checks{of} passed")
    sys.exit(1 if failed else 0)


def _each_of(specs: list[str]) -> tuple[int, int]:
    """Check methods one after the other, telling every promise; how many were tried, how many do not hold."""
    from adm_core.testing.checks import check_method

    tried = failed = 0
    for spec in specs:
        for result in check_method(spec):
            _tell(spec, result)
            tried, failed = tried + 1, failed + (not result.passed)
    return tried, failed


def _all_of(specs: list[str], files: list[Path]) -> tuple[int, int]:
    """Check many methods on all cores, telling each, and promises that do not hold; numbers as of :func:`_each_of`."""
    from adm_core.cpu import cores
    from adm_core.testing.checks import check_methods

    tried = failed = 0
    for spec, results in check_methods(specs, cores(), files):
        broken = [result for result in results if not result.passed]
        for result in broken:
            _tell(spec, result)
        if not broken:
            say(f"pass  {spec}  {len(results)} checks")
        tried, failed = tried + len(results), failed + len(broken)
    return tried, failed


def _tell(spec: str, result: Check) -> None:
    from rich.text import Text

    mark = ("pass", "green") if result.passed else ("FAIL", "bold red")
    detail = f": {result.detail}" if result.detail else ""
    told = f"  {spec}  {result.regime:7s}  {result.form}  {result.name}{detail}"
    make_console().print(Text.assemble(mark, told), soft_wrap=True)


def new_method(
    name: Annotated[str, typer.Argument(help="Its name in suites: lower case, digits, hyphens.")],
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default: NAME.py here.")] = None,
    regime: Annotated[Regime, typer.Option("--regime", help="Frozen teacher, or both trained together.")] = (
        Regime.offline
    ),
) -> None:
    """Write a method of your own as one file that runs and passes 'adm check'; then change its formula.

    Example: adm new-method my-method --regime online
    """
    from datetime import date

    from adm_core import registry
    from adm_core.errors import AdmError

    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise AdmError(f"'{name}' is not a method name: lower case letters, digits, single hyphens, e.g. my-method")
    if name in registry.names():
        raise AdmError(f"a method named '{name}' exists; choose another name")
    path = out or Path(f"{name.replace('-', '_')}.py")
    words = name.split("-")
    text = _TEMPLATE.substitute(
        name=name,
        title=" ".join(word.capitalize() for word in words),
        class_name="".join(word.capitalize() for word in words),
        year=date.today().year,
        regime=regime.value,
        source="teacher" if regime is Regime.offline else "peer",
        terms="One term, ``match``." if regime is Regime.offline else "One term each, ``match``.",
        body=_BODIES[regime.value],
    )
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise AdmError(f"{path} exists; give another --out") from None
    except OSError as error:
        raise AdmError(f"{path}: cannot be written: {error.strerror}") from None
    say(f"wrote {path}; next: adm check --method {path}")
