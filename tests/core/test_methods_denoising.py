"""Methods for denoisers against slow literal computations, and what those that keep copies of networks do over time."""

import math
from dataclasses import replace

import pytest
import torch

from adm_core import registry
from adm_core.batch import noisy_batch
from adm_core.distiller import Distiller
from adm_core.errors import AdmError, Unsupported
from adm_core.losses import denoising
from adm_core.method import View
from adm_core.recipe import Recipe
from adm_core.testing.networks import EXAMPLES, LEVELS, task_loss, tiny_batch, tiny_facts, tiny_network
from adm_core.testing.setup import Setup
from tests.core.toy import NoisyTask, denoising_trainer, make_step

KINDS = ("epsilon", "v_prediction", "sample")
STEPPING = ("progressive", "consistency", "rcfd")


def number(tensor):
    return float(tensor.detach())


def squared(a, b):
    """Mean over all elements, one after the other."""
    pairs = list(zip(a.detach().flatten().tolist(), b.detach().flatten().tolist(), strict=True))
    return sum((x - y) ** 2 for x, y in pairs) / len(pairs)


def bench(method, regime="offline", widths=(8, 8), **settings):
    return Setup(method, regime, {method: settings}, widths, "denoisers")


def both(b):
    views = b.distiller.views(b.batch(0))[0]
    return views["student"], views["teacher"]


# --- output and features ---


def test_output_is_the_squared_error_of_predictions_beside_the_tasks_loss():
    b = bench("output", weight=0.7)
    student, teacher = both(b)
    found = b.losses()
    assert number(found.student["output"]) == pytest.approx(0.7 * squared(student.prediction, teacher.prediction))
    assert found.student_task == 1.0 and not found.teacher


def test_mutual_pulls_each_to_the_other_and_the_larger_one_less():
    b = bench("mutual", "online", (8, 12))
    student, teacher = both(b)
    error, found = squared(student.prediction, teacher.prediction), b.losses()
    assert number(found.student["mutual"]) == pytest.approx(error)
    assert number(found.teacher["mutual"]) == pytest.approx(0.1 * error)


@pytest.mark.parametrize("widths", [(8, 8), (8, 12)])
@pytest.mark.parametrize("name", ["bksdm", "koala"])
def test_bksdm_is_output_and_block_features_and_koala_that_of_attention(name, widths):
    b = bench(name, widths=widths, output=0.5, features=2.0)
    student, teacher = both(b)
    taps = ("down1", "down2", "up2", "up1") if name == "bksdm" else ("mid.attention",)
    assert b.method.needs.taps == taps
    expected = 0.0
    for tap, adapter in zip(taps, b.distiller.parts["adapters"], strict=True):
        f = student.features[tap]
        if widths[0] != widths[1]:
            f = torch.einsum("oc,bchw->bohw", adapter.weight[:, :, 0, 0], f) + adapter.bias[:, None, None]
        expected += squared(f, teacher.features[tap])
    found = b.losses()
    assert number(found.student["features"]) == pytest.approx(2.0 * expected, rel=1e-4)
    assert number(found.student["output"]) == pytest.approx(0.5 * squared(student.prediction, teacher.prediction))


# --- ADM on noise predictions ---

SHAPE = (3, 5, 4, 4)
BLOCKS = {"prediction": (3, 2, 4, 4), "last": SHAPE, "mid": SHAPE}


def shown(seed):
    g = torch.Generator().manual_seed(seed)
    prediction = torch.randn(BLOCKS["prediction"], generator=g).requires_grad_()
    features = {tap: torch.randn(SHAPE, generator=g).requires_grad_() for tap in ("last", "mid")}
    noise = torch.randn(BLOCKS["prediction"], generator=torch.Generator().manual_seed(9))
    return View(prediction, "denoiser", features, (prediction - noise).pow(2).mean(1)), noise


def softmax_at(similarity, sign, tau):
    """|Ω| softmax(sign S / τ) of one example's 4×4 map, by hand."""
    exps = {p: math.exp(sign * s / tau) for p, s in similarity.items()}
    return {p: 16 * e / sum(exps.values()) for p, e in exps.items()}


@pytest.mark.parametrize("taps", [("last",), ("mid", "last")])
@pytest.mark.parametrize("form", ["auto", "W", "M"])
def test_adm_on_noise_weighs_squared_errors_or_matches_features(form, taps):
    """Form W is the default: L_co is the error against the teacher, L_di the teacher's own against the noise."""
    (s, noise), (t, _) = shown(0), shown(1)
    own = {"form": form, "taps": taps, "ramp": 0.0, "consensus": 1.0, "divergence": 1.0, "temperature": 0.3}
    method = registry.create("adm", {"adm": own | {"margin": 0.1}})
    assert method.supports(BLOCKS, BLOCKS, "online") is None
    method.take(method.build(BLOCKS, BLOCKS, tiny_facts()))
    found = method.losses(s, t, make_step(noise, 1.0, torch.Generator()))
    co = di = 0.0
    for b in range(3):
        similarity = {}
        for p in ((i, j) for i in range(4) for j in range(4)):
            pairs = [(s.features[tap][b, :, *p].detach(), t.features[tap][b, :, *p].detach()) for tap in taps]
            similarity[p] = sum(float(u @ v / (u.norm() * v.norm())) for u, v in pairs) / len(pairs)
        w, v = softmax_at(similarity, 1, 0.3), softmax_at(similarity, -1, 0.3)
        for p in similarity:
            if form == "M":
                co += w[p] * (1 - similarity[p])
                di += v[p] * max(0.0, similarity[p] - 0.1)
            else:
                co += w[p] * squared(s.prediction[b, :, *p], t.prediction[b, :, *p])
                di += v[p] * squared(t.prediction[b, :, *p], noise[b, :, *p])
    assert number(found.student["consensus"]) == pytest.approx(co / 48, rel=1e-4)
    assert number(found.teacher["divergence"]) == pytest.approx(di / 48, rel=1e-4)


# --- two steps in one ---


def noised(kind, timestep):
    noising = tiny_batch(form="denoisers").noising
    return replace(noising, process=replace(noising.process, prediction=kind), timestep=timestep)


def levels(noising, t):
    """α and σ at one timestep."""
    return (float(noising.process.alphas[t]), float(noising.process.sigmas[t])) if t >= 0 else (1.0, 0.0)


def clean_and_noise(noising, prediction, x, t):
    """What a prediction at one example's timestep means, by scalars."""
    a, g = levels(noising, t)
    kind = noising.process.prediction
    clean = {"epsilon": (x - g * prediction) / a, "v_prediction": a * x - g * prediction, "sample": prediction}[kind]
    return clean, (x - a * clean) / g


def one_step(noising, network, x, t, to):
    with torch.no_grad():
        prediction = network(x[None], torch.tensor([t]))[0]
    clean, noise = clean_and_noise(noising, prediction, x, t)
    a, g = levels(noising, to)
    return a * clean + g * noise


def two_steps(noising, network, b, middle, end):
    t = int(noising.timestep[b])
    return one_step(noising, network, one_step(noising, network, noising.noisy[b], t, middle), middle, end)


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_that_predicts_the_two_step_target_lands_where_the_teachers_two_steps_lead(kind):
    teacher = tiny_network(8, 3, "denoisers").module
    for steps in (1, 2, 5, 10):
        index = denoising.draw_steps(EXAMPLES, steps, torch.Generator().manual_seed(steps))
        noising = noised(kind, denoising.step_ends(LEVELS, steps, index))
        middle, end = (denoising.later(noising.timestep, LEVELS, steps, by) for by in (0.5, 1.0))
        with torch.no_grad():
            target = denoising.two_step_target(noising, teacher, middle, end)
        process, now, x = noising.process, noising.timestep, noising.noisy
        alpha, sigma = process.levels(now)
        perfect = process.target(target, (x - alpha * target) / sigma, now)
        landed = process.step(perfect, x, now, end)
        for b in range(EXAMPLES):
            there = two_steps(noising, teacher, b, int(middle[b]), int(end[b]))
            torch.testing.assert_close(landed[b], there, rtol=1e-3, atol=1e-3)
            if end[b] < 0:  # the last two steps: the target is the image itself
                torch.testing.assert_close(target[b], there, rtol=1e-4, atol=1e-4)


def literal_two_step_target(noising, teacher, b, middle, end):
    """x~ of one example, by the paper's formula."""
    (a, g), (a_end, g_end) = levels(noising, int(noising.timestep[b])), levels(noising, end)
    z = two_steps(noising, teacher, b, middle, end)
    return (z - g_end / g * noising.noisy[b]) / (a_end - g_end / g * a)


def stepped(b, progress=0.5):
    """The batch as the method wants it, and the student's prediction on it."""
    batch = b.method.inputs(b.batch(0), progress, torch.Generator().manual_seed(0))
    return batch, b.distiller.views(batch)[0]["student"].prediction.detach()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_progressive_is_the_larger_of_the_errors_of_image_and_noise(kind, monkeypatch):
    """Per example max(‖x - x~‖², ‖ε - ε~‖²), which is what max(SNR, 1) makes of the first (section 4)."""
    b = bench("progressive", steps=2, rounds=1)
    given = b.batch(0)
    monkeypatch.setattr(b, "batch", lambda _: noisy_batch(noised(kind, given.noising.timestep), given.index))
    with torch.no_grad():
        for p in b.distiller.student.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    batch, prediction = stepped(b)
    noising, after = batch.noising, {9: (4, -1), 19: (14, 9)}
    assert set(noising.timestep.tolist()) == set(after)
    expected = 0.0
    for k, t in enumerate(noising.timestep.tolist()):
        target = literal_two_step_target(noising, b.distiller.teacher, k, *after[t])
        clean, noise = clean_and_noise(noising, prediction[k], noising.noisy[k], t)
        a, g = levels(noising, t)
        wanted = (noising.noisy[k] - a * target) / g
        expected += max(squared(clean, target), squared(noise, wanted)) / EXAMPLES
    found = b.losses()
    assert number(found.student["two_steps"]) == pytest.approx(expected, rel=1e-3)
    assert found.student_task == 0.0 and number(found.log["steps"]) == 2


def test_rcfd_compares_features_and_wants_each_image_certain_and_all_together_diverse():
    b = bench("rcfd", steps=2, temperature=0.5, diversity=0.1, certainty=0.6)
    with torch.no_grad():
        b.distiller.student.head.weight.mul_(3)
    batch, prediction = stepped(b)
    noising, after = batch.noising, {9: (4, -1), 19: (14, 9)}
    kl, certain, probabilities = 0.0, 0.0, []
    for k, t in enumerate(noising.timestep.tolist()):
        target = literal_two_step_target(noising, b.distiller.teacher, k, *after[t])
        clean, _ = clean_and_noise(noising, prediction[k], noising.noisy[k], t)
        wanted = (noising.classifier(target[None])[0][0] / 0.5).softmax(0).tolist()
        features, logits = noising.classifier(clean[None])
        kl += sum(w * math.log(w / f) for w, f in zip(wanted, features[0].softmax(0).tolist(), strict=True))
        probabilities.append(logits[0].softmax(0).tolist())
        certain -= sum(p * math.log(p) for p in probabilities[-1])
    mean = [sum(column) / EXAMPLES for column in zip(*probabilities, strict=True)]
    diverse = -sum(p * math.log(p) for p in mean)
    found = b.losses()
    assert number(found.student["features"]) == pytest.approx(kl / EXAMPLES, rel=1e-3)
    expected = 0.1 * (0.6 * certain / EXAMPLES - 0.4 * diverse)
    assert number(found.student["diversity"]) == pytest.approx(expected, rel=1e-3)
    assert found.student_task == 0.0


def test_rcfd_says_when_there_is_no_classifier():
    b = bench("rcfd")
    batch, _ = stepped(b)
    batch = replace(batch, noising=replace(batch.noising, classifier=None))
    with pytest.raises(Unsupported, match="this benchmark has no classifier"):
        b.losses_of(b.distiller.views(batch)[0], batch)


# --- consistency ---


@pytest.mark.parametrize("distance", ["l2", "huber"])
def test_consistency_compares_neighbours_on_the_teachers_trajectory(distance):
    b = bench("consistency", grid=5, distance=distance, huber=0.2)
    average, g = b.distiller.parts["average"].network, torch.Generator().manual_seed(2)
    with torch.no_grad():
        for network in (average, b.distiller.student):
            for p in network.parameters():
                p.add_(0.05 * torch.randn(p.shape, generator=g))
    batch, prediction = stepped(b)
    noising, before = batch.noising, {19: 15, 15: 11, 11: 7, 7: 3, 3: -1}
    assert set(noising.timestep.tolist()) == set(before)
    expected = 0.0
    for k, t in enumerate(noising.timestep.tolist()):
        earlier = one_step(noising, b.distiller.teacher, noising.noisy[k], t, before[t])
        target = earlier
        if before[t] >= 0:
            target = one_step(noising, average, earlier, before[t], -1)
        clean, _ = clean_and_noise(noising, prediction[k], noising.noisy[k], t)
        if distance == "l2":
            expected += squared(clean, target) / EXAMPLES
        else:
            gaps = (clean - target).flatten().tolist()
            expected += sum(math.sqrt(d * d + 0.04) - 0.2 for d in gaps) / len(gaps) / EXAMPLES
    found = b.losses()
    assert number(found.student["consistency"]) == pytest.approx(expected, rel=1e-3)
    assert found.student_task == 0.0


def test_the_average_of_consistency_follows_by_its_decay():
    b = bench("consistency", decay=0.8)
    expected = {k: v.clone() for k, v in b.distiller.student.state_dict().items()}
    for seed in range(3):
        b.step(seed)
        expected = {k: 0.8 * expected[k] + 0.2 * v for k, v in b.distiller.student.state_dict().items()}
    for key, value in b.distiller.parts["average"].network.state_dict().items():
        torch.testing.assert_close(value, expected[key])
    assert not any(p.requires_grad for p in b.distiller.parts.parameters())
    assert not b.distiller.parts["average"].network.training


# --- rounds, beginnings and checkpoints ---


def test_progressive_takes_over_the_student_between_rounds_and_halves_its_steps():
    b = bench("progressive", steps=2, rounds=3)
    copied, teacher = b.distiller.parts["teacher"].network, b.distiller.teacher
    grids = {0: {19, 17, 14, 11, 9, 7, 4, 1}, 1: {19, 14, 9, 4}, 2: {19, 9}}
    source, learnt = dict(teacher.state_dict()), []
    for k in range(9):
        progress = k / 9
        if k in (3, 6):
            source = {key: value.clone() for key, value in b.distiller.student.state_dict().items()}
        batches = [
            b.method.inputs(b.batch(0), progress, torch.Generator().manual_seed(seed)).noising for seed in range(20)
        ]
        assert {int(t) for noising in batches for t in noising.timestep} == grids[k // 3]
        learnt.append(number(b.losses(k, progress).log["steps"]))
        b.step(k, progress)
        assert all(torch.equal(value, source[key]) for key, value in copied.state_dict().items())
        assert any(not torch.equal(v, source[key]) for key, v in b.distiller.student.state_dict().items())
    assert learnt == [8.0] * 3 + [4.0] * 3 + [2.0] * 3


@pytest.mark.parametrize("method", STEPPING)
def test_the_student_starts_as_the_teacher(method):
    b = bench(method)
    theirs = b.distiller.teacher.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in b.distiller.student.state_dict().items())
    assert b.distiller.student is not b.distiller.teacher


@pytest.mark.parametrize("method", STEPPING)
def test_a_pair_of_two_architectures_cannot_start_as_one(method):
    words = f"'{method}' starts the student from the teacher's weights.*one architecture, not 'tiny12' and 'tiny8'"
    with pytest.raises(Unsupported, match=words):
        bench(method, widths=(8, 12))


def test_two_parts_cannot_both_choose_the_timesteps():
    with pytest.raises(AdmError, match=r"'progressive' and 'consistency' each choose the inputs; only one part can"):
        registry.create("progressive+consistency")


def test_a_composition_gives_each_part_its_own_copies():
    b = Setup("output+consistency", "offline", {}, (8, 8), "denoisers")
    output, consistency = b.method.methods
    assert list(b.distiller.parts) == ["consistency_average"] and not output.parts
    assert consistency.parts["average"] is b.distiller.parts["consistency_average"]
    b.step(0)
    found = b.losses(1)
    assert set(found.student) == {"output.output", "consistency.consistency"} and found.student_task == 0.0


def test_methods_for_denoisers_decline_classifiers_and_the_reverse():
    with pytest.raises(Unsupported, match="'output' reads denoiser, this task predicts class_logits"):
        Setup("output", "offline", {})
    with pytest.raises(Unsupported, match="'kd' reads class_logits, this task predicts denoiser"):
        Setup("kd", "offline", {}, form="denoisers")


def test_a_student_alone_needs_no_copies():
    batch, student = tiny_batch(form="denoisers"), tiny_network(8, 0, "denoisers")
    example = (batch.student_input, *batch.conditions)
    alone = Distiller(
        {"student": student},
        registry.create("consistency"),
        "alone",
        task_loss,
        "denoiser",
        example,
        tiny_facts("denoisers"),
    )
    assert list(alone(batch, 0.5, torch.Generator()).terms) == ["student.task"]


def recipe(**changes):
    base = {"epochs": 2, "batch_size": EXAMPLES, "optimizer": {"name": "adamw", "lr": 0.003}}
    return Recipe.model_validate(base | changes)


@pytest.mark.parametrize("stop_at", [(0, 2), (1, 1)], ids=["first-round", "second-round"])
@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("progressive", {}),
        ("progressive", {"accumulate": 2, "ema": 0.9}),
        ("consistency", {"accumulate": 3}),
        ("rcfd", {}),
        ("output+consistency", {}),
    ],
    ids=["progressive", "progressive-accumulate-ema", "consistency-accumulate", "rcfd", "output+consistency"],
)
def test_a_resumed_run_ends_in_the_same_weights(tmp_path, monkeypatch, method, changes, stop_at):
    monkeypatch.setattr("adm_core.train.CHECK_EVERY", 1)
    whole = denoising_trainer(recipe(**changes), method, task=NoisyTask(3))
    expected = whole.run()
    options = {"checkpoint_file": tmp_path / "c.pt", "checkpoint_seconds": 0.0}
    with pytest.raises(InterruptedError):
        denoising_trainer(recipe(**changes), method, task=NoisyTask(3, stop_at=stop_at), **options).run()
    again = denoising_trainer(recipe(**changes), method, task=NoisyTask(3), **options)
    with torch.no_grad():
        for p in again.distiller.parameters():
            p.mul_(0.5)
    result = again.run()
    assert again.task.seen[0] > (0, 0) and expected.curves == result.curves
    theirs = again.distiller.state_dict()
    for key, value in whole.distiller.state_dict().items():
        other = theirs[key]
        same = value == other if isinstance(value, dict) else torch.equal(*map(torch.as_tensor, (value, other)))
        assert same, key
    own, other = (t.networks["student"].module.state_dict() for t in (expected, result))
    assert all(torch.equal(own[key], other[key]) for key in own)
