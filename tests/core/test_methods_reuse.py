"""SimKD: what it is trained by, and that what is deployed is the teacher's classifier on the projected last map."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adm_core import registry
from adm_core.recipe import Optimizer, Recipe
from adm_core.reuse import ReusedClassifier
from adm_core.taps import Network, record
from adm_core.testing.networks import SIDES, tiny_batch, tiny_facts, tiny_network
from adm_core.testing.setup import Setup
from tests.core.toy import trainer, weights

IMAGES = tiny_batch(1).student_input


def eval_of(network):
    network.module.eval()
    return network


def test_a_student_that_is_the_teacher_predicts_as_it_through_an_identity():
    teacher = eval_of(tiny_network(8, seed=4))
    same = ReusedClassifier(teacher, nn.Identity(), teacher.module.head)
    torch.testing.assert_close(same(IMAGES), teacher.module(IMAGES))


def test_the_students_classifier_is_left_out_and_stays_with_the_student():
    class Holder(nn.Module):
        """A network whose classifier lies one level down."""

        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x)

    student, teacher = eval_of(tiny_network(8)), eval_of(tiny_network(12))
    held = Network("held", Holder(student.module), {"stage3": "inner.stages.2"}, "inner.head")
    before = student.module(IMAGES)
    for network, prefix in ((student, "body"), (held, "body.inner")):
        projector = nn.Conv2d(32, 48, 1)
        made = ReusedClassifier(network, projector, teacher.module.head)
        assert {name for name in made.state_dict() if "head" in name} == {"head.weight", "head.bias"}
        assert made.get_submodule(f"{prefix}.stages.2") is student.module.stages[2]
        own = sum(p.numel() for p in student.module.parameters()) - sum(
            p.numel() for p in student.module.head.parameters()
        )
        added = sum(p.numel() for m in (projector, teacher.module.head) for p in m.parameters())
        assert sum(p.numel() for p in made.parameters()) == own + added
        with torch.no_grad(), record(student, ("stage3",)) as seen:
            student.module(IMAGES)
        expected = teacher.module.head(projector(seen["stage3"]).mean((2, 3)))
        torch.testing.assert_close(made(IMAGES), expected)
    assert torch.equal(student.module(IMAGES), before)


def built(student_shape, teacher_shape, settings=None):
    method = registry.create("simkd", {"simkd": settings or {}})
    student = {"prediction": (2, 5), "last": student_shape, "head": (5, student_shape[1])}
    teacher = {"prediction": (2, 5), "last": teacher_shape, "head": (5, teacher_shape[1])}
    assert method.supports(student, teacher, "offline") is None
    return method.build(student, teacher, tiny_facts())["projector"]


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_the_projector_is_a_bottleneck_of_the_papers_widths(factor):
    projector = built((2, 6, 4, 4), (2, 8, 4, 4), {"factor": factor})
    convolutions = [m for m in projector if isinstance(m, nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convolutions] == [
        (6, 8 // factor, 1),
        (8 // factor, 8 // factor, 3),
        (8 // factor, 8, 1),
    ]
    assert [type(m) for m in projector] == 3 * [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]


@pytest.mark.parametrize(("ours", "theirs", "given"), [(4, 4, 4), (8, 4, 4), (4, 8, 4)])
def test_a_larger_student_map_is_pooled_before_the_projector(ours, theirs, given):
    projector = built((2, 6, ours, ours), (2, 8, theirs, theirs)).eval()
    x = torch.randn(2, 6, ours, ours, generator=torch.Generator().manual_seed(0))
    assert projector(x).shape == (2, 8, given, given)
    plain = nn.Sequential(*(m for m in projector if not isinstance(m, nn.AdaptiveAvgPool2d)))
    torch.testing.assert_close(projector(x), plain(F.avg_pool2d(x, ours // given)))


def test_the_loss_is_the_mean_squared_error_of_the_last_maps_alone():
    bench = Setup("simkd", "offline", {"simkd": {"weight": 3.0}})
    views = bench.distiller.views(bench.batch(0))[0]
    losses = bench.losses(0)
    projected = bench.distiller.parts["projector"](views["student"].features["last"])
    expected = 3 * F.mse_loss(projected, views["teacher"].features["last"])
    assert losses.student_task == 0.0
    assert float(losses.student["last"].detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


RECIPE = Recipe(
    epochs=3, batch_size=16, optimizer=Optimizer(name="sgd", lr=0.05, weight_decay=1e-3), selection="best-validation"
)


@pytest.mark.parametrize("method", ["simkd", "at+norm", "norm", "embeddistill", "shake"])
def test_of_what_is_deployed_the_parts_are_averaged_with_the_student(method, tmp_path):
    """A literal average over the steps of every weight that is deployed; a resumed run ends with the same."""
    averaging = RECIPE.model_copy(update={"ema": 0.8, "epochs": 2, "selection": "last"})

    def open_trainer(**given):
        return trainer(averaging, method, "offline", **given)

    run, state = open_trainer(), dict[str, torch.Tensor]()

    def live():
        """What is deployed of the weights as they are."""
        return run.distiller.deployed(run.distiller.networks)["student"].module.state_dict()

    run.distiller.train()
    steps = 0
    for epoch in range(2):
        for batch in run.task.batches(epoch, 0):
            run.step(batch)
            steps += 1
            for name, value in live().items():
                if not value.is_floating_point():
                    continue
                state[name] = value.clone() if steps == 1 else 0.8 * state[name] + 0.2 * value
        run.end_epoch(epoch + 1)
    deployed = run.trained().networks["student"].module.state_dict()
    moved = [name for name, value in state.items() if not torch.equal(value, live()[name])]
    assert any("body" in name or name.startswith("0.") for name in moved)
    for name, value in state.items():
        torch.testing.assert_close(deployed[name], value, rtol=1e-4, atol=1e-5)
    file = tmp_path / "c.pt"
    first = open_trainer(checkpoint_file=file, checkpoint_seconds=0.0)
    first.distiller.train()
    for batch in first.task.batches(0, 0):
        first.step(batch)
    first.end_epoch(1)
    again = open_trainer(checkpoint_file=file).run().networks["student"].module.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in deployed.items())


def test_what_is_deployed_is_trained_scored_and_resumed(tmp_path):
    whole = trainer(RECIPE, "simkd", "offline")
    before = whole.distiller.deployed(whole.distiller.networks)["student"].module.eval()(IMAGES)
    trained = whole.run()
    curve = trained.curves["train.student.last"]
    assert curve[-1] < 0.8 * curve[0]
    deployed = trained.networks["student"].module
    assert isinstance(deployed, ReusedClassifier)
    assert deployed.head is whole.distiller.networks["teacher"].module.head
    assert not torch.equal(before, deployed(torch.zeros(2, 3, SIDES["images"], SIDES["images"])))
    scores = whole.task.evaluate(trained.networks, "validation")
    assert scores["student"]["top1"] == max(trained.curves["validation.student.top1"])

    file = tmp_path / "c.pt"
    first = trainer(RECIPE, "simkd", "offline", checkpoint_file=file, checkpoint_seconds=0.0)
    first.distiller.train()
    for batch in first.task.batches(0, 0):
        first.step(batch)
    first.end_epoch(1)
    again = trainer(RECIPE, "simkd", "offline", checkpoint_file=file)
    found = again.run().networks["student"].module.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in deployed.state_dict().items())
    assert weights(again).keys() == weights(whole).keys()


def test_networks_whose_classifier_is_something_else_are_declined():
    method, shapes = registry.create("simkd"), {"prediction": (2, 5), "last": (2, 6, 4, 4)}
    reason = method.supports(shapes | {"head": (5, 6)}, shapes, "offline")
    assert reason == "the teacher's classifier is no linear layer on the mean of its last map, as it must be to change"
