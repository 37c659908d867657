"""Segmentation networks: the sizes of the list, taps that show what they say, and MMSegmentation's own losses."""

import os
import subprocess
import sys
from importlib import metadata

import pytest
import torch
import torch.nn.functional as F

from adm_core.batch import Batch
from adm_core.distiller import Distiller
from adm_core.errors import AdmError, Unsupported
from adm_core.frozen import frozen_copy
from adm_core.method import Facts
from adm_core.network_definition import NetworkDefinition
from adm_core.registry import create
from adm_core.taps import probe, record
from suites.spec.networks import config_digest
from tasks.segmentation import compat, networks
from tasks.segmentation.networks import configs, segmentor
from tasks.segmentation.task import SegmentationTask

FACTS = Facts(examples=2, classes=4, labels=None, steps=1, batch_size=2)

CLASSES = 5
LISTED = {entry["name"]: entry for entry in networks.catalogue()}
SMALL = [name for name, entry in LISTED.items() if entry["family"] == "cpu"]
LARGE = {"pspnet-r101", "segformer-b4"}
"""Of the literature's networks those that a test builds in full; the rest differ in depth, width and head alone."""
SECONDS_EACH = sorted({*SMALL, "deeplabv3-r18", "pspnet-r18", "segformer-b0", "deeplabv3-mnv2", "upernet-r18", *LARGE})


def trainable(module):
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", SECONDS_EACH)
def test_a_listed_network_has_the_size_and_taps_of_the_list(name):
    built = networks.build(name, 19)
    assert trainable(built.module) == LISTED[name]["parameters"]
    assert set(LISTED[name]["taps"]) <= set(built.taps)
    shapes = probe(built, LISTED[name]["taps"], (torch.zeros(2, 3, 64, 64),))
    assert shapes["prediction"][:2] == (2, 19) and shapes["logits"] == shapes["prediction"]
    assert all(len(shape) == 4 for shape in shapes.values())


def test_penultimate_is_what_the_classifier_reads():
    built = networks.build("pspnet-r18w8", CLASSES)
    built.module.eval()
    head = built.module.model.decode_head
    with torch.no_grad(), record(built, ["penultimate"]) as seen:
        logits = built.module(255 * torch.rand(2, 3, 64, 64))
    torch.testing.assert_close(head.conv_seg(seen["penultimate"]), logits)


def test_forward_is_mmsegmentations_own_on_normalised_pictures():
    built = networks.build("deeplabv3-r18w8", CLASSES)
    built.module.eval()
    picture = 255 * torch.rand(2, 3, 64, 64)
    plain = built.module.model
    data = {"inputs": list(picture.flip(1)), "data_samples": None}  # MMSegmentation reads blue first
    normalised = plain.data_preprocessor(data, training=False)["inputs"]
    with torch.no_grad():
        torch.testing.assert_close(built.module(picture), plain(normalised, mode="tensor"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["pspnet-r18w8", "segformer-b0x0.5", "ocr"])
def test_the_training_loss_is_mmsegmentations_own_auxiliary_heads_and_cascades_included(name):
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    ocr = NetworkDefinition(
        base="ocrnet-r101",
        overrides={
            "backbone": {"depth": 18, "base_channels": 8, "stem_channels": 8},
            "decode_head": {
                "0": {"in_channels": 32, "channels": 8},
                "1": {"in_channels": 64, "channels": 8, "ocr_channels": 8},
            },
        },
    )
    built = networks.build(name, CLASSES, definition=ocr if name == "ocr" else None)
    for part in built.module.modules():
        if isinstance(part, torch.nn.Dropout | torch.nn.Dropout2d) or type(part).__name__ == "DropPath":
            part.eval()
            part.p = part.drop_prob = 0.0
    x, y = 255 * torch.rand(2, 3, 64, 64), torch.randint(CLASSES, (2, 64, 64))
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in y]
    theirs = built.module.model.loss(built.module.normalised(x), samples)
    expected = sum(value for key, value in theirs.items() if "loss" in key)

    task_loss = SegmentationTask.task_loss.__get__(object())
    d = Distiller({"student": built}, create("none"), "alone", task_loss, "class_logits", (x,), FACTS)

    ours = d(Batch(x, x, y, torch.arange(2), torch.ones_like(y, dtype=torch.bool)), 0.5, torch.Generator())
    torch.testing.assert_close(ours.total, expected, rtol=1e-4, atol=1e-5)
    assert ("student.auxiliary" in ours.terms) == bool(built.auxiliary)


def test_the_auxiliary_head_of_a_frozen_teacher_runs_where_a_tap_listens():
    built = networks.build("pspnet-r18w8", CLASSES)
    teacher = frozen_copy(built, ("auxiliary1",))
    x, runs = 255 * torch.rand(2, 3, 64, 64), []
    with record(teacher, ("stage3", "auxiliary1")) as seen:
        prediction = teacher.module(x)
    expected = built.module.eval().model.auxiliary_head([None, None, seen["stage3"]])
    torch.testing.assert_close(seen["auxiliary1"], expected, rtol=1e-4, atol=1e-5)
    inside = teacher.module.model.auxiliary_head.conv_seg  # a hook on the head itself would be a tap that listens
    inside.register_forward_hook(lambda *_: runs.append("auxiliary"))
    assert torch.equal(teacher.module(x), prediction) and runs == []


@pytest.mark.parametrize(("name", "settings"), [("dsd", {}), ("dist", {"auxiliary_weight": 0.4}), ("rdd", {})])
def test_methods_read_the_auxiliary_predictions_of_both_networks(name, settings):
    def distiller(teacher, student, **own):
        networks_of = {"student": networks.build(student, CLASSES), "teacher": networks.build(teacher, CLASSES)}
        task_loss = SegmentationTask.task_loss.__get__(object())
        return Distiller(networks_of, create(name, {name: own}), "offline", task_loss, "class_logits", (x,), FACTS)

    x, y = 255 * torch.rand(2, 3, 64, 64), torch.randint(CLASSES, (2, 64, 64))
    batch = Batch(x, x, y, torch.arange(2), torch.ones_like(y, dtype=torch.bool))
    found = distiller("pspnet-r18w16", "fcn-r18w8", **settings)
    for mode in (True, False):
        views, _ = found.train(mode).views(batch)
        assert all(view.features["auxiliary1"].shape == view.prediction.shape for view in views.values())
        assert found(batch, 0.05, torch.Generator()).total.isfinite()
    if name == "rdd":  # it has another way where there is none
        assert "auxiliary1" not in distiller("segformer-b0x0.5", "fcn-r18w8").views(batch)[0]["teacher"].features
    else:
        with pytest.raises(Unsupported, match=r"network 'segformer-b0x0\.5': unknown tap 'auxiliary1'"):
            distiller("segformer-b0x0.5", "fcn-r18w8", **settings)


def test_a_shipped_configuration_is_a_network_by_name():
    built = networks.build("mmseg/fcn_r18-d8_4xb2-80k_cityscapes-512x1024", 7)
    assert built.module.model.decode_head.num_classes == 7
    assert trainable(networks.build("fcn-r18", 19).module) == LISTED["fcn-r18"]["parameters"]


def test_an_unknown_configuration_is_told_with_the_nearest_names():
    with pytest.raises(AdmError, match=r"mmseg/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024"):
        networks.check("mmseg/pspnet_r18-d8_4xb2-80k_cityscape-512x1024", "pairs")
    with pytest.raises(AdmError, match=r"unknown network 'pspnet-r19'.*pspnet-r18"):
        networks.build("pspnet-r19", CLASSES)


def test_a_configuration_file_and_overrides(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "norm_cfg = dict(type='SyncBN', requires_grad=True)\n"
        "model = dict(type='EncoderDecoder',\n"
        "    data_preprocessor=dict(type='SegDataPreProcessor', mean=[0.0] * 3, std=[255.0] * 3, bgr_to_rgb=False),\n"
        "    backbone=dict(type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, norm_cfg=norm_cfg),\n"
        "    decode_head=dict(type='FCNHead', in_channels=64, in_index=3, channels=8, num_classes=2,\n"
        "                     norm_cfg=norm_cfg))\n"
    )
    definition = NetworkDefinition(base="mine.py", overrides={"decode_head": {"channels": 12}}, file=file)
    built = networks.build("mine", CLASSES, definition=definition)
    head = built.module.model.decode_head
    assert head.channels == 12 and head.num_classes == CLASSES
    assert not any(type(m).__name__ == "SyncBatchNorm" for m in built.module.modules())
    picture = torch.rand(1, 3, 4, 4) * 255
    torch.testing.assert_close(built.module.normalised(picture), picture.flip(1) / 255)  # it wants blue first


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model = dict(type='EncoderDecoder'", r"mine\.py cannot be read: SyntaxError"),
        ("lr = 0.1", r"mine\.py has no 'model'"),
        ("model = dict(type='DepthEstimator')", "is a DepthEstimator"),
    ],
)
def test_a_file_that_is_no_network_is_told(tmp_path, text, told):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(AdmError, match=told):
        networks.build("mine", CLASSES, definition=NetworkDefinition(base="mine.py", file=tmp_path / "mine.py"))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"decode_head": {"loss_decode": {"type": "DiceLoss"}}}, "is trained by DiceLoss"),
        ({"decode_head": {"loss_decode": {"class_weight": [1.0] * CLASSES}}}, "class weights"),
        ({"decode_head": {"sampler": {"type": "OHEMPixelSampler"}}}, "a sampler"),
        ({"decode_head": {"in_channels": 3}}, "cannot be run"),
        ({"backbone": {"depth": 17}}, "cannot be built"),
    ],
)
def test_a_network_that_cannot_be_compared_or_built_says_why(overrides, told):
    definition = NetworkDefinition(base="pspnet-r18w8", overrides=overrides)
    with pytest.raises(AdmError, match=told):
        networks.build("mine", CLASSES, definition=definition)


def test_a_head_with_losses_of_its_own_is_refused():
    with pytest.raises(AdmError, match="EncHead is trained by a loss of its own"):
        networks.build("mmseg/encnet_r50-d8_4xb2-40k_cityscapes-512x1024", CLASSES)


def test_a_batch_of_one_where_a_map_is_a_single_position_is_told():
    built = networks.build("pspnet-r18w8", CLASSES)
    with pytest.raises(AdmError, match="a batch of one has no statistics"):
        built.module(torch.zeros(1, 3, 64, 64))


def test_a_network_that_overwrites_a_tapped_map_is_mended():
    """A head whose first layer acts in place would change the map that a method was shown."""
    config = configs.adapted(configs.resolve("fcn-r18w8"), "x", CLASSES, False)
    module = segmentor.Segmentor("x", config)
    spoiler = torch.nn.ReLU(inplace=True)
    original = module.model.decode_head.convs
    module.model.decode_head.convs = torch.nn.Sequential(spoiler, *original)
    segmentor._look("x", module, {"stage4": "stages.3"})
    assert not any(getattr(part, "inplace", False) for part in module.modules())


def test_operations_in_place_stay_where_they_touch_no_tap():
    module = networks.build("fcn-r18w8", CLASSES).module
    assert any(getattr(part, "inplace", False) for part in module.modules())


def test_a_missing_operator_is_named():
    compat.load()
    from mmcv.ops import point_sample  # noqa: F401, the import itself must work without compiled operators
    from mmcv.utils import ext_loader

    operators = ext_loader.load_ext("_ext", ["psamask_forward"])
    with pytest.raises(AdmError, match="operator 'psamask_forward'"):
        operators.psamask_forward()


def test_a_configuration_can_still_be_printed():
    compat.load()
    from mmengine.config import Config

    assert Config({"a": 1, "b": {"c": "d"}}).pretty_text == "a = 1\nb = dict(c='d')\n"


def test_weights_do_not_depend_on_anything_but_torchs_generator():
    def weights():
        torch.manual_seed(3)
        return torch.cat([p.detach().flatten() for p in networks.build("pspnet-r18w8", CLASSES).module.parameters()])

    assert torch.equal(weights(), weights())


def test_interpolated_logits_give_the_loss_of_full_size_logits():
    logits, target = torch.randn(2, CLASSES, 8, 8), torch.randint(CLASSES, (2, 16, 16))
    ours = SegmentationTask.task_loss(object(), logits, Batch(logits, logits, target, torch.arange(len(target))))
    full = F.interpolate(logits, size=(16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(ours, F.cross_entropy(full, target, reduction="none"))


FIRST_LOAD = """
import sys
from adm_core.network_definition import NetworkDefinition
from tasks.segmentation import compat, networks

compat.load()
assert not {"yapf", "timm.models"} & set(sys.modules)
backbone = dict(_delete_=True, type="TIMMBackbone", model_name="resnet18", features_only=True, out_indices=[1, 2, 3, 4])
heads = dict(decode_head=dict(in_channels=512), auxiliary_head=dict(in_channels=256))
definition = NetworkDefinition("fcn-r18", dict(backbone=backbone, **heads))
print(len(networks.build("x", 3, definition=definition).module.stages))
"""


def test_a_new_process_reads_no_cache_that_another_is_writing_and_loads_timm_when_a_backbone_is_of_it(tmp_path):
    name = f"PatternGrammar-py{'.'.join(map(str, sys.version_info))}.pickle"
    half_written = tmp_path / "YAPF" / metadata.version("yapf") / name
    half_written.parent.mkdir(parents=True)
    half_written.touch()
    command, environment = [sys.executable, "-W", "ignore", "-c", FIRST_LOAD], os.environ | {"XDG_CACHE_HOME": tmp_path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "4", done.stderr[-2000:]


def test_the_files_that_a_configuration_builds_on_are_found(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "norm.py").write_text("norm_cfg = dict(type='BN')\n")
    (tmp_path / "parts" / "net.py").write_text("_base_ = './norm.py'\nmodel = dict()\n")
    mine = tmp_path / "mine.py"
    mine.write_text("_base_ = ['parts/net.py', 'mmseg::_base_/default_runtime.py']\n")
    assert [path.name for path in networks.config_files(mine)] == ["net.py", "norm.py"]
    mine.write_text("_base_ = 'gone.py'\n")
    with pytest.raises(AdmError, match=r"gone\.py cannot be read"):
        networks.config_files(mine)


READ_BASE = """from mmengine.config import read_base
with read_base():
    from .parts.net import *
    from mmseg.configs._base_.models.fcn_unet_s5_d16 import norm_cfg
"""


def test_case_09_bases_that_are_imported_are_part_of_a_configuration(tmp_path):
    """open-mmlab/mmdetection#10629: a change in what ``read_base()`` imports is another network."""
    (tmp_path / "parts").mkdir()
    (tmp_path / "mine.py").write_text(READ_BASE)
    net, deeper = tmp_path / "parts" / "net.py", tmp_path / "norm.py"
    net.write_text("from mmengine.config import read_base\nwith read_base():\n    from ..norm import norm_cfg\n")
    deeper.write_text("norm_cfg = dict(type='BN')\n")
    found = [path.resolve() for path in networks.config_files(tmp_path / "mine.py")]
    assert found == [net, deeper]
    before = config_digest("segmentation", tmp_path / "mine.py")
    deeper.write_text("norm_cfg = dict(type='GN')\n")
    assert config_digest("segmentation", tmp_path / "mine.py") != before
    deeper.write_text(READ_BASE.replace(".parts.net", ".mine"))
    with pytest.raises(AdmError, match=r"norm\.py: its base mine\.py leads back to it"):
        networks.config_files(tmp_path / "mine.py")
    deeper.write_text("with read_base():\n    import json\n")
    with pytest.raises(AdmError, match=r"norm\.py: line 2: what stands below read_base\(\) should be"):
        networks.config_files(tmp_path / "mine.py")
    deeper.write_text("with read_base():\n    from nowhere_at_all.net import *\n")
    with pytest.raises(AdmError, match=r"imports 'nowhere_at_all\.net', and there is no such package"):
        networks.config_files(tmp_path / "mine.py")


@pytest.mark.parametrize(("ending", "text"), [("json", '{"_base_": ["net.py"]}'), ("yaml", "_base_: net.py\n")])
def test_case_09_bases_of_other_formats_are_part_of_a_configuration(tmp_path, ending, text):
    (tmp_path / "net.py").write_text("model = dict()\n")
    (tmp_path / f"mine.{ending}").write_text(text)
    assert networks.config_files(tmp_path / f"mine.{ending}") == [tmp_path / "net.py"]
    (tmp_path / f"mine.{ending}").write_text("{}")
    assert networks.config_files(tmp_path / f"mine.{ending}") == []
