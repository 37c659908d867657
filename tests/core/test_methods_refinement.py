"""DiffKD: the diffusion model as plain formulas, what it makes of a perfect denoiser, and which terms are where."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adm_core import registry
from adm_core.refinement import Refinement
from adm_core.testing.setup import Setup
from tests.core.literal import kl, numbers, softmax

OWN, WIDTH = 5, 8


def kept():
    """The share of variance that is left of the clean example, of every timestep, as a running product."""
    found, product = [], 1.0
    for t in range(1000):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * t / 999)
        found.append(product)
    return found


def conv(weights, x, bias=False):
    weight = weights.pop(0)
    made = F.conv2d(x, weight, weights.pop(0) if bias else None, padding=weight.shape[-1] // 2)
    if bias:
        return made
    scale, shift = weights.pop(0), weights.pop(0)
    mean = made.mean((0, 2, 3), keepdim=True)
    variance = (made - mean).square().mean((0, 2, 3), keepdim=True)
    return (made - mean) / (variance + 1e-5).sqrt() * scale[:, None, None] + shift[:, None, None]


def bottleneck(weights, x):
    return x + conv(weights, conv(weights, conv(weights, x).relu()).relu())


def literal(module, spatial, student, teacher, generator):
    """The authors' forward pass from a list of weights, without biases before batch norm."""
    weights = {name: [p for n, p in module.named_parameters() if n.startswith(f"{name}.")]
               for name in ("enter", "adapter", "time", "denoiser", "leave")}  # fmt: skip

    def predict(x, timestep):
        own = list(weights["denoiser"])
        x = x + weights["time"][0][timestep][:, :, None, None]
        if spatial:
            return conv(own, bottleneck(own, bottleneck(own, x)))
        return conv(own, conv(own, conv(own, conv(own, x).relu())).relu(), bias=True)

    u, own = conv(list(weights["enter"]), student, bias=True), list(weights["adapter"])
    seen = bottleneck(own, u).mean((2, 3), keepdim=True) if spatial else conv(own, conv(own, u).relu())
    first, second = conv(own, seen, bias=True).unbind(1)
    share = (first.exp() / (first.exp() + second.exp()))[:, None]
    noises = [torch.randn(teacher.shape, generator=generator, dtype=teacher.dtype)]
    x, left = share * u + (1 - share) * noises[0], kept()
    for t in (400, 300, 200, 100, 0):
        error = predict(x, torch.full((len(x),), t))
        clean = (x - math.sqrt(1 - left[t]) * error) / math.sqrt(left[t])
        after = left[t - 100] if t else 1.0
        x = math.sqrt(after) * clean + math.sqrt(1 - after) * error
    noise = torch.randn(teacher.shape, generator=generator, dtype=teacher.dtype)
    timestep = torch.randint(1000, (len(x),), generator=generator)
    noisy = torch.stack([math.sqrt(left[t]) * clean + math.sqrt(1 - left[t]) * own
                         for t, clean, own in zip(timestep.tolist(), teacher, noise, strict=True)])  # fmt: skip
    return conv(list(weights["leave"]), x), (predict(noisy, timestep) - noise).square()


@pytest.mark.parametrize(("spatial", "side"), [(True, 4), (False, 1), (False, 3)])
def test_a_refinement_is_the_plain_formula_in_values_and_gradients(spatial, side):
    torch.manual_seed(0)
    module = Refinement(OWN, WIDTH, spatial).double()
    with torch.no_grad():
        for p in module.parameters():  # shifts and scales of batch norm away from zeros and ones
            p += 0.1 * torch.randn_like(p)
    student, teacher = numbers(1, 6, OWN, side, side).requires_grad_(), numbers(2, 6, WIDTH, side, side)
    direction = numbers(3, *teacher.shape)
    found = []
    for make in (module, lambda *given: literal(module, spatial, *given)):
        cleaned, error = make(student, teacher, torch.Generator().manual_seed(4))
        total = (direction * cleaned).mean() + error.mean()
        found.append((cleaned, error, torch.autograd.grad(total, [student, *module.parameters()])))
    (ours, our_error, slopes), (expected, expected_error, wanted) = found
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(our_error, expected_error, rtol=1e-6, atol=1e-6)
    largest = max(float(want.abs().max()) for want in wanted)
    for slope, want in zip(slopes, wanted, strict=True):
        size = float(want.abs().max())  # that of a shift which a later batch norm undoes is rounding
        torch.testing.assert_close(slope, want, rtol=1e-6, atol=1e-6 * max(size, 1e-6 * largest))
    assert float(wanted[0].abs().max()) > 1e-3 * largest


def test_a_perfect_denoiser_gives_the_teachers_features_whatever_the_student_shows():
    module, student, teacher = Refinement(OWN, WIDTH, True), numbers(1, 3, OWN, 4, 4), numbers(2, 3, WIDTH, 4, 4)
    left = torch.tensor(kept(), dtype=torch.float64)

    def perfect(noisy, timestep):
        share = left[timestep].view(-1, 1, 1, 1)
        return (noisy - share.sqrt() * teacher) / (1 - share).sqrt()

    module._predict, module.leave = perfect, nn.Identity()
    cleaned, error = module.double()(student, teacher, torch.Generator().manual_seed(0))
    torch.testing.assert_close(cleaned, teacher, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(error, torch.zeros_like(error), rtol=0, atol=1e-6)


def test_terms_are_means_of_what_the_parts_make():
    weights = {"weight": 2.0, "logit_weight": 3.0, "temperature": 2.0}
    setup = Setup("diffkd", "offline", {"diffkd": weights})
    shown, parts = setup.distiller.views(setup.batch(0))[0], setup.distiller.parts
    student, teacher, generator = shown["student"], shown["teacher"], torch.Generator().manual_seed(0)
    target = teacher.features["last"]
    latent = parts["encoder"](target).detach()
    assert latent.shape[1] == target.shape[1] // 2
    refined, noise = parts["maps"](student.features["last"], latent, generator)
    logits, logit_noise = parts["logits"](
        student.prediction[..., None, None], teacher.prediction[..., None, None], generator
    )
    rows = zip(logits.flatten(1).tolist(), teacher.prediction.tolist(), strict=True)
    divergence = sum(kl(softmax(t, 2.0), softmax(s, 2.0)) for s, t in rows) / 12
    told = setup.losses(0)
    found = {name: float(term.detach()) for terms in (told.student, told.parts) for name, term in terms.items()}
    rebuilt = parts["decoder"](latent)
    assert found == pytest.approx(
        {
            "features": 2 * float((refined - latent).square().mean().detach()),
            "logits": 3 * 4 * divergence,
            "reconstruction": float((rebuilt - target).square().mean().detach()),
            "feature_noise": float(noise.mean().detach()),
            "logit_noise": float(logit_noise.mean().detach()),
        },
        rel=1e-4,
    )
    assert told.student_task == 1.0


MAPS = {"student.features", "parts.reconstruction", "parts.feature_noise"}
BOTH = MAPS | {"student.logits", "parts.logit_noise"}


@pytest.mark.parametrize(("form", "terms"), [("images", BOTH), ("pixels", BOTH), ("denoisers", MAPS)])
def test_the_diffusion_model_and_the_auto_encoder_learn_and_the_student_comes_closer(form, terms):
    setup, told = Setup("diffkd", "offline", {}, form=form), []
    for step in range(24):
        outcome = setup.train(setup.batch(0), 0.5, torch.Generator().manual_seed(step))
        told.append({name: float(value) for name, value in outcome.terms.items()})
    assert terms == told[0].keys() - {"student.task", "student.auxiliary"}
    if form == "images":
        terms = terms - {"parts.logit_noise"}  # twelve vectors are too few for its model to learn in so short a time
    for name in terms:
        early, late = (sum(each[name] for each in part) for part in (told[:6], told[-6:]))
        assert late < 0.8 * early, name


def test_the_latent_width_is_a_share_of_the_teachers_and_logits_may_be_left_out():
    setup = Setup("diffkd", "offline", {"diffkd": {"ratio": 2.0, "logit_weight": 0.0}})
    assert setup.distiller.parts["encoder"][0].weight.shape[:2] == (96, 48)
    assert set(setup.distiller.parts) == {"encoder", "decoder", "maps"}
    assert set(setup.losses(0).student) == {"features"}


def test_vectors_are_declined():
    flat = {"prediction": (2, 5), "last": (2, 6)}
    assert "is not a feature map" in registry.create("diffkd").supports(flat, flat, "offline")
