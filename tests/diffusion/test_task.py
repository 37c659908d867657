"""The task on real digits: batches, every method on real U-Nets, exact resuming, and saved students in Diffusers."""

import pytest
import torch
from diffusers import DDIMPipeline

from adm_core.distiller import Distiller
from adm_core.errors import AdmError
from adm_core.method import Needs
from adm_core.recipe import Optimizer, Protocol, Recipe
from adm_core.registry import create
from adm_core.task import TaskContext
from adm_core.train import Trainer
from tasks.diffusion import extractor
from tasks.diffusion.sampling import initial_noise
from tasks.diffusion.task import TASK

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=1, batch_size=48, optimizer=Optimizer(name="adamw", lr=0.005))
DATA = {
    "train_limit": 96,
    "test_limit": 40,
    "noise": {"schedule": "cosine", "timesteps": 100, "prediction": "v_prediction"},
    "sampling": {"steps": 5, "samples": 80},
}
METHODS = [
    ("none", {}, {"task"}),
    ("output", {}, {"output"}),
    ("fitnet", {"tap": "mid"}, {"hint"}),
    ("at", {"taps": ("down1", "down2", "up1")}, {"attention"}),
    ("cwd", {"tap": "up2", "logit_weight": 0}, {"features"}),
    ("bksdm", {}, {"output", "features"}),
    ("koala", {}, {"output", "features"}),
    ("adm", {}, {"consensus"}),
    ("adm", {"form": "W", "taps": ("mid", "up2")}, {"consensus"}),
    ("adm", {"form": "M"}, {"consensus"}),
    ("output+adm", {}, {"output.output", "adm.consensus"}),
    ("progressive", {}, {"two_steps"}),
    ("consistency", {}, {"consistency"}),
    ("rcfd", {}, {"features", "diversity"}),
    ("dkdm", {"steps": 10}, {"output"}),
    ("dmd2", {"critic_steps": 1}, {"distribution", "adversarial", "denoising", "critic"}),
]


def shown(value):
    """The part of a test's name that stands for a method, its settings or its terms, alike in every process."""
    return "+".join(sorted(value)) if isinstance(value, set) else str(value).replace(" ", "")


ONLINE = [("mutual", {"mutual"}, {"mutual"}), ("adm", {"consensus"}, {"divergence"})]
ONLINE += [("mutual+adm", {"mutual.mutual", "adm.consensus"}, {"mutual.mutual", "adm.divergence"})]


def open_task(benchmark="digits@2", views="shared", recipe=RECIPE, seed=0, **data):
    protocol = Protocol(title="test", source="test", task="diffusion", recipe=recipe, data=DATA | data)
    return TASK(TaskContext(benchmark, protocol, seed, CPU, needs=Needs(views=views)))


def distiller(task, method="none", regime="offline", settings=None):
    """A student of eight channels and a teacher of sixteen; of eight where the student starts as the teacher."""
    chosen = create(method, settings)
    torch.manual_seed(0)
    student = task.network("unet-w8")
    teacher = task.network("unet-w8" if chosen.needs.starts_as_teacher else "unet-w16")
    networks = {"student": student} | ({} if regime == "alone" else {"teacher": teacher})
    return Distiller(networks, chosen, regime, task.task_loss, task.kind, task.example(), task.facts())


def state(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def task():
    return open_task()


@pytest.fixture(scope="module")
def trained(task):
    return Trainer(distiller(task, regime="alone"), task, RECIPE, 0).run().networks


# --- batches and loss ---


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_batches_are_the_same_wherever_reading_starts_and_hold_their_targets(prediction):
    noise = DATA["noise"] | {"prediction": prediction}
    one, two = (open_task(noise=noise, conditional=True, flip=True) for _ in range(2))
    whole, rest = list(one.batches(3, 0)), list(two.batches(3, 1))
    assert (len(whole), len(rest)) == (one.steps_per_epoch, one.steps_per_epoch - 1) == (2, 1)
    for ours, theirs in zip(whole[1:], rest, strict=True):
        assert torch.equal(ours.student_input, theirs.student_input) and torch.equal(ours.target, theirs.target)
        assert all(torch.equal(a, b) for a, b in zip(ours.conditions, theirs.conditions, strict=True))
    assert torch.cat([batch.index for batch in whole]).sort().values.tolist() == list(range(96))
    images, labels = extractor.as_tensors(one.train)
    for batch in whole:
        t, label = batch.conditions
        alpha, sigma = (x[t].view(-1, 1, 1, 1) for x in (one.process.alphas, one.process.sigmas))
        clean, epsilon = batch.noising.clean, batch.noising.noise
        torch.testing.assert_close(batch.student_input, alpha * clean + sigma * epsilon)
        wanted = {"epsilon": epsilon, "sample": clean, "v_prediction": alpha * epsilon - sigma * clean}
        torch.testing.assert_close(batch.target, wanted[prediction])
        assert torch.equal(label, labels[batch.index]) and batch.student_input is batch.teacher_input
        own = images[batch.index]
        mirrored = torch.tensor([not torch.equal(a, b) for a, b in zip(clean, own, strict=True)])
        assert 0 < mirrored.sum() < 48 and torch.equal(clean[mirrored], own.flip(3)[mirrored])


def test_some_images_have_no_class_and_all_else_is_as_it_would_be():
    plain, dropping = open_task(conditional=True), open_task(conditional=True, label_dropout=0.3)
    dropped = 0
    for epoch in range(3):
        for ours, theirs in zip(plain.batches(epoch, 0), dropping.batches(epoch, 0), strict=True):
            assert torch.equal(ours.student_input, theirs.student_input)
            (t, told), (same, given) = ours.conditions, theirs.conditions
            assert torch.equal(t, same) and torch.equal(given[given != 10], told[given != 10])
            assert (ours.noising.null_label, theirs.noising.null_label) == (None, 10)
            dropped += int((given == 10).sum())
    assert 0.15 < dropped / 288 < 0.45
    known = [task.network("unet-w8").module.unet.config.num_class_embeds for task in (plain, dropping)]
    assert known == [10, 11] and dropping.classes == 10


def test_another_seed_epoch_or_step_is_other_noise():
    drawn = [next(open_task(seed=seed).batches(epoch, step)) for seed, epoch, step in
             ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]  # fmt: skip
    assert len({float(batch.noising.noise.sum()) for batch in drawn}) == 4
    assert len({tuple(batch.index.tolist()) for batch in drawn}) == 4


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_min_snr_weights_are_the_papers(prediction):
    opened = open_task(noise=DATA["noise"] | {"prediction": prediction}, snr_gamma=5.0)
    batch = next(opened.batches(0, 0))
    guess = torch.randn(batch.target.shape, generator=torch.Generator().manual_seed(0))
    found = opened.task_loss(guess, batch)
    assert found.shape == (48, 8, 8)
    retained = opened.schedule.scheduler().alphas_cumprod.tolist()
    weights = []
    for b, t in enumerate(batch.conditions[0].tolist()):
        snr = retained[t] / (1 - retained[t])
        weights.append(min(snr, 5.0) / {"epsilon": snr, "v_prediction": snr + 1, "sample": 1.0}[prediction])
        plain = (guess[b] - batch.target[b]).pow(2).mean(0)
        torch.testing.assert_close(found[b], weights[-1] * plain, rtol=1e-3, atol=1e-7)
    assert min(weights) < 0.9 * max(weights)
    unweighted = open_task(noise=DATA["noise"] | {"prediction": prediction}).task_loss(guess, batch)
    torch.testing.assert_close(unweighted, (guess - batch.target).pow(2).mean(1))


# --- training ---


def moved(before, module):
    after = module.state_dict()
    assert all(value.isfinite().all() for value in after.values())
    return any(not torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize(("method", "settings", "terms"), METHODS, ids=shown)
def test_a_student_learns_from_a_frozen_teacher_by_each_method(task, method, settings, terms):
    model = distiller(task, method, settings={method: settings} if settings else None)
    student, teacher = state(model.student), state(model.teacher)
    curves = Trainer(model, task, RECIPE, 0).run().curves
    told = {name.split(".", 2)[2] for name in curves if name.startswith("train.")}
    assert told == terms | {"task"} and all(len(values) == 1 for values in curves.values())
    assert moved(student, model.student) and not moved(teacher, model.teacher)


@pytest.mark.parametrize(("method", "student_terms", "teacher_terms"), ONLINE, ids=shown)
def test_two_networks_learn_from_each_other(task, method, student_terms, teacher_terms):
    model = distiller(task, method, "online")
    student, teacher = state(model.student), state(model.teacher)
    curves = Trainer(model, task, RECIPE, 0).run().curves
    expected = {f"train.student.{name}" for name in student_terms | {"task"}}
    expected |= {f"train.teacher.{name}" for name in teacher_terms | {"task"}}
    assert {name for name in curves if name.startswith("train.")} == expected
    assert moved(student, model.student) and moved(teacher, model.teacher)


def test_views_have_the_shapes_of_real_networks(task):
    model = distiller(task, "bksdm", settings={"bksdm": {"taps": ("down1", "down2", "mid", "up2", "up1")}})
    views = model.views(next(task.batches(0, 0)))[0]
    sides = {"down1": 4, "down2": 4, "mid": 4, "up2": 8, "up1": 8}
    for role, width in (("student", 8), ("teacher", 16)):
        assert views[role].prediction.shape == (48, 1, 8, 8) and views[role].task_loss.shape == (48, 8, 8)
        shapes = {tap: tuple(f.shape) for tap, f in views[role].features.items()}
        widths = {"down1": width, "down2": 2 * width, "mid": 2 * width, "up2": 2 * width, "up1": width}
        assert shapes == {tap: (48, widths[tap], side, side) for tap, side in sides.items()}


@pytest.mark.parametrize("method", ["output+adm", "progressive", "consistency"])
def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path, method):
    recipe = RECIPE.model_copy(update={"epochs": 2, "ema": 0.9})
    task = open_task(recipe=recipe)

    def stop(progress):
        if progress["epoch"] == 1:
            raise InterruptedError

    whole = Trainer(distiller(task, method), task, recipe, 0).run()
    file = tmp_path / "checkpoint.pt"
    with pytest.raises(InterruptedError):
        Trainer(distiller(task, method), task, recipe, 0, file, report=stop).run()
    resumed = Trainer(distiller(task, method), open_task(recipe=recipe), recipe, 0, file).run()
    ours, theirs = (run.networks["student"].module.state_dict() for run in (whole, resumed))
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items()) and whole.curves == resumed.curves


@pytest.mark.parametrize("method", ["progressive", "guidance", "dmd2"])
def test_networks_that_are_told_the_class_learn_by_steps_too(method):
    guided = DATA["sampling"] | {"guidance": [2]}
    task = open_task(conditional=True, label_dropout=0.2, sampling=guided)
    model = distiller(task, method)
    trained = Trainer(model, task, RECIPE, 0).run().networks
    assert model.student.unet.class_embedding is not None
    images = task.samples(trained["student"], 12)
    assert images.shape == (12, 1, 8, 8) and images.abs().max() <= 1
    scores = task.evaluate(trained, "test")
    assert all(
        {f"{name}/guidance 2" for name in ("frechet", "precision", "recall")} <= set(of) for of in scores.values()
    )


def test_a_student_inherits_its_teachers_blocks_where_the_protocol_says_so():
    for inherits in (True, False):
        task = open_task(inherit=inherits)
        teacher, student = task.network("unet3-w16"), task.network("unet3-w16-base")
        before = state(student.module)
        task.inherit(student, teacher)
        kept = student.module.unet.conv_in.weight, student.module.unet.up_blocks[0].resnets[1].conv1.weight
        given = teacher.module.unet.conv_in.weight, teacher.module.unet.up_blocks[0].resnets[2].conv1.weight
        assert all(torch.equal(a, b) == inherits for a, b in zip(kept, given, strict=True))
        assert moved(before, student.module) == inherits


def test_a_benchmark_scored_by_inception_opens_the_suites_classifier_once(monkeypatch):
    task, opened = open_task(), []

    def open_classifier(*arguments):
        opened.append(arguments)
        return classifier

    classifier, task.extractor = task.extractor, object()
    monkeypatch.setattr(extractor, "open_classifier", open_classifier)
    for batch in task.batches(0, 0):
        images = batch.noising.clean.requires_grad_()
        features, logits = batch.noising.classifier(images)
        assert features.shape == (48, classifier.dimensions) and logits.shape == (48, 10)
        features.sum().backward()
        assert images.grad.abs().sum() > 0
    assert len(opened) == 1


# --- scores and samples ---


def test_equal_seeds_give_equal_scores(task, trained):
    again = open_task()
    twin = Trainer(distiller(again, regime="alone"), again, RECIPE, 0).run().networks
    scores = task.evaluate(trained, "test")
    assert scores == again.evaluate(twin, "test") and task.metric in scores["student"]
    assert min(task.costs["sampling"].values()) > 0 and not task.has_validation
    with pytest.raises(AdmError, match="no validation split"):
        task.evaluate(trained, "validation")


def test_settings_are_not_chosen_by_the_noises_that_the_scores_are_of(task, trained):
    reported = open_task(validation="own")
    chosen = open_task(validation="own", scored="validation", test_limit=None)
    test, validation = (reported.evaluate(trained, split)["student"] for split in ("test", "validation"))
    assert test["frechet"] != validation["frechet"] and test["coverage"] != validation["coverage"]
    assert test == task.evaluate(trained, "test")["student"]
    assert chosen.evaluate(trained, "test")["student"] == validation
    student = trained["student"]
    assert torch.equal(reported.samples(student, 8), task.samples(student, 8))
    assert not torch.allclose(reported.samples(student, 8), chosen.samples(student, 8), atol=0.1)


def test_a_method_has_its_student_sampled_in_its_own_way_and_the_teacher_as_ever(task):
    found = {}
    for name in ("ddim", "multistep"):
        settings = {"consistency": {"sampler": name}}
        whole = distiller(task, "consistency+koala" if name == "multistep" else "consistency", settings=settings)
        student = whole.deployed(whole.networks)["student"]
        assert (
            ("own-sampler" in whole.needs.capabilities) == (name == "multistep") == (student.sampler == name != "ddim")
        )
        found[name] = task.evaluate(whole.deployed(whole.networks), "test"), task.samples(student, 20)
    (plain, ddim), (own, multistep) = found.values()
    assert plain["teacher"] == own["teacher"] and plain["student"]["frechet"] != own["student"]["frechet"]
    assert plain["student"]["denoising_error"] == own["student"]["denoising_error"]
    assert not torch.allclose(ddim, multistep, atol=0.1)


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_plain_diffusers_samples_the_same_images_from_a_saved_student(tmp_path, prediction):
    task = open_task(noise=DATA["noise"] | {"prediction": prediction})
    student = Trainer(distiller(task, regime="alone"), task, RECIPE, 0).run().networks["student"]
    task.export(student, tmp_path)
    pipeline = DDIMPipeline.from_pretrained(tmp_path)
    scheduler, images = pipeline.scheduler, initial_noise(80, 1, 8)[:16]
    scheduler.set_timesteps(5)
    with torch.no_grad():
        for t in scheduler.timesteps:
            images = scheduler.step(
                pipeline.unet(images, t).sample, t, images, use_clipped_model_output=True
            ).prev_sample
    ours = task.samples(student, 16)
    torch.testing.assert_close(ours, images.clamp(-1, 1), rtol=1e-4, atol=1e-5)
    assert ours.std() > 0.05 and not torch.equal(ours[0], ours[1])


# --- what is refused ---


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"views": "own"}, "gives each network a view of its own, which diffusion does not have"),
        ({"benchmark": "digit@2"}, r"unknown benchmark 'digit@2'; did you mean digits@2"),
        ({"sampling": {"steps": 5, "samples": 40}}, r"scoring with 40 generated images: .* need \d+ or more"),
        ({"train_limit": 50}, r"scoring with 50 training images: .* need \d+ or more"),
        ({"sampling": {"steps": 7, "samples": 80}}, "sampling in 7 steps: it must be a divisor of the 100 timesteps"),
        ({"sampling": {"steps": 5}}, r"sampling\.samples"),
        (
            {"conditional": True, "sampling": DATA["sampling"] | {"guidance": [2]}},
            "'data.label_dropout' = 0.0: data.sampling.guidance needs networks that are sometimes told no class",
        ),
        ({"label_dropout": 0.1}, "'data.label_dropout' = 0.1: there are classes to drop .* set data.conditional: true"),
        ({"nois": {}}, "nois"),
        ({"noise": {"schedule": "sine"}}, r"noise\.schedule"),
        ({"recipe": RECIPE.model_copy(update={"batch_size": 97})}, "batch_size 97 is more than the 96 training images"),
    ],
    ids=str,
)
def test_what_cannot_be_trained_or_scored_is_refused_with_a_reason(changes, words):
    with pytest.raises(AdmError, match=words):
        open_task(**changes)


def test_there_are_no_object_masks(task):
    with pytest.raises(AdmError, match="has no object masks"):
        task.object_examples(1)
