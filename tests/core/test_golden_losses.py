"""Losses of every method on fixed small tensors, pinned per version in ``golden_losses.json``.

A method's version is part of every cell's identity: numbers that move under an old version would mix with records
made before. So this test fails when a loss moves and the version did not. When that was meant, raise
``card.version`` of the method and renew the file:

    ADM_RENEW_GOLDEN=1 pytest tests/core/test_golden_losses.py

Renewing adds what is new (a method, a version, a variant of settings) and drops versions that are gone; it never
changes a number that is there. Changed default settings need no new version (they are part of the identity
themselves) and are renewed in the same way.

A method is pinned on images or, where it declines those, on pixels of which some are void; one for denoisers on noise.
"""

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from adm_core import registry
from adm_core.batch import Batch, noisy_batch
from adm_core.card import ALL_STAGES, AUXILIARY, HINT, MEAN, PREACTS, members
from adm_core.mean_network import MeanNetwork
from adm_core.method import View, ViewsOnDemand
from adm_core.network_copy import NetworkCopy, TrainedCopy
from adm_core.noising import NoiseProcess, Noising
from adm_core.taps import Network
from adm_core.testing import networks as tiny
from adm_core.testing.networks import tiny_facts
from tests.built_in import BUILT_IN
from tests.core.toy import make_step

FILE = Path(__file__).with_name("golden_losses.json")
RENEW = bool(os.environ.get("ADM_RENEW_GOLDEN"))
TOLERANCE = 1e-4
"""Relative; other processors round otherwise."""
ROUNDING = 3e-7
"""Absolute, times the method's weight: what float32 leaves of a divergence between nearly equal distributions."""
BATCH, CLASSES, PIXEL_SIDE = 4, 5, 16
SIDES = {"stage1": 8, "stage2": 4, "stage3": 4}
PREACT = [f"{PREACTS}.{number}" for number in range(1, len(SIDES) + 1)]
WIDTHS = {"student": (4, 6, 8), "teacher": (6, 8, 12)}
BLOCK_SIDES = {"down1": 8, "down2": 4, "mid.attention": 4, "up2": 4, "up1": 8, "mid": 4}
LEVELS = 20
"""Timesteps of the noise schedule."""
VOID_EXAMPLE = 2
"""Of the pixels: the example that is void throughout."""
PROGRESS = (0.04, 0.5)
"""During the ramps of the methods that have one, and after; of a method that has phases both in the first."""
ADM = [{"form": form, "width": width} for form in ("H", "W", "M") for width in ("pool", "class", "attention")]
ADM += [{"weighting": other} for other in ("uniform", "swapped", "annealed", "ranking")] + [{"form": "F"}]
ADM += [{"form": "M", "width": "projector"}, {"form": "M", "taps": ("stage2", "last"), "width": "pool", "margin": 0.2}]
ADM += [{"consensus_target": "teacher"}, {"stop_gradient": False}, {"temperature": 0.1, "consensus": 0.5}]
VARIANTS = {"adm": ADM, "kdcl": [{"ensemble": form} for form in ("naive", "linear", "min-logit", "general")]}
VARIANTS |= {"mlkd": [{"form": "as-released"}, {"standardise": True}]}
VARIANTS |= {name: [{"standardise": True}] for name in ("kd", "dkd", "nkd")}
VARIANTS |= {"rld": [{"standardise": True}, *({"correction": form} for form in ("swap", "rc", "lr"))]}
VARIANTS |= {"gdkd": [{"k": 2}], "ldrld": [{"k": 3}], "sdd": [{"base": "kd"}]}
VARIANTS |= {"ea-kd": [{"form": "as-released"}, {"base": "dkd"}], "skd26": [{"form": "as-released"}]}
VARIANTS |= {"ffsd": [{"diversity": 1.0}], "okdph": [{"form": "as-released"}]}
VARIANTS |= {"deepkd": [{"base": "dkd"}, {"form": "as-released"}]}
VARIANTS |= {name: [{"adapt": True, "confidence": 0.0}] for name in ("clda", "pets")}
VARIANTS |= {"dmd2": [{"critic_steps": 1}]}
FAINT = {("ffsd@1", "peers", "peer2.diversity")}
"""Terms whose weight by default is next to nothing; a variant has a larger one."""
CASES = [
    (name, regime, settings)
    for name in BUILT_IN
    for regime in sorted(registry.get(name).card.regimes)
    for settings in [{}, *VARIANTS.get(name, [])]
    if (settings, regime) != ({"form": "F"}, "peers")  # which it declines
]


def waves(*shape, phase):
    """Numbers between -1 and 1 that no generator decides."""
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.float64) * 0.7 + phase).float().view(shape)


def even(*shape, phase):
    """Weights of a method's parts: positive, and alike from row to row."""
    return 0.5 + 0.5 * waves(*shape, phase=phase)


def scattered(*shape, phase):
    """Weights of both signs without a pattern, where even ones would make all embeddings parallel."""
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.float64) ** 2 * 0.7 + phase).float().view(shape)


def near(*shape, phase):
    """Weights of parts that are to agree on most examples."""
    return waves(*shape, phase=phase / 4)


PARTS = {
    "mcl": scattered,
    "l-mcl-lite": scattered,
    "kdsvd": scattered,
    "afd-adversarial": scattered,
    "wcord": scattered,
    "pets": near,
}
SURE = {"crld": 2, "atsen": 4}
"""What the teacher's logits, and those of copies, are multiplied with for methods that follow only what is sure."""
PASSES = {"wkd-l": "pass"}
"""What shows a pass over the training set where it is not the teacher: a network as wide as the student."""


def looks(role):
    """Phase and widths of what a network of this role shows; peers, branches and copies are as wide as the student.

    ``teacher 0`` and the like are the teacher on other batches.
    """
    if role in WIDTHS:
        return {"student": 0.3, "teacher": 1.1}[role], WIDTHS[role]
    return 1.1 + sum(map(ord, role)) % 7 / 10, WIDTHS.get(role.partition(" ")[0], WIDTHS["student"])


def view(role, trains, per_class=1):
    """What a network of this role shows: maps of its widths, a classifier on the mean of the last one."""
    phase, widths = looks(role)
    features = {
        tap: waves(BATCH, width, side, side, phase=phase + width).relu().requires_grad_(trains)
        for (tap, side), width in zip(SIDES.items(), widths, strict=True)
    }
    features |= {
        tap: waves(BATCH, width, side, side, phase=phase + width).requires_grad_(trains)
        for tap, side, width in zip(PREACT, SIDES.values(), widths, strict=True)
    }
    features |= {f"{ALL_STAGES}.{number}": features[stage] for number, stage in enumerate(SIDES, start=1)}
    features["last"], features[HINT] = features["stage3"], features["stage2"]
    head = torch.nn.Linear(widths[-1], CLASSES).requires_grad_(trains)
    with torch.no_grad():
        head.weight.copy_(2 * waves(CLASSES, widths[-1], phase=phase))
        head.bias.copy_(waves(CLASSES, phase=phase + 2))
    pooled = features["last"].mean((2, 3))
    features["penultimate"] = pooled
    right = (
        torch.nn.functional.one_hot(target(per_class), CLASSES)
        * (torch.arange(BATCH) % 2 == (role == "student"))[:, None]
    )
    prediction = head(pooled) + waves(BATCH, CLASSES, phase=phase + 4) + 3 * right  # each knows half of the batch
    features["logits"] = prediction
    task_loss = torch.nn.functional.cross_entropy(prediction, target(per_class), reduction="none")
    return View(prediction, "class_logits", features, task_loss, head)


def target(per_class):
    return torch.arange(BATCH) // per_class % CLASSES


def pixel_view(role, trains):
    """The same for pixels: what the classifier reads is the last map, predictions are half as fine as the labels."""
    phase, widths = looks(role)
    side = PIXEL_SIDE // 2
    features = {
        f"stage{n}": waves(BATCH, width, side, side, phase=phase + width).relu().requires_grad_(trains)
        for n, width in enumerate(widths, start=1)
    }
    features["last"] = features["penultimate"] = features["stage3"]
    classifier = 2 * waves(CLASSES, widths[-1], phase=phase)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    knows = (rows + columns) % 2 == (role == "student")  # each knows half of the pixels
    right = torch.nn.functional.one_hot(pixel_target()[:, ::2, ::2], CLASSES).movedim(3, 1) * knows
    prediction = torch.einsum("kc,bchw->bkhw", classifier, features["last"]) / widths[-1]
    prediction = prediction + 4 * waves(BATCH, CLASSES, side, side, phase=phase + 4) + 3 * right
    features["logits"] = prediction
    features[AUXILIARY] = prediction + waves(BATCH, CLASSES, side, side, phase=phase + 6)
    return View(prediction, "class_logits", features, tiny.task_loss(prediction, pixel_batch()))


def pixel_batch():
    images = torch.zeros(BATCH, 3, PIXEL_SIDE, PIXEL_SIDE)
    return Batch(images, images, pixel_target(), torch.arange(BATCH))


def pixel_target():
    """Patches of two by two pixels, classes in turn."""
    patches = torch.arange(BATCH * (PIXEL_SIDE // 2) ** 2) // 3 % CLASSES
    patches = patches.view(BATCH, PIXEL_SIDE // 2, PIXEL_SIDE // 2)
    return patches.repeat_interleave(2, 1).repeat_interleave(2, 2)


def pixel_mask():
    """A corner of each example is void, and one is void throughout."""
    valid = torch.ones(BATCH, PIXEL_SIDE, PIXEL_SIDE, dtype=torch.bool)
    valid[:, : PIXEL_SIDE // 2, : PIXEL_SIDE // 4] = False
    valid[VOID_EXAMPLE] = False
    return valid


def noise_view(role, trains):
    """The same for denoisers: blocks of one width each, and predictions of the noise in three channels."""
    phase, (width, *_) = looks(role)
    features = {
        tap: waves(BATCH, width, side, side, phase=phase + place).requires_grad_(trains)
        for place, (tap, side) in enumerate(BLOCK_SIDES.items())
    }
    prediction = waves(BATCH, 3, PIXEL_SIDE, PIXEL_SIDE, phase=phase + 8).requires_grad_(trains)
    return View(prediction, "denoiser", features, (prediction - noising().target).pow(2).mean(1))


def noising():
    angle = torch.linspace(0.05, 0.49, LEVELS) * torch.pi
    clean, noise = (waves(BATCH, 3, PIXEL_SIDE, PIXEL_SIDE, phase=phase) for phase in (2.0, 3.0))
    process = NoiseProcess(angle.cos(), angle.sin(), "v_prediction")
    return Noising(process, clean, 2 * noise, torch.arange(BATCH), classifier=classify)


def classify(images):
    """Features that tell the quarters of an image apart, and logits of them."""
    features = 20 * torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)
    return features, features[:, :CLASSES]


class Blend(torch.nn.Module):
    """A denoiser of one layer."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 3, 1)

    def forward(self, noisy, timestep, label=None):
        told = 0 if label is None else label
        return self.layer(noisy) / (1 + timestep + told).view(-1, 1, 1, 1)


class Deep(torch.nn.Module):
    """A denoiser with a middle map as wide as the teacher's."""

    def __init__(self):
        super().__init__()
        width = WIDTHS["teacher"][0]
        self.first, self.second = torch.nn.Conv2d(3, width, 1), torch.nn.Conv2d(width, 3, 1)

    def forward(self, noisy, timestep):
        return self.second(self.first(noisy)) / (1 + timestep).view(-1, 1, 1, 1)


class Label(torch.nn.Module):
    """A classifier of one layer."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, CLASSES)

    def forward(self, images):
        return self.layer(images.mean((2, 3)))


def copies(needs):
    """Those of networks; the student that they may follow has weights of its own."""
    make = Blend if needs.prediction == "denoiser" else Label
    student = make()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.copy_(waves(*parameter.shape, phase=5.0))
    trained = {name: TrainedCopy(Network("deep", Deep(), {"mid": "first"})) for name in needs.trained_copies}
    kept = {
        name: MeanNetwork([student]) if role == MEAN else NetworkCopy(make(), student)
        for name, role in needs.copies.items()
    }
    return kept | trained


def shapes(seen, taps):
    taps = [tap for tap in taps if tap != AUXILIARY or AUXILIARY in seen.features]  # images have none
    found = {"prediction": tuple(seen.prediction.shape)} | {
        tap: tuple(seen.features[tap].shape) for tap in members(taps, seen.features)
    }
    return found if seen.head is None else found | {"head": tuple(seen.head.weight.shape)}


def all_views(method, regime):
    """Views by role on images, on pixels where the method declines images, or on noise; and the shapes of a pair."""
    reasons, needs = [], method.needs
    others = ["teacher"] if regime != "peers" else [f"peer{number}" for number in range(1, needs.peers + 1)]
    images = partial(view, per_class=max(needs.per_class, 1))
    for make in (noise_view,) if needs.prediction == "denoiser" else (images, pixel_view):
        views = {role: make(role, role != "teacher" or regime == "online") for role in ("student", *others)}
        student = views["student"]
        if needs.branches:
            ends = (make(f"branch{number}", True) for number in range(2, needs.branches.count + 1))
            views["student"] = replace(student, branches=(student, *ends))
        both = shapes(student, needs.taps), shapes(views.get("teacher", student), needs.taps)
        reasons.append(method.supports(*both, regime))
        if reasons[-1] is None:
            return views, make, both
    raise AssertionError(f"{method.card.name} declines images and pixels: {reasons}")


def gradient(total, seen):
    """Norm of a loss's gradient at a network's own maps: what flows through weights and targets shows here alone."""
    denoises = seen.kind == "denoiser"
    read = seen.features if denoises else [tap for tap in (*SIDES, *PREACT) if tap in seen.features]
    maps = [seen.prediction] * denoises + [seen.features[tap] for tap in read]
    found = torch.autograd.grad(total, maps, retain_graph=True, allow_unused=True)
    return float(torch.cat([g.flatten() for g in found if g is not None]).norm())


def measure(name, regime, settings):
    """Every weighted term, task weight and pause at each progress, as plain numbers."""
    found = {}
    for moment in PROGRESS:
        method = registry.create(name, {name: settings})
        progress = moment * next((phase.share for phase in method.needs.phases), 1.0)
        views, make, both = all_views(method, regime)
        if name in SURE and "teacher" in views:
            views["teacher"] = replace(views["teacher"], prediction=SURE[name] * views["teacher"].prediction)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # of what parts keep beside their parameters, such as a critic's spectral vectors
            method.take(method.build(*both, facts(tuple(views))) | copies(method.needs))
        for index, part in enumerate(p for m in method.parts.values() for p in m.parameters()):
            with torch.no_grad():
                part.copy_(PARTS.get(name, even)(*part.shape, phase=float(index)))
        phase = method.needs.phase_at(progress)
        step = replace(circumstances(method, views, make, progress), phase=phase.name if phase else "")
        losses = method.losses(views["student"], views.get("teacher"), step)
        numbers = {"student task": losses.student_task, "teacher task": losses.teacher_task}
        numbers |= {"teacher paused": float(losses.teacher_paused)}
        for role, terms in {"student": losses.student, "teacher": losses.teacher, **losses.peers}.items():
            numbers |= {f"{role}.{key}": float(term.detach()) for key, term in terms.items()}
            if terms:
                numbers[f"gradient.{role}"] = gradient(sum(terms.values()), (step.unlabelled or views)[role])
        numbers |= {f"parts.{key}": float(term.detach()) for key, term in losses.parts.items()}
        for key, value in numbers.items():
            found.setdefault(key, []).append(value)
    return found


def facts(roles):
    """What there is to train on, with the teacher's normalisation behind each of its maps before an activation."""
    norms = {tap: (waves(w, phase=0.0), waves(w, phase=1.0)) for tap, w in zip(PREACT, WIDTHS["teacher"], strict=True)}
    return replace(tiny_facts(), normalisation=norms, roles=roles)


def circumstances(method, views, make, progress):
    """The step on what views show, noisy inputs as the method wants them, and what it makes of the teacher before."""
    generator, seen = torch.Generator().manual_seed(0), views["student"]
    if seen.kind == "denoiser":
        given = noising()
        if "null-class" in method.needs.capabilities:
            given = replace(given, label=torch.arange(BATCH), null_label=BATCH - 1)
        batch = method.inputs(noisy_batch(given, torch.arange(BATCH)), progress, generator)
        step = make_step(batch.target, progress, generator, noising=batch.noising)
        if "memory" in method.needs.capabilities:  # it keeps what it was fed
            step = replace(step, batch=batch)
    elif seen.prediction.dim() == 2:
        step = make_step(target(max(method.needs.per_class, 1)), progress, generator)
    else:
        step = make_step(pixel_target(), progress, generator, pixel_mask())
    if method.needs.teacher_pass:
        seen_before = PASSES.get(method.card.name, "teacher")
        passes = ((make(f"{seen_before} {number}", False), step.batch) for number in range(3))
        method.know(method.prepare(passes, replace(tiny_facts(), classes=CLASSES)))

    def surer(seen):
        return replace(seen, prediction=SURE.get(method.card.name, 1) * seen.prediction)

    copied = ViewsOnDemand({name: lambda name=name: surer(make(name, False)) for name in method.needs.copies})
    extra = {role: make(f"stronger {role}", role != "teacher") for role in views if method.needs.extra_view}
    unlabelled = {role: make(f"unlabelled {role}", role != "teacher") for role in views if method.needs.unlabelled}
    batch = replace(step.batch, unlabelled_input=waves(BATCH, 3, 1, 1, phase=6.0)) if unlabelled else step.batch
    return replace(step, batch=batch, views=views, extra=extra, copies=copied, unlabelled=unlabelled)


def resolved(name, regime, settings):
    return json.loads(json.dumps(registry.create(name, {name: settings}).resolved(regime)))


def variant(regime, settings):
    return " ".join([regime, *(f"{key}={json.dumps(value)}" for key, value in settings.items())])


def entry(name):
    return f"{name}@{registry.get(name).card.version}"


def pinned():
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def renew():
    """Add what the file lacks and drop versions that are gone."""
    old, new = pinned(), {}
    for name, regime, settings in CASES:
        known = old.get(entry(name), {}).get(variant(regime, settings))
        fresh = {"settings": resolved(name, regime, settings), "losses": measure(name, regime, settings)}
        keep = known is not None and known["settings"] == fresh["settings"]
        new.setdefault(entry(name), {})[variant(regime, settings)] = known if keep else fresh
    lines = [
        f" {json.dumps(key)}: {{\n"
        + ",\n".join(f"  {json.dumps(which)}: {json.dumps(value)}" for which, value in sorted(variants.items()))
        + "\n }"
        for key, variants in sorted(new.items())
    ]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


@pytest.fixture(scope="module")
def golden():
    if RENEW:
        renew()
    return pinned()


@pytest.mark.parametrize(("name", "regime", "settings"), CASES, ids=lambda value: str(value).replace(" ", ""))
def test_losses_move_only_with_the_version(golden, name, regime, settings):
    known = golden.get(entry(name), {}).get(variant(regime, settings))
    how = f"ADM_RENEW_GOLDEN=1 pytest tests/core/{Path(__file__).name}"
    if known is None:
        pytest.fail(f"{entry(name)} ({variant(regime, settings)}) is not in {FILE.name}; add it: {how}", pytrace=False)
    if known["settings"] != resolved(name, regime, settings):
        pytest.fail(f"the default settings of {entry(name)} have changed; renew {FILE.name}: {how}", pytrace=False)
    now, weight = measure(name, regime, settings), known["settings"].get("weight", 1)
    slack = ROUNDING * max(float(weight), 1.0)
    moved = [
        f"{key}: {known['losses'].get(key)} -> {now.get(key)}"
        for key in sorted(known["losses"].keys() | now.keys())
        if key not in now
        or now[key] != pytest.approx(known["losses"].get(key, [float("nan")] * 2), rel=TOLERANCE, abs=slack)
    ]
    if moved:
        pytest.fail(
            f"losses of {entry(name)} ({variant(regime, settings)}) moved: {'; '.join(moved)}\n"
            f"If that was meant, raise card.version of '{name}' and renew: {how}\n"
            "If not, find out why: records made so far would not be comparable.",
            pytrace=False,
        )


def test_nothing_is_pinned_that_is_not_tried(golden):
    tried = {(entry(name), variant(regime, settings)) for name, regime, settings in CASES}
    kept = {(key, which) for key, variants in golden.items() for which in variants}
    assert kept == tried, f"renew {FILE.name}"


def test_the_tensors_tell_the_parts_of_every_loss_apart(golden):
    """A pinned zero would pin nothing: after the ramp every term is well away from it."""
    for key, variants in golden.items():
        for which, content in variants.items():
            for term, (_, after) in content["losses"].items():
                told = "." not in term or (key, which, term) in FAINT
                assert told or abs(after) > 1e-4, f"{key} {which}: {term}"
