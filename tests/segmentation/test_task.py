"""The task on real data: training learns, resuming is exact, scores and saved students are MMSegmentation's own."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from adm_core.distiller import Distiller
from adm_core.errors import AdmError
from adm_core.method import Needs
from adm_core.recipe import Optimizer, Protocol, Recipe, Schedule
from adm_core.registry import create
from adm_core.task import TaskContext
from adm_core.train import Trainer
from tasks import datasets
from tasks.datasets.scenes import VOID
from tasks.segmentation import evaluation
from tasks.segmentation.batches import evaluation_batches
from tasks.segmentation.data_settings import Sliding
from tasks.segmentation.task import TASK

CPU = torch.device("cpu")
RECIPE = Recipe(
    epochs=2,
    batch_size=8,
    optimizer=Optimizer(name="adamw", lr=0.005),
    schedule=Schedule(name="onecycle", warmup=0.6),
)
DATA = {"crop": [64, 64], "flip": False, "train_limit": 64, "test_limit": 24}


def open_task(benchmark="shape-scenes@3", views="shared", recipe=RECIPE, roots=(), **data):
    protocol = Protocol(title="test", source="test", task="segmentation", recipe=recipe, data=DATA | data)
    return TASK(TaskContext(benchmark, protocol, 0, CPU, roots, Needs(views=views)))


def distiller(task, method="none", regime="alone", teacher=None):
    torch.manual_seed(0)
    student = task.network("pspnet-r18w8")
    networks = {"student": student} | ({"teacher": task.network(teacher)} if teacher else {})
    return Distiller(networks, create(method), regime, task.task_loss, task.kind, task.example(), task.facts())


def state(trained):
    return torch.cat([p.detach().flatten() for p in trained.networks["student"].module.parameters()])


@pytest.fixture(scope="module")
def trained():
    task = open_task()
    return task, Trainer(distiller(task), task, RECIPE, 0).run()


def test_training_learns_something(trained):
    _, result = trained
    losses = result.curves["train.student.task"]
    assert losses[-1] < 0.9 * losses[0] and "train.student.auxiliary" in result.curves


@pytest.mark.parametrize(("method", "regime"), [("dml+adm", "online"), ("kd+cirkd", "offline"), ("kd+skd", "offline")])
def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path, method, regime):
    task = open_task(recipe=RECIPE.model_copy(update={"epochs": 2}), train_limit=24)
    whole = Trainer(distiller(task, method, regime, "pspnet-r18w16"), task, RECIPE, 0).run()

    class Stop(Exception):
        pass

    def stop(progress):
        if progress["epoch"] == 1:
            raise Stop

    file = tmp_path / "checkpoint.pt"
    with pytest.raises(Stop):
        Trainer(distiller(task, method, regime, "pspnet-r18w16"), task, RECIPE, 0, file, report=stop).run()
    resumed = Trainer(distiller(task, method, regime, "pspnet-r18w16"), task, RECIPE, 0, file).run()
    assert torch.equal(state(whole), state(resumed))


@pytest.mark.parametrize("parts", [1, 2])
def test_online_none_is_each_network_alone_dropout_of_the_heads_included(parts):
    recipe = RECIPE.model_copy(update={"epochs": 1, "accumulate": parts})
    task = open_task(recipe=recipe, train_limit=16)
    assert any(isinstance(m, torch.nn.Dropout2d) and m.p > 0 for m in task.network("pspnet-r18w8").module.modules())

    def train(regime, **names):
        networks = {}
        for role, name in names.items():
            torch.manual_seed(len(name))
            networks[role] = task.network(name)
        model = Distiller(networks, create("none"), regime, task.task_loss, task.kind, task.example(), task.facts())
        return {role: n.module.state_dict() for role, n in Trainer(model, task, recipe, 0).run().networks.items()}

    pair = train("online", student="pspnet-r18w8", teacher="pspnet-r18w16")
    alone = train("alone", student="pspnet-r18w8")
    beside_another = train("online", student="fcn-r18w8", teacher="pspnet-r18w16")
    for role, other in (("student", alone), ("teacher", beside_another)):
        assert [name for name, value in pair[role].items() if not torch.equal(value, other[role][name])] == []


def test_scores_are_those_of_a_confusion_matrix(trained):
    task, result = trained
    network = result.networks["student"].module
    confusion = np.zeros((9, 9))
    for batch in evaluation_batches(task.test, 16, CPU):
        predicted = evaluation.predict_logits(network, batch.images, None).argmax(1)
        valid = batch.labels != VOID
        np.add.at(confusion, (batch.labels[valid].numpy(), predicted[valid].numpy()), 1)
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    with np.errstate(invalid="ignore"):
        iou = 100 * np.diag(confusion) / union
    scores = task.evaluate(result.networks, "test")["student"]
    assert scores["miou"] == pytest.approx(np.nanmean(iou))
    assert scores["aacc"] == pytest.approx(100 * np.trace(confusion) / confusion.sum())
    for name, value in zip(task.test.classes, iou, strict=True):
        assert scores[f"iou/{name}"] == (None if np.isnan(value) else pytest.approx(value))


def test_a_class_that_nobody_names_or_labels_has_no_score_and_void_is_left_out():
    labels = torch.tensor([[[0, 1], [VOID, VOID]]], dtype=torch.uint8)
    found = evaluation.areas(torch.tensor([[[0, 0], [1, 2]]]), labels, 3)
    scores = evaluation.scores(found, ("a", "b", "c"))
    assert scores == {"miou": 25.0, "macc": 50.0, "aacc": 50.0, "iou/a": 50.0, "iou/b": 0.0, "iou/c": None}


def test_the_pixels_of_a_class_are_counted_beyond_float32s_whole_numbers():
    labels = torch.zeros(1, 4097, 4096, dtype=torch.uint8)
    found = evaluation.areas(labels.long(), labels, 2)
    assert [area.tolist() for area in found] == [[4097 * 4096, 0]] * 4 and 4097 * 4096 > 2**24


@pytest.mark.parametrize("name", ["pspnet-r18w8", "fcn-r18w8"])
def test_predicted_classes_are_those_of_mmsegmentations_predict(trained, name):
    from mmseg.structures import SegDataSample

    task, _ = trained
    images = next(iter(evaluation_batches(task.test, 4, CPU))).images
    network = task.network(name).module.eval()
    found = evaluation.predict_logits(network, images, None).argmax(1)
    samples = [SegDataSample(metainfo={"ori_shape": (64, 64), "img_shape": (64, 64)}) for _ in images]
    with torch.inference_mode():
        theirs = network.model.predict(network.normalised(images), samples)
    expected = torch.cat([sample.pred_sem_seg.data for sample in theirs])
    assert torch.equal(found, expected) and expected.unique().numel() > 1


def test_equals_are_scored_together_by_the_mean_of_their_softmax_outputs(trained):
    task, _ = trained
    torch.manual_seed(5)
    pair = {role: task.network("pspnet-r18w8") for role in ("student", "peer1")}
    totals = evaluation.Areas(*[torch.zeros(9, dtype=torch.float64)] * 4)
    for batch in evaluation_batches(task.test, 16, CPU):
        each = [evaluation.predict_logits(n.module, batch.images, None).double().softmax(1) for n in pair.values()]
        found = evaluation.areas(((each[0] + each[1]) / 2).argmax(1), batch.labels, 9)
        totals = evaluation.Areas(*(a + b for a, b in zip(totals, found, strict=True)))
    scores = task.evaluate(pair, "test")
    assert scores["ensemble"]["aacc"] == pytest.approx(evaluation.scores(totals, task.test.classes)["aacc"])
    assert scores["ensemble"]["aacc"] not in (scores["student"]["aacc"], scores["peer1"]["aacc"])
    assert scores["student"] == task.evaluate({"student": pair["student"]}, "test")["student"]


def test_areas_are_those_of_mmsegmentations_metric():
    from mmseg.evaluation import IoUMetric

    generator = torch.Generator().manual_seed(0)
    predicted = torch.randint(5, (3, 17, 19), generator=generator)
    labels = torch.randint(5, (3, 17, 19), generator=generator).masked_fill(predicted == 3, VOID)
    theirs = IoUMetric.intersect_and_union(predicted, labels, 5, VOID)
    for own, other in zip(evaluation.areas(predicted, labels.to(torch.uint8), 5), theirs, strict=True):
        assert torch.equal(own, other.double())


def test_windows_that_cover_the_whole_image_change_nothing(trained):
    task, result = trained
    network, images = result.networks["student"].module, next(iter(evaluation_batches(task.test, 4, CPU))).images
    whole = evaluation.predict_logits(network, images, None)
    assert torch.equal(whole, evaluation.predict_logits(network, images, Sliding(crop=64, stride=64)))
    assert evaluation.predict_logits(network, images, Sliding(crop=32, stride=16)).shape == whole.shape


def test_plain_mmsegmentation_predicts_the_same_from_a_saved_student(trained, tmp_path):
    task, result = trained
    network = result.networks["student"]
    task.export(network, tmp_path / "student")
    from mmseg.apis import inference_model, init_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = init_model(str(tmp_path / "student" / "config.py"), str(tmp_path / "student" / "weights.pth"), "cpu")
    assert tuple(plain.dataset_meta["classes"]) == task.test.classes
    predicted = []
    for i in range(len(task.test)):
        file = tmp_path / f"{i}.png"
        Image.fromarray(task.test.read(i)[0]).save(file)
        predicted.append(inference_model(plain, str(file)).pred_sem_seg.data)
    labels = torch.stack([torch.from_numpy(np.array(task.test.read(i)[1])) for i in range(len(task.test))])
    found = evaluation.areas(torch.cat(predicted), labels, 9)
    theirs = evaluation.scores(found, task.test.classes)
    ours = task.evaluate(result.networks, "test")["student"]
    assert theirs["miou"] == pytest.approx(ours["miou"], abs=1e-3)


def test_weights_from_mmsegmentation_fit_and_others_say_why(trained, tmp_path):
    task, result = trained
    task.export(result.networks["student"], tmp_path)
    weights = torch.load(tmp_path / "weights.pth", weights_only=True)["state_dict"]
    fresh = task.network("pspnet-r18w8")
    task.load(fresh, weights, "weights.pth")
    old = result.networks["student"].module.state_dict()
    assert all(torch.equal(value, old[key]) for key, value in fresh.module.state_dict().items())
    with pytest.raises(AdmError, match=r"weights\.pth"):
        task.load(task.network("pspnet-r18w16"), weights, "weights.pth")
    weights["decode_head.conv_seg.weight"] = torch.zeros(150, 16, 1, 1)
    weights["decode_head.conv_seg.bias"] = torch.zeros(150)
    with pytest.raises(AdmError, match=r"150 classes.*shape-scenes@3.*9"):
        task.load(task.network("pspnet-r18w8"), weights, "weights.pth")


def test_object_examples_mark_the_pixels_of_object_classes():
    task = open_task()
    examples = list(task.object_examples(10))
    assert sum(len(e.images) for e in examples) == 10
    for e in examples:
        assert torch.equal(e.objects, e.batch.target > 0) and e.images.dtype == torch.uint8
        assert torch.equal(e.images.float(), e.batch.student_input)
    with pytest.raises(AdmError, match="does not tell objects from stuff"):
        task.spec = task.spec | {"objects": []}
        next(task.object_examples(1))


def test_every_split_is_its_own(monkeypatch):
    task = open_task(validation=0.25, train_limit=None)
    assert len(task.train) == 750 and len(task.validation) == 250
    chosen = open_task(validation="own", scored="validation", test_limit=None)
    assert chosen.test is chosen.validation and chosen.data_digest() != task.data_digest()


def test_an_unknown_benchmark_and_missing_data_are_told(tmp_path):
    with pytest.raises(AdmError, match=r"unknown benchmark 'camvid'.*camvid@2"):
        open_task("camvid")
    with pytest.raises(AdmError, match=r"CamVid \(11 classes\) was not found"):
        open_task("camvid@2", roots=[tmp_path])


@pytest.mark.skipif(
    not datasets.available("camvid", datasets.roots_from_environment())[0], reason="CamVid is not in ADM_DATA"
)
def test_real_street_scenes_train_and_score():
    task = open_task(
        "camvid@2", roots=datasets.roots_from_environment(), crop=[96, 128], scale=[0.5, 1.5], flip=True, colour=True
    )
    result = Trainer(distiller(task, "kd", "offline", "pspnet-r18w16"), task, RECIPE, 0).run()
    scores = task.evaluate(result.networks, "test")
    assert 0 < scores["student"]["miou"] < 100 and scores["student"]["iou/sky"] is not None
