"""FT: its factors against torchdistill and a literal loop, its auto-encoder, its two phases."""

import pytest
import torch
from torchdistill.losses.mid_level import FTLoss

from adm_core.losses import features
from adm_core.testing.setup import Setup
from tests.core.literal import numbers
from tests.core.test_methods_relations import agree

STUDENT, TEACHER = numbers(0, 3, 4, 2, 3), numbers(1, 3, 4, 2, 3)


def test_tensor_factors_are_torchdistills():
    library = FTLoss(paraphraser_path="t", translator_path="s")
    agree(
        lambda own: features.factor_distance(own, TEACHER, "tensor"),
        lambda own: library({"s": {"output": own}}, {"t": {"output": TEACHER}}),
        STUDENT,
    )


def attention_by_loop(own):
    """Each image's squared entries averaged over channels, over their length, entry against entry."""
    total = 0.0
    for image, other in zip(own, TEACHER, strict=True):
        maps = []
        for m in (image, other):
            energy = [sum(m[c, y, x] ** 2 for c in range(4)) / 4 for y in range(2) for x in range(3)]
            length = sum(e**2 for e in energy) ** 0.5
            maps.append([e / length for e in energy])
        total = total + sum(abs(a - b) for a, b in zip(*maps, strict=True))
    return total / (3 * 6)


def test_attention_factors_are_a_loop_over_positions():
    agree(lambda own: features.factor_distance(own, TEACHER, "attention"), attention_by_loop, STUDENT)


@pytest.mark.parametrize("factor", ["tensor", "attention"])
def test_void_positions_are_no_part_of_a_factor(factor):
    mask = torch.ones(3, 2, 3, dtype=torch.bool)
    mask[1, 0, 2] = mask[2, 1] = False
    found = features.factor_distance(STUDENT, TEACHER, factor, mask)
    changed = [m.masked_fill(~mask[:, None], 1e3) for m in (STUDENT, TEACHER)]
    torch.testing.assert_close(features.factor_distance(*changed, factor, mask), found)


@pytest.mark.parametrize("form", ["images", "pixels", "denoisers"])
def test_the_auto_encoder_is_learnt_first_and_the_student_rests(form):
    settings = {"tap": "mid"} if form == "denoisers" else {}
    bench = Setup("ft", "offline", {"ft": settings}, form=form)
    parts, student = bench.distiller.parts, bench.distiller.student
    first = bench.losses(0, progress=0.05)
    assert first.parts.keys() == {"reconstruction"} and not first.student
    assert bench.losses(0, progress=0.5).student.keys() == {"factors"}

    def kept():
        named = {"student": student, **{name: parts[name] for name in ("encoder", "decoder", "translator")}}
        return {name: [p.detach().clone() for p in module.parameters()] for name, module in named.items()}

    def moved(before):
        return {name for name, values in kept().items() if not all(map(torch.equal, values, before[name]))}

    start = kept()
    bench.step(0, progress=0.05)
    assert moved(start) == {"encoder", "decoder"}
    middle = kept()
    bench.step(1, progress=0.5)
    assert moved(middle) == {"student", "translator"}


def test_what_the_auto_encoder_rebuilds_comes_nearer():
    bench = Setup("ft", "offline", {})

    def error():
        return float(bench.losses(0, progress=0.05).parts["reconstruction"].detach())

    before = error()
    for _ in range(20):
        bench.step(0, progress=0.05)
    assert error() < before
