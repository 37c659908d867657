"""The contract of a method as checks that its author can run: ``check_method("kd")`` or ``adm check --method kd``.

Every check trains tiny real networks for a step or two on the CPU; all together take a few seconds.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adm_core import registry
from adm_core.batch import Batch
from adm_core.compose import parts_of
from adm_core.distiller import Distiller, Outcome, Regime
from adm_core.errors import AdmError, Unsupported
from adm_core.method import CAPABILITIES, Losses, Method, Scalar, Step
from adm_core.optimizer import make_optimizer
from adm_core.recipe import Optimizer, Recipe
from adm_core.taps import Network
from adm_core.tiny import EXAMPLES, task_loss, tiny_batch, tiny_network

SettingsByPart = dict[str, dict[str, Scalar]]


@dataclass(frozen=True)
class Check:
    """One promise of the contract.

    Attributes:
        regime: in which it was tried.
        name: what was checked.
        passed: whether it holds.
        detail: why it does not hold, or why it does not apply.
    """

    regime: str
    name: str
    passed: bool
    detail: str = ""


@dataclass
class Bench:
    """A method set up on tiny networks in one regime, with an optimiser.

    Args:
        spec: method name or composition.
        regime: ``offline`` or ``online``.
        settings: per part, what differs from the defaults.
        widths: of student and teacher.
    """

    spec: str
    regime: Regime
    settings: SettingsByPart
    widths: tuple[int, int] = (8, 12)

    def __post_init__(self) -> None:
        self.method = registry.create(self.spec, self.settings)
        student, teacher = tiny_network(self.widths[0], 1), tiny_network(self.widths[1], 2)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.distiller = Distiller(
                student, teacher, self.method, self.regime, task_loss, "class_logits", tiny_batch().student_input[:2]
            )
        recipe = Recipe(epochs=1, batch_size=EXAMPLES, optimizer=Optimizer(name="sgd", lr=0.05))
        self.optimizer = make_optimizer(self.distiller, recipe)

    def loss(self, seed: int, progress: float = 0.5) -> Tensor:
        """The total loss of one random batch."""
        outcome: Outcome = self.distiller(self._batch(seed), progress, torch.Generator().manual_seed(seed))
        return outcome.total

    def step(self, seed: int, progress: float = 0.5) -> float:
        """One optimiser step; the loss before it."""
        loss = self.loss(seed, progress)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.distiller.after_step()
        return float(loss.detach())

    def losses(self, seed: int = 0, progress: float = 0.5) -> Losses:
        """What the method returns for one random batch, before anything is summed."""
        batch, d = self._batch(seed), self.distiller
        student = d._view("student", batch.student_input, batch.target)
        teacher = d._view("teacher", batch.teacher_input, batch.target)
        return self.method.losses(student, teacher, Step(batch.target, progress, torch.Generator().manual_seed(seed)))

    def _batch(self, seed: int) -> Batch:
        return tiny_batch(seed, 2 if self.method.needs.views == "own" else 1)


def _settings_round_trip(bench: Bench) -> str:
    each = {m.card.name: json.loads(json.dumps(m.resolved())) for m in parts_of(bench.method)}
    again = registry.create(bench.spec, each)
    return "" if again.resolved() == bench.method.resolved() else f"{again.resolved()} != {bench.method.resolved()}"


def _finite_terms(bench: Bench) -> str:
    losses = bench.losses()
    for role, terms in (("student", losses.student), ("teacher", losses.teacher)):
        for name, term in terms.items():
            if not isinstance(term, Tensor) or term.dim() != 0:
                return f"{role} term '{name}' is not a scalar tensor"
            if not bool(term.isfinite()):
                return f"{role} term '{name}' is {term.item()}"
    if bench.regime == "offline" and losses.teacher:
        return f"a frozen teacher got terms: {', '.join(losses.teacher)}"
    if not losses.student and not losses.teacher and bench.spec != "none":
        return "no term at all: it trains nothing"
    return ""


def _reaches(term: Tensor, module: nn.Module) -> bool:
    parameters = [p for p in module.parameters() if p.requires_grad]
    if not parameters or not term.requires_grad:
        return False
    grads = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return any(g is not None and bool(g.abs().sum() > 0) for g in grads)


def _gradients(bench: Bench) -> str:
    losses, d, detached = bench.losses(), bench.distiller, bench.method.card.detached
    crossed = []
    for role, terms in (("student", losses.student), ("teacher", losses.teacher)):
        own, other = (d.student, d.teacher) if role == "student" else (d.teacher, d.student)
        for name, term in terms.items():
            if not (own is not None and _reaches(term, own)):
                return f"{role} term '{name}' gives the {role} no gradient"
            if other is not None and _reaches(term, other):
                crossed.append(f"{role} term '{name}'")
    if detached and crossed:
        return f"{', '.join(crossed)} reaches the other network; detach its view, or declare card.detached=False"
    if not detached and bench.regime == "online" and not crossed:
        return "card.detached=False is declared, but no gradient crosses"
    return ""


def _frozen_teacher(bench: Bench) -> str:
    if bench.regime != "offline" or bench.distiller.teacher is None:
        return ""
    # The copy that is run may have its normalisation folded away; the tiny networks keep one that cannot be.
    watched = (bench.distiller.teacher, bench.distiller.networks["teacher"].module)
    before = [copy.deepcopy(module.state_dict()) for module in watched]
    bench.step(0)
    for module, state in zip(watched, before, strict=True):
        moved = [key for key, value in module.state_dict().items() if not torch.equal(value, state[key])]
        if moved:
            return f"the frozen teacher's {', '.join(moved)} changed in a step"
    return ""


def _trainables_move(bench: Bench) -> str:
    known = {id(p) for group in bench.optimizer.param_groups for p in group["params"]}
    parts = {name: p.detach().clone() for name, p in bench.distiller.parts.named_parameters()}
    for seed in range(3):
        bench.step(seed)
    for name, p in bench.distiller.parts.named_parameters():
        if p.requires_grad and id(p) not in known:
            return f"part {name} never reached the optimiser"
        if p.requires_grad and torch.equal(parts[name], p):
            return f"part {name} did not move in three steps"
    declared = "trainable-parts" in bench.method.needs.capabilities
    if declared != bool(parts):
        return f"capability trainable-parts declared: {declared}, but its parts are: {sorted(parts) or 'none'}"
    unknown = bench.method.needs.capabilities - set(CAPABILITIES)
    return f"unknown capabilities {sorted(unknown)}" if unknown else ""


def _taps_fire_when_wrapped(bench: Bench) -> str:
    class Wrapped(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.module(x)
            return out

    d = bench.distiller
    plain = float(bench.loss(0).detach())
    d.networks = {
        role: Network(n.name, Wrapped(n.module).train(n.module.training), n.taps, n.head)
        for role, n in d.networks.items()
    }
    wrapped = float(bench.loss(0).detach())
    return "" if plain == wrapped else f"loss {plain} became {wrapped} under a DDP-like wrapper"


def _deterministic(bench: Bench) -> str:
    twin = Bench(bench.spec, bench.regime, bench.settings, bench.widths)
    ours, theirs = ([b.step(seed) for seed in range(3)] for b in (bench, twin))
    return "" if ours == theirs else f"two runs of one seed gave {ours} and {theirs}"


def _bf16(bench: Bench) -> str:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = bench.loss(0)
    loss.backward()
    grads = [p.grad for p in bench.distiller.parameters() if p.grad is not None]
    finite = bool(loss.isfinite()) and all(bool(g.isfinite().all()) for g in grads)
    return "" if finite else "loss or gradient is not finite in bf16"


def _checkpoint(bench: Bench) -> str:
    for seed in range(2):
        bench.step(seed)
    file = io.BytesIO()
    torch.save({"distiller": bench.distiller.state_dict(), "optimizer": bench.optimizer.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    twin = Bench(bench.spec, bench.regime, bench.settings, bench.widths)
    twin.distiller.load_state_dict(state["distiller"])
    twin.optimizer.load_state_dict(state["optimizer"])
    ours, theirs = ([b.step(seed) for seed in (7, 8)] for b in (bench, twin))
    return "" if ours == theirs else f"after a checkpoint the next losses are {theirs}, not {ours}"


def _extremes(bench: Bench) -> str:
    for progress in (0.0, 1.0):
        if not bool(bench.loss(0, progress).isfinite()):
            return f"loss is not finite at progress {progress}"
    with torch.no_grad():
        bench.distiller.student.head.weight *= 1e3  # type: ignore[union-attr, operator]
    loss = bench.loss(0)
    loss.backward()
    bad = [name for name, p in bench.distiller.named_parameters() if p.grad is not None and not p.grad.isfinite().all()]
    return f"very confident logits give gradients that are not finite: {bad[0]}" if bad or not loss.isfinite() else ""


CHECKS: dict[str, Callable[[Bench], str]] = {
    "settings survive a JSON round trip": _settings_round_trip,
    "terms are finite named scalars": _finite_terms,
    "gradients reach what they should and nothing else": _gradients,
    "a frozen teacher keeps weights and statistics": _frozen_teacher,
    "trainable parts reach the optimiser and move": _trainables_move,
    "taps fire under a DDP-like wrapper": _taps_fire_when_wrapped,
    "one seed gives one result": _deterministic,
    "bf16 stays finite": _bf16,
    "a checkpoint gives the identical next loss": _checkpoint,
    "start, end and confident logits stay finite": _extremes,
}
"""Name of each promise to the function that returns an empty string, or what is wrong."""


def check_method(spec: str, settings: SettingsByPart | None = None) -> Iterator[Check]:
    """Try every promise of the contract on a method, in each regime that it declares.

    Args:
        spec: a registered name or a composition; load a file of your own with ``registry.load_file`` first.
        settings: per part, what differs from its defaults.

    Yields:
        A result per regime and promise, as soon as it is known.

    Raises:
        AdmError: there is no such method, or its settings are invalid.
    """
    method: Method = registry.create(spec, settings)
    for regime in sorted(method.card.regimes):
        widths = _widths_that_suit(spec, regime, settings or {})
        if isinstance(widths, str):
            yield Check(regime, "runs on the tiny networks", False, widths)
            continue
        for name, check in CHECKS.items():
            yield _try(regime, name, check, spec, settings or {}, widths)


def _widths_that_suit(spec: str, regime: Any, settings: SettingsByPart) -> tuple[int, int] | str:
    reason = ""
    for widths in ((8, 12), (8, 8)):
        try:
            Bench(spec, regime, settings, widths)
            return widths
        except Unsupported as error:
            reason = str(error)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return reason


def _try(
    regime: Any, name: str, check: Callable[[Bench], str], spec: str, settings: SettingsByPart, widths: tuple[int, int]
) -> Check:
    try:
        detail = check(Bench(spec, regime, settings, widths))
    except AdmError as error:
        detail = str(error)
    except Exception as error:  # a plug-in may fail in any way; the author needs to see how
        detail = f"{type(error).__name__}: {error}"
    return Check(regime, name, not detail, detail)
