"""The contract of a method as checks that its author can run: ``check_method("kd")`` or ``adm check --method kd``.

Every check trains tiny real networks for a step or two on the CPU; all together take a few seconds.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from adm_core import registry
from adm_core.compose import parts_of
from adm_core.errors import AdmError, Unsupported
from adm_core.losses.spatial import at_size
from adm_core.method import CAPABILITIES, Losses, Method
from adm_core.testing.networks import CLASSES, Form
from adm_core.testing.setup import Bench, SettingsByPart

FORMS: tuple[Form, ...] = ("images", "pixels", "noise")


@dataclass(frozen=True)
class Check:
    """One promise of the contract.

    Attributes:
        regime: in which it was tried.
        form: on what: whole images, pixels or noise.
        name: what was checked.
        passed: whether it holds.
        detail: why it does not hold, or why it does not apply.
    """

    regime: str
    form: Form
    name: str
    passed: bool
    detail: str = ""


def _settings_round_trip(bench: Bench) -> str:
    each = {m.card.name: json.loads(json.dumps(m.resolved())) for m in parts_of(bench.method)}
    again = registry.create(bench.spec, each)
    return "" if again.resolved() == bench.method.resolved() else f"{again.resolved()} != {bench.method.resolved()}"


def _by_role(losses: Losses) -> list[tuple[str, Mapping[str, Tensor]]]:
    return [("student", losses.student), ("teacher", losses.teacher), ("parts", losses.parts)]


def _finite_terms(bench: Bench) -> str:
    losses = bench.losses()
    for role, terms in _by_role(losses):
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
    bench.step(0)  # a student that starts as its teacher has nothing to follow before
    losses, d, detached = bench.losses(), bench.distiller, bench.method.card.detached
    apart = nn.ModuleList(part for part, _ in d.parts_trained_apart())
    # role: what its terms must reach, and what they must not
    reach: dict[str, tuple[nn.Module | None, list[nn.Module | None]]] = {
        "student": (d.student, [d.teacher, apart]),
        "teacher": (d.teacher, [d.student, apart]),
        "parts": (d.parts, [d.student, d.teacher]),
    }
    crossed = []
    for role, terms in _by_role(losses):
        own, others = reach[role]
        for name, term in terms.items():
            if not (own is not None and _reaches(term, own)):
                return f"{role} term '{name}' gives the {role} no gradient"
            if any(other is not None and _reaches(term, other) for other in others):
                crossed.append(f"{role} term '{name}'")
    if detached and crossed:
        how = "detach the other network's view, use method.constant for a critic, or declare card.detached=False"
        return f"{', '.join(crossed)} reaches what it should not train; {how}"
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
    known = {id(p) for o in bench.optimizers for group in o.param_groups for p in group["params"]}
    trained = [(name, p) for name, p in bench.distiller.parts.named_parameters() if p.requires_grad]
    parts = {name: p.detach().clone() for name, p in trained}
    for seed in range(3):
        bench.step(seed)
    for name, p in trained:
        if id(p) not in known:
            return f"part {name} never reached the optimiser"
        if torch.equal(parts[name], p):
            return f"part {name} did not move in three steps"
    needs = bench.method.needs
    capabilities, apart, copies = needs.capabilities, list(bench.method.optimizers()), list(needs.copies)
    declared = {"trainable-parts": sorted(parts), "own-optimiser": apart, "network-copies": copies,
                "starts-as-teacher": needs.starts_as_teacher}  # fmt: skip
    if bench.widths[0] == bench.widths[1] and not parts:
        del declared["trainable-parts"]  # adapters are for unequal widths
    for capability, there in declared.items():
        if (capability in capabilities) != bool(there):
            return f"capability {capability} declared: {capability in capabilities}, but there are: {there or 'none'}"
    unknown = capabilities - set(CAPABILITIES)
    return f"unknown capabilities {sorted(unknown)}" if unknown else ""


def _taps_fire_when_wrapped(bench: Bench) -> str:
    class Wrapped(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs: Tensor) -> Tensor:
            out: Tensor = self.module(*inputs)
            return out

    d = bench.distiller
    plain = float(bench.loss(0).detach())
    d.networks = {role: replace(n, module=Wrapped(n.module).train(n.module.training)) for role, n in d.networks.items()}
    wrapped = float(bench.loss(0).detach())
    return "" if plain == wrapped else f"loss {plain} became {wrapped} under a DDP-like wrapper"


def _deterministic(bench: Bench) -> str:
    twin = bench.twin()
    ours, theirs = ([b.step(seed) for seed in range(3)] for b in (bench, twin))
    return "" if ours == theirs else f"two runs of one seed gave {ours} and {theirs}"


def _bf16(bench: Bench) -> str:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = bench.loss(0)
    loss.backward()
    grads = [p.grad for p in bench.distiller.parameters() if p.grad is not None]
    return "" if all(bool(x.isfinite().all()) for x in (loss, *grads)) else "loss or gradient is not finite in bf16"


def _checkpoint(bench: Bench) -> str:
    for seed in range(2):
        bench.step(seed)
    file = io.BytesIO()
    optimizers = [optimizer.state_dict() for optimizer in bench.optimizers]
    torch.save({"distiller": bench.distiller.state_dict(), "optimizers": optimizers}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    twin = bench.twin()
    twin.distiller.load_state_dict(state["distiller"])
    for optimizer, own in zip(twin.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(own)
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


def _void_is_ignored(bench: Bench) -> str:
    batch = bench.batch(0)
    if batch.mask is None or bench.spec == "none":
        return ""
    views = {}
    for role, view in bench.distiller.views(batch)[0].items():
        leaf = view.prediction.detach().requires_grad_(view.prediction.requires_grad)
        views[role] = replace(view, prediction=leaf)
    state = copy.deepcopy(bench.distiller.state_dict())
    first = _total(bench.losses_of(views, batch))
    leaves = [view.prediction for view in views.values() if view.prediction.requires_grad]
    gradients = torch.autograd.grad(first, leaves, allow_unused=True)
    void = ~at_size(batch.mask, leaves[0].shape[2:])[:, None]
    if any(g is not None and bool((g * void).abs().sum() > 0) for g in gradients):
        return "predictions at void positions get a gradient"
    bench.distiller.load_state_dict(state)  # so that both calls start from the same memory
    other = replace(batch, target=torch.where(batch.mask, batch.target, (batch.target + 3) % CLASSES))
    second = _total(bench.losses_of(views, other))
    if float(first.detach()) != float(second.detach()):
        return f"other classes at void positions turn the loss {float(first)} into {float(second)}"
    return ""


def _total(losses: Losses) -> Tensor:
    terms = [term for _, terms in _by_role(losses) for term in terms.values()]
    return sum(terms[1:], terms[0])


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
"""Each promise and the function that returns an empty string, or what is wrong."""
PIXEL_CHECKS = {"void positions count for nothing": _void_is_ignored}
"""Promises about dense predictions."""


def check_method(spec: str, settings: SettingsByPart | None = None) -> Iterator[Check]:
    """Try every promise of the contract on a method, on images, pixels and noise, in each regime that it declares.

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
        benches: dict[Form, Bench | Unsupported | str] = {
            form: _bench_that_suits(spec, regime, settings or {}, form) for form in FORMS
        }
        runs = any(isinstance(bench, Bench) for bench in benches.values())
        for form, bench in benches.items():
            if isinstance(bench, Bench):
                checks = CHECKS | (PIXEL_CHECKS if form == "pixels" else {})
                yield from (_try(name, check, bench) for name, check in checks.items())
            else:
                declines = isinstance(bench, Unsupported) and runs
                name = "declines with a reason" if declines else "runs on the tiny networks"
                yield Check(regime, form, name, declines, str(bench))


def _bench_that_suits(spec: str, regime: Any, settings: SettingsByPart, form: Form) -> Bench | Unsupported | str:
    reason: Unsupported | None = None
    for widths in ((8, 12), (8, 8)):
        try:
            return Bench(spec, regime, settings, widths, form)
        except Unsupported as error:
            reason = reason or error
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return reason or ""


def _try(name: str, check: Callable[[Bench], str], bench: Bench) -> Check:
    try:
        detail = check(bench.twin())
    except AdmError as error:
        detail = str(error)
    except Exception as error:  # a plug-in may fail in any way; the author needs to see how
        detail = f"{type(error).__name__}: {error}"
    return Check(bench.regime, bench.form, name, not detail, detail)
