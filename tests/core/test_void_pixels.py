"""Methods written for images too, on pixels: each is its literal formula over the valid positions alone."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from adm_core import registry
from adm_core.method import View
from adm_core.testing.networks import tiny_facts
from tests.core.toy import make_step

B, K, SIDE, C = 3, 4, 5, 6


def maps(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TARGET = torch.randint(K, (B, SIDE, SIDE), generator=torch.Generator().manual_seed(5))
MASK = torch.rand(B, SIDE, SIDE, generator=torch.Generator().manual_seed(7)) < 0.7
MASK[-1] = False  # one example is void throughout
PLACES = [tuple(place) for place in MASK.nonzero().tolist()]


def view(seed):
    prediction = 2 * maps(seed, B, K, SIDE, SIDE)
    features = {tap: maps(seed + 10, B, C, SIDE, SIDE) for tap in ("hint", "last", "penultimate")}
    return View(prediction, "class_logits", features, F.cross_entropy(prediction, TARGET, reduction="none"))


STUDENT, TEACHER = view(0), view(1)


def losses(name, online=False, **settings):
    method = registry.create(name, {name: settings})
    shapes = [
        {"prediction": tuple(v.prediction.shape)} | {tap: tuple(f.shape) for tap, f in v.features.items()}
        for v in (STUDENT, TEACHER)
    ]
    assert method.supports(*shapes, "online" if online else "offline") is None
    method.parts = method.build(*shapes, tiny_facts())
    teacher = TEACHER
    if online:  # what a co-trained teacher shows carries a graph
        teacher = View(TEACHER.prediction.clone().requires_grad_(), "class_logits", TEACHER.features, TEACHER.task_loss)
    return method.losses(STUDENT, teacher, make_step(TARGET, 1.0, torch.Generator(), MASK)), method


def softmax(values, temperature=1.0):
    exps = [math.exp((v - max(values)) / temperature) for v in values]
    return [e / sum(exps) for e in exps]


def vector(tensor, place):
    b, i, j = place
    return tensor[b, :, i, j].tolist()


def divergence(teacher, student, place, temperature=1.0):
    p, q = (softmax(vector(v.prediction, place), temperature) for v in (teacher, student))
    return temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def mean(values):
    return sum(values) / len(values)


def test_kd_is_the_mean_divergence_over_valid_pixels():
    found, _ = losses("kd", temperature=3.0, weight=0.7)
    expected = 0.7 * mean([divergence(TEACHER, STUDENT, place, 3.0) for place in PLACES])
    assert float(found.student["kd"]) == pytest.approx(expected, rel=1e-4)


def test_dml_is_the_mean_divergence_both_ways():
    found, _ = losses("dml", online=True, teacher_weight=0.5)
    assert float(found.student["mutual"]) == pytest.approx(mean([divergence(TEACHER, STUDENT, p) for p in PLACES]))
    expected = 0.5 * mean([divergence(STUDENT, TEACHER, p) for p in PLACES])
    assert float(found.teacher["mutual"].detach()) == pytest.approx(expected, rel=1e-4)


def pearson(a, b):
    a, b = [v - mean(a) for v in a], [v - mean(b) for v in b]
    dot = sum(u * v for u, v in zip(a, b, strict=True))
    return dot / math.sqrt(sum(u * u for u in a) * sum(v * v for v in b))


def test_dist_correlates_over_the_valid_pixels_of_the_batch():
    found, method = losses("dist")
    s = method.settings
    p, q = ([softmax(vector(v.prediction, place), s.temperature) for place in PLACES] for v in (STUDENT, TEACHER))
    inter = mean([1 - pearson(u, v) for u, v in zip(p, q, strict=True)])
    intra = mean([1 - pearson(u, v) for u, v in zip(zip(*p, strict=True), zip(*q, strict=True), strict=True)])
    terms = {name: float(term) for name, term in found.student.items()}
    scale = s.weight * s.temperature**2
    assert terms == pytest.approx({"inter": scale * s.beta * inter, "intra": scale * s.gamma * intra}, rel=1e-4)


def test_dist_adds_the_same_of_the_auxiliary_predictions():
    main = view(5), view(6)
    found = [
        registry.create("dist", {"dist": {"temperature": 1, "weight": 3, "auxiliary_weight": weight}}).losses(
            *(replace(v, prediction=p.prediction, features={"auxiliary1": v.prediction})
              for v, p in zip((STUDENT, TEACHER), shown, strict=True)),
            make_step(TARGET, 1.0, torch.Generator(), MASK),
        ).student
        for weight, shown in ((0.0, (STUDENT, TEACHER)), (0.4, main), (0.0, main))
    ]  # fmt: skip
    alone, both, without = found
    assert float(both["relations"]) == pytest.approx(0.4 * float(sum(alone.values())), rel=1e-5)
    assert {key: term for key, term in both.items() if key != "relations"} == without


def test_at_gives_void_positions_no_attention():
    found, method = losses("at", taps=("last",))
    total = 0.0
    for b in range(B):
        attention = []
        for v in (STUDENT, TEACHER):
            energy = [
                mean([x * x for x in vector(v.features["last"], (b, i, j))]) if MASK[b, i, j] else 0.0
                for i in range(SIDE)
                for j in range(SIDE)
            ]
            norm = math.sqrt(sum(e * e for e in energy)) or 1.0
            attention.append([e / norm for e in energy])
        total += sum((u - v) ** 2 for u, v in zip(*attention, strict=True)) / (B * SIDE * SIDE)
    assert float(sum(found.student.values())) == pytest.approx(method.settings.weight * total, rel=1e-4)


def test_fitnet_is_the_squared_error_at_valid_positions():
    found, method = losses("fitnet", weight=2.0)
    guess = method.parts["regressor"](STUDENT.features["hint"])
    hint = TEACHER.features["hint"]
    each = [mean([(u - v) ** 2 for u, v in zip(vector(guess, p), vector(hint, p), strict=True)]) for p in PLACES]
    assert float(found.student["hint"].detach()) == pytest.approx(2.0 * mean(each), rel=1e-4)


def cosine(place):
    u, v = (vector(x.features["last"], place) for x in (STUDENT, TEACHER))
    dot = sum(a * b for a, b in zip(u, v, strict=True))
    return dot / math.sqrt(sum(a * a for a in u) * sum(b * b for b in v))


def weights(sign, temperature=0.5):
    """Mean one over the valid positions of each image."""
    found = {}
    for b in range(B):
        own = [place for place in PLACES if place[0] == b]
        shares = softmax([sign * cosine(place) for place in own], temperature) if own else []
        found |= {place: len(own) * share for place, share in zip(own, shares, strict=True)}
    return found


@pytest.mark.parametrize("sign", [1, -1])
def test_adms_weights_have_mean_one_over_valid_positions(sign):
    _, method = losses("adm", online=True)
    similarity = F.cosine_similarity(STUDENT.features["last"], TEACHER.features["last"], dim=1)
    ours = method._weights(similarity, float(sign), make_step(TARGET, 1.0, torch.Generator(), MASK))
    literal = weights(sign)
    for b in range(B):
        own = [place for place in PLACES if place[0] == b]
        assert [float(ours[place]) for place in own] == pytest.approx([literal[place] for place in own], rel=1e-4)
        assert not own or mean([float(ours[place]) for place in own]) == pytest.approx(1.0, rel=1e-5)
    assert float(ours[~MASK].abs().sum()) == 0.0


@pytest.mark.parametrize("form", ["W", "M"])
def test_adm_is_the_weighted_mean_over_valid_positions(form):
    found, _ = losses("adm", online=True, form=form, consensus=0.3, divergence=0.2, margin=0.1)
    w, v = weights(1), weights(-1)
    if form == "W":
        consensus = mean([w[place] * divergence(TEACHER, STUDENT, place) for place in PLACES])
        error = [-math.log(softmax(vector(TEACHER.prediction, place))[TARGET[place]]) for place in PLACES]
        diverging = mean([v[place] * e for place, e in zip(PLACES, error, strict=True)])
    else:
        consensus = mean([w[place] * (1 - cosine(place)) for place in PLACES])
        diverging = mean([v[place] * max(0.0, cosine(place) - 0.1) for place in PLACES])
    assert float(found.student["consensus"]) == pytest.approx(0.3 * consensus, rel=1e-4)
    assert float(found.teacher["divergence"].detach()) == pytest.approx(0.2 * diverging, rel=1e-4)
