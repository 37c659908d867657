"""The methods made for dense predictions: what they read and train, their critic, their parts, unequal maps."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adm_core import registry
from adm_core.critic import Critic, SpectralConv
from adm_core.errors import Unsupported
from adm_core.losses import adversarial, channels, relations
from adm_core.method import View, constant
from adm_core.testing.networks import tiny_facts
from adm_core.testing.promises import CHECKS
from adm_core.testing.setup import Setup
from tests.core.toy import make_step

CLASSES, SIDE = 5, 8


def maps(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def view(seed, width, side, taps):
    """A network's view of two images with features of a width and size of its own, all of which can be trained."""
    features = {tap: maps(seed + k, 2, width, side, side).requires_grad_() for k, tap in enumerate(taps, start=1)}
    prediction = maps(seed, 2, CLASSES, SIDE, SIDE).requires_grad_()
    return View(prediction, "class_logits", features, torch.zeros(2, 2 * SIDE, 2 * SIDE))


def step(valid=None):
    target = torch.randint(CLASSES, (2, 2 * SIDE, 2 * SIDE), generator=torch.Generator().manual_seed(3))
    return make_step(target, 0.5, torch.Generator().manual_seed(4), valid)


def built(name, student, teacher, **settings):
    method = registry.create(name, {name: settings})
    shapes = [
        {"prediction": tuple(v.prediction.shape)} | {tap: tuple(f.shape) for tap, f in v.features.items()}
        for v in (student, teacher)
    ]
    assert method.supports(*shapes, "offline") is None
    torch.manual_seed(0)
    method.parts = method.build(*shapes, tiny_facts())
    return method


def number(term):
    return float(term.detach())


METHODS = ("cwd", "skd", "ifvd", "dsd", "mgd")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(("own", "theirs"), [(8, 8), (8, 4), (4, 8), (7, 4)])
def test_student_and_teacher_maps_may_differ_in_width_and_size(name, own, theirs):
    taps = registry.create(name).needs.taps
    student, teacher = view(0, 6, own, taps), view(10, 9, theirs, taps)
    valid = torch.ones(2, 2 * SIDE, 2 * SIDE, dtype=torch.bool)
    valid[0, :8] = False
    found = built(name, student, teacher).losses(student, teacher, step(valid))
    sum(found.student.values()).backward()
    for leaf in (*student.features.values(), student.prediction):
        assert leaf.grad is None or (leaf.grad.isfinite().all() and leaf.grad.any())
    assert all(leaf.grad is None for leaf in (*teacher.features.values(), teacher.prediction))


def test_the_larger_map_is_pooled_to_the_smaller():
    tap = ("penultimate",)
    student, teacher = view(0, 6, 8, tap), view(10, 9, 4, tap)
    method = built("skd", student, teacher, adversarial_weight=0)
    pooled = F.avg_pool2d(student.features["penultimate"], 2)
    expected = 10 * relations.pairwise_similarity(pooled, teacher.features["penultimate"])
    assert number(method.losses(student, teacher, step()).student["pair"]) == pytest.approx(number(expected), rel=1e-6)


@pytest.mark.parametrize(
    ("name", "left_out", "kept"),
    [
        ("cwd", {"feature_weight": 0}, {"logits"}),
        ("cwd", {"logit_weight": 0}, {"features"}),
        ("skd", {"pair_weight": 0}, {"holistic"}),
        ("skd", {"adversarial_weight": 0}, {"pair"}),
        ("dsd", {"pixel_weight": 0}, {"category"}),
        ("dsd", {"category_weight": 0}, {"pixel"}),
    ],
)
def test_a_part_of_weight_zero_is_left_out_with_its_modules_and_taps(name, left_out, kept):
    bench = Setup(name, "offline", {name: left_out}, form="pixels")
    found, needs = bench.losses(), bench.method.needs
    assert set(found.student) == kept
    assert bool(needs.taps) == bool(kept & {"features", "pair", "pixel"})
    assert set(bench.distiller.parts) == ({"adapter"} if kept == {"features"} else {"critic"} & set(found.parts))
    assert bool(needs.capabilities) == bool(len(bench.distiller.parts))


IMAGES = {
    "cwd": {"tap": "last", "logit_weight": 0},
    "skd": {"tap": "last", "adversarial_weight": 0},
    "dsd": {"taps": ["stage1", "stage2", "stage3"], "category_weight": 0},
    "mgd": {"weight": 7e-5, "ratio": 0.15, "over": "channels"},
}


@pytest.mark.parametrize(("name", "settings"), IMAGES.items(), ids=IMAGES)
def test_the_parts_that_read_features_alone_run_on_image_labels(name, settings):
    setup = Setup(name, "offline", {name: settings}, form="images")
    assert [detail for check in CHECKS.values() if (detail := check(setup.twin()))] == []


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("cwd", {}, "logit_weight to 0"),
        ("cwd", {"logit_weight": 0}, "penultimate is not a feature map"),
        ("skd", {}, "adversarial_weight to 0"),
        ("ifvd", {}, "pixel labels, not image labels"),
        ("dsd", {"taps": ("stage1", "stage2")}, "category_weight to 0"),
    ],
)
def test_what_makes_no_sense_on_image_labels_is_declined_with_the_way_out(name, settings, reason):
    with pytest.raises(Unsupported, match=reason):
        Setup(name, "offline", {name: settings}, form="images")


def test_cwd_is_the_loss_on_aligned_features_and_on_logits():
    student, teacher = view(0, 6, 8, ("penultimate",)), view(10, 9, 8, ("penultimate",))
    method = built("cwd", student, teacher)
    assert isinstance(method.parts["adapter"], nn.Conv2d) and method.parts["adapter"].bias is None
    found = method.losses(student, teacher, step())
    aligned = torch.einsum("oi,bihw->bohw", method.parts["adapter"].weight[:, :, 0, 0], student.features["penultimate"])
    on_features = channels.channel_divergence(aligned, teacher.features["penultimate"], 4.0)
    on_logits = channels.channel_divergence(student.prediction, teacher.prediction, 4.0)
    assert number(found.student["features"]) == pytest.approx(50 * number(on_features), rel=1e-5)
    assert number(found.student["logits"]) == pytest.approx(3 * number(on_logits), rel=1e-6)


@pytest.mark.parametrize("name", ["cwd", "mgd"])
def test_equal_widths_take_no_convolution(name):
    tap = registry.create(name).needs.taps
    method = built(name, view(0, 6, 8, tap), view(10, 6, 8, tap))
    assert not list(method.parts["adapter"].parameters())


def test_mgd_with_a_generator_that_changes_nothing_is_the_distance_to_the_hidden_features():
    student, teacher = view(0, 6, 8, ("last",)), view(10, 6, 8, ("last",))
    method = built("mgd", student, teacher)
    for layer in (method.parts["generator"][0], method.parts["generator"][2]):
        nn.init.dirac_(layer.weight)
        nn.init.zeros_(layer.bias)
    valid = torch.ones(2, 2 * SIDE, 2 * SIDE, dtype=torch.bool)
    valid[1, :, :6] = False
    found = method.losses(student, teacher, step(valid)).student["restored"]
    hidden = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(4)) < 0.75
    error = (student.features["last"].masked_fill(hidden, 0.0).relu() - teacher.features["last"]).pow(2).detach()
    expected = 2e-5 * float(error[0].sum() + error[1, :, :, 3:].sum()) / 2
    assert number(found) == pytest.approx(expected, rel=1e-5)


def test_mgd_learns_to_restore():
    bench = Setup("mgd", "offline", {"mgd": {"weight": 1e-3}}, form="pixels")
    first, *_, last = [number(bench.losses(0).student["restored"]) for _ in range(30) if bench.step(0)]
    assert last < 0.7 * first


def test_spectral_convolution_divides_by_the_largest_singular_value():
    torch.manual_seed(0)
    layer = SpectralConv(3, 16)
    for _ in range(200):
        layer.advance()
    weight = layer.weight / torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
    expected = F.conv2d(maps(0, 2, 3, 8, 8), weight, layer.bias, stride=2, padding=1)
    assert torch.allclose(layer(maps(0, 2, 3, 8, 8)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "scores"), [((64, 128), (1, 5)), ((64, 64), (1, 1)), ((17, 33), (1, 5)), ((2, 3), (1, 1))]
)
def test_critic_scores_patches_of_maps_of_any_size(size, scores):
    critic = Critic(CLASSES, size)
    assert critic(maps(0, 2, CLASSES, *size)).shape == (2, *scores)
    assert not [m for m in critic.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    widths = [m.out_channels for m in critic.modules() if isinstance(m, SpectralConv)]
    assert widths == [64, 128, 256, 512][: len(widths)]


def test_a_score_depends_on_its_example_alone_and_not_on_earlier_passes():
    critic, x = Critic(CLASSES, (16, 16)), maps(0, 4, CLASSES, 16, 16)
    first = critic(x)
    assert torch.allclose(first[:2], critic(x[:2]), atol=1e-6) and torch.equal(first, critic(x))


def test_critic_learns_to_tell_the_student_from_the_teacher():
    """The teacher's maps are smooth, the student's are noise of the same strength; judged on maps not trained on."""
    torch.manual_seed(0)
    critic = Critic(CLASSES, (16, 16))
    adam = torch.optim.Adam(critic.parameters(), lr=4e-4, betas=(0.9, 0.99))

    def batch(seed):
        noise = maps(seed, 8, CLASSES, 16, 16)
        smooth = F.interpolate(maps(seed + 1000, 8, CLASSES, 4, 4), size=(16, 16), mode="bilinear")
        return noise / noise.std(), smooth / smooth.std()

    def hinge(seed):
        student, teacher = batch(seed)
        return adversarial.critic_hinge(critic(student), critic(teacher))

    before = number(hinge(500))
    for seed in range(20):
        hinge(seed).backward()
        adam.step()
        adam.zero_grad()
        critic.advance()
    student, teacher = batch(500)
    assert number(hinge(500)) < 0.6 * before
    assert critic(teacher).amin() > critic(student).amax()


def test_holistic_term_trains_the_student_and_the_critics_own_the_critic():
    student, teacher = view(0, 6, 8, ()), view(10, 9, 8, ())
    method = built("skd", student, teacher, pair_weight=0)
    found, critic = method.losses(student, teacher, step()), method.parts["critic"]
    found.student["holistic"].backward(retain_graph=True)
    assert student.prediction.grad.any() and all(p.grad is None for p in critic.parameters())
    student.prediction.grad = None
    found.parts["critic"].backward()
    assert student.prediction.grad is None and teacher.prediction.grad is None
    assert critic.layers[0].weight.grad.any()
    assert number(found.student["holistic"]) == pytest.approx(
        -0.001 * number(critic(student.prediction).mean()), rel=1e-5
    )


def test_holistic_term_raises_the_students_score():
    student, teacher = view(0, 6, 8, ()), view(10, 9, 8, ())
    method = built("skd", student, teacher, pair_weight=0)
    score = constant(method.parts["critic"])
    method.losses(student, teacher, step()).student["holistic"].backward()
    nearer = student.prediction - student.prediction.grad / student.prediction.grad.norm()
    assert score(nearer).mean() > score(student.prediction).mean()


def test_critic_sees_nothing_of_void_positions():
    student, teacher = view(0, 6, 8, ()), view(10, 9, 8, ())
    method = built("skd", student, teacher, pair_weight=0)
    valid = torch.ones(2, 2 * SIDE, 2 * SIDE, dtype=torch.bool)
    valid[0, :6] = False
    valid[1] = False
    found = method.losses(student, teacher, step(valid))
    found.student["holistic"].backward()
    grad = student.prediction.grad
    assert not grad[0, :, :3].any() and grad[0, :, 3:].any() and not grad[1].any()
    with torch.no_grad():
        student.prediction[0, :, :3] = float("inf")
        teacher.prediction[1] = 1e6
    again = method.losses(student, teacher, step(valid))
    for before, after in ((found.student, again.student), (found.parts, again.parts)):
        assert {k: number(v) for k, v in before.items()} == {k: number(v) for k, v in after.items()}


def test_critic_has_an_adam_of_its_own_and_its_norms_follow_its_weights():
    bench = Setup("kd+skd", "offline", {}, form="pixels")
    first, own = bench.optimizers
    critic = bench.distiller.parts["skd_critic"]
    assert isinstance(own, torch.optim.Adam) and own.defaults["betas"] == (0.9, 0.99)
    assert {id(p) for p in critic.parameters()} == {id(p) for g in own.param_groups for p in g["params"]}
    assert not {id(p) for p in critic.parameters()} & {id(p) for g in first.param_groups for p in g["params"]}
    before = critic.layers[0].singular.clone()
    bench.step(0)
    assert not torch.equal(before, critic.layers[0].singular)


@pytest.mark.parametrize("spec", ["kd+cwd", "kd+skd", "cwd+adm", "kd+skd+ifvd"])
def test_compositions_add_the_parts_terms(spec):
    found = Setup(spec, "offline", {}, form="pixels").losses()
    for name in spec.split("+"):
        alone = Setup(name, "offline", {}, form="pixels").losses()
        assert {key for key in found.student if key.startswith(f"{name}.")} == {f"{name}.{k}" for k in alone.student}
        assert {key for key in found.parts if key.startswith(f"{name}.")} == {f"{name}.{k}" for k in alone.parts}
