"""A segmentation pair in our loop against MMEngine's own Runner, the same two networks with the same losses.

    OMP_NUM_THREADS=1 pytest tests/benchmarks/test_segmentation_step.py --benchmark-only -s

Both train pspnet-r18w16 > pspnet-r18w8 on shape-scenes at batch 16 on one torch thread, examples made in the same
process by the same MMSegmentation transforms: cross-entropy of head and auxiliary head, and pixel-wise KL from the
frozen teacher. The Runner's side is written as MMSegmentation's users write it: a model that holds both networks,
``parse_losses``, the default hooks. Rounds take turns; the best of each counts. Claim: ours takes no longer. So too
in evaluation, where MMSegmentation's side is its own ``predict`` and ``IoUMetric``.
"""

import time
import warnings
from pathlib import Path

import numpy as np
import torch

from adm_core import freed_memory
from adm_core.distiller import Distiller
from adm_core.method import Facts
from adm_core.recipe import Optimizer, Protocol, Recipe
from adm_core.registry import create
from adm_core.task import TaskContext
from adm_core.train import Trainer
from tasks.datasets.scenes import VOID
from tasks.datasets.shape_scenes import CLASSES, shape_scenes
from tasks.segmentation import compat, evaluation, networks
from tasks.segmentation.batches import evaluation_batches
from tasks.segmentation.networks import configs
from tasks.segmentation.pipeline import as_results
from tasks.segmentation.task import TASK

FACTS = Facts(examples=2, classes=4, labels=None, steps=1, batch_size=2)

STEPS, BATCH, ROUNDS = 24, 16, 3
TEACHER, STUDENT = "pspnet-r18w16", "pspnet-r18w8"
DATA = {"crop": [64, 64], "flip": False, "train_limit": STEPS * BATCH}
ADAMW = Optimizer(name="adamw", lr=0.001, weight_decay=0.01)


def ours() -> float:
    """CPU seconds of one epoch of STEPS steps in our loop."""
    recipe = Recipe(epochs=1, batch_size=BATCH, optimizer=ADAMW)
    protocol = Protocol(title="benchmark", source="own", task="segmentation", recipe=recipe, data=DATA)
    task = TASK(TaskContext("shape-scenes@3", protocol, 0, torch.device("cpu")))
    kd = create("kd", {"kd": {"temperature": 1.0, "weight": 1.0, "task_weight": 1.0}})
    teacher, student = task.network(TEACHER), task.network(STUDENT)
    model = Distiller(
        {"student": student, "teacher": teacher}, kd, "offline", task.task_loss, task.kind, task.example(), task.facts()
    )
    trainer = Trainer(model, task, recipe, 0)
    began = time.process_time()
    trainer.run()
    return time.process_time() - began


def runners_parts():
    """MMSegmentation's side: data set, distiller and clock, as its users write them."""
    from mmengine.hooks import Hook
    from mmengine.model import BaseModel
    from mmseg.registry import DATASETS, HOOKS, MODELS, TRANSFORMS

    class Shapes(torch.utils.data.Dataset):
        def __init__(self):
            self.scenes = shape_scenes("train").limit(STEPS * BATCH)
            crop = {"type": "RandomCrop", "crop_size": (64, 64), "cat_max_ratio": 1.0}
            self.steps = [TRANSFORMS.build(step) for step in (crop, {"type": "PackSegInputs"})]

        def __len__(self):
            return len(self.scenes)

        def __getitem__(self, i):
            results = as_results(*self.scenes.read(i)) | {"img_path": str(i), "seg_map_path": str(i)}
            for step in self.steps:
                results = step(results)
            return results

    class SegDistiller(BaseModel):
        def __init__(self, student, teacher, data_preprocessor):
            super().__init__(data_preprocessor=data_preprocessor)
            self.student, self.teacher = MODELS.build(student), MODELS.build(teacher).requires_grad_(False)

        def train(self, mode=True):
            super().train(mode)
            self.teacher.eval()
            return self

        def forward(self, inputs, data_samples=None, mode="tensor"):
            features = self.student.extract_feat(inputs)
            logits = self.student.decode_head(features)
            losses = self.student.decode_head.loss_by_feat(logits, data_samples)
            losses |= {f"aux.{k}": v for k, v in self.student.auxiliary_head.loss(features, data_samples, {}).items()}
            with torch.no_grad():
                target = self.teacher(inputs, mode="tensor").log_softmax(1)
            log_p = logits.log_softmax(1)
            return losses | {"kd.loss": (target.exp() * (target - log_p)).sum(1).mean()}

    class Clock(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if batch_idx == 0:
                Clock.began = time.process_time()

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            Clock.ended = time.process_time()

    for registry, part in ((DATASETS, Shapes), (MODELS, SegDistiller), (HOOKS, Clock)):
        registry.register_module(module=part, force=True)
    return Clock


def runner(folder: Path, clock) -> float:
    """CPU seconds of STEPS iterations of MMEngine's Runner, the first batch's data left out."""
    from mmengine.runner import Runner

    def config(name):
        found = configs.adapted(configs.resolve(name), name, len(CLASSES), False)
        return {key: value for key, value in found.items() if key != "data_preprocessor"}

    preprocessor = configs.adapted(configs.resolve(STUDENT), STUDENT, len(CLASSES), False)["data_preprocessor"]
    made = Runner(
        model={
            "type": "SegDistiller", "student": config(STUDENT), "teacher": config(TEACHER),
            "data_preprocessor": preprocessor | {"size": (64, 64)},
        },
        work_dir=str(folder),
        train_dataloader={
            "batch_size": BATCH, "num_workers": 0, "dataset": {"type": "Shapes"},
            "sampler": {"type": "InfiniteSampler", "shuffle": True},
        },
        train_cfg={"type": "IterBasedTrainLoop", "max_iters": STEPS},
        optim_wrapper={"type": "OptimWrapper", "optimizer": {"type": "AdamW", "lr": 0.001, "weight_decay": 0.01}},
        custom_hooks=[{"type": "Clock"}],
        default_scope="mmseg",
        log_level="ERROR",
        randomness={"seed": 0},
    )  # fmt: skip
    made.train()
    return clock.ended - clock.began


def test_the_two_sides_have_the_same_losses():
    """Not a benchmark: on one batch and with the same weights both sides' terms agree."""
    compat.load()
    from mmengine.structures import PixelData
    from mmseg.registry import MODELS
    from mmseg.structures import SegDataSample

    runners_parts()
    student, teacher = (networks.build(name, len(CLASSES)) for name in (STUDENT, TEACHER))
    theirs = MODELS.build({"type": "SegDistiller", "student": student.module.config, "teacher": teacher.module.config,
                           "data_preprocessor": None})  # fmt: skip
    theirs.student.load_state_dict(student.module.model.state_dict())
    theirs.teacher.load_state_dict(teacher.module.model.state_dict())
    for part in [*theirs.modules(), *student.module.modules()]:
        if isinstance(part, torch.nn.Dropout2d):
            part.p = 0.0
    x, y = 255 * torch.rand(2, 3, 64, 64), torch.randint(len(CLASSES), (2, 64, 64))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in y]
    found = theirs.train()(student.module.normalised(x), samples, mode="loss")
    from adm_core.batch import Batch

    kd = create("kd", {"kd": {"temperature": 1.0, "weight": 1.0, "task_weight": 1.0}})
    model = Distiller(
        {"student": student, "teacher": teacher},
        kd,
        "offline",
        TASK.task_loss.__get__(object()),
        "class_logits",
        (x,),
        FACTS,
    )
    ours = model(Batch(x, x, y, torch.arange(2)), 0.5, torch.Generator())
    expected = sum(value for key, value in found.items() if "loss" in key)
    torch.testing.assert_close(ours.total, expected, rtol=1e-4, atol=1e-5)


def test_our_loop_is_no_slower_than_mmengines(benchmark, tell, tmp_path):
    """CPU time of a whole step, data included."""
    torch.set_num_threads(1)
    freed_memory.keep()
    compat.load()

    clock, best = runners_parts(), {"ours": np.inf, "runner": np.inf}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for turn in range(ROUNDS + 1):
            took = {"ours": ours(), "runner": runner(tmp_path / str(turn), clock)}
            if turn:
                best = {side: min(best[side], 1000 * took[side] / STEPS) for side in best}
    benchmark.pedantic(lambda: None, rounds=1)
    ratio = best["ours"] / best["runner"]
    tell(
        f"segmentation: KD step of {TEACHER} > {STUDENT}, batch {BATCH}, 64×64, against MMEngine's own Runner on the "
        "same networks, losses and transforms",
        f"{ratio:.2f} × its time ({best['runner']:.0f} → {best['ours']:.0f} ms)",
        headline=True, ours_ms=best["ours"], runner_ms=best["runner"],
    )  # fmt: skip


def theirs(network, batches, classes: int) -> list[torch.Tensor]:
    """Areas of a set by MMSegmentation's ``predict`` and ``IoUMetric``, as its test loop takes them."""
    from mmseg.evaluation import IoUMetric
    from mmseg.structures import SegDataSample

    totals = [torch.zeros(classes) for _ in range(4)]
    for batch in batches:
        size = tuple(batch.images.shape[2:])
        samples = [SegDataSample(metainfo={"ori_shape": size, "img_shape": size}) for _ in batch.images]
        with torch.inference_mode():
            samples = network.model.predict(network.normalised(batch.images), samples)
        found = torch.cat([sample.pred_sem_seg.data for sample in samples])
        areas = IoUMetric.intersect_and_union(found, batch.labels.long(), classes, VOID)
        totals = [total + area for total, area in zip(totals, areas, strict=True)]
    return totals


def test_evaluation_is_no_slower_than_mmsegmentations(benchmark, tell):
    """The test split of shape-scenes at batch 16; claim: at most 0.95 of MMSegmentation's time."""
    torch.set_num_threads(1)
    freed_memory.keep()
    compat.load()
    test, network = shape_scenes("test"), networks.build(STUDENT, len(CLASSES)).module.eval()
    network.to(memory_format=torch.channels_last)
    batches = list(evaluation_batches(test, BATCH, torch.device("cpu")))
    sides = {
        "ours": lambda: evaluation.evaluate({"student": network}, batches, test.classes, None),
        "mmseg": lambda: theirs(network, batches, len(CLASSES)),
    }
    best = dict.fromkeys(sides, np.inf)
    for turn in range(ROUNDS + 1):
        for side, work in sides.items():
            began = time.process_time()
            work()
            if turn:
                best[side] = min(best[side], time.process_time() - began)
    benchmark.pedantic(lambda: None, rounds=1)
    ratio = best["ours"] / best["mmseg"]
    tell(
        f"segmentation: {STUDENT} on {len(test)} images scored, against MMSegmentation's inference and IoUMetric",
        f"{ratio:.2f} × its time ({best['mmseg']:.2f} → {best['ours']:.2f} s)",
        ours_s=best["ours"], mmseg_s=best["mmseg"],
    )  # fmt: skip
    assert ratio <= 0.95
