"""Denoisers: the sizes of the list, taps that count levels, what a benchmark decides, and inherited weights."""

import copy
import inspect
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from adm_core.checkpoint import fit, load_foreign
from adm_core.errors import AdmError
from adm_core.network_copy import NetworkCopy
from adm_core.network_definition import NetworkDefinition
from adm_core.taps import probe, record
from tasks.diffusion import networks
from tasks.diffusion.networks import configs
from tasks.diffusion.networks.inheritance import inherit

LISTED = {entry["name"]: entry for entry in networks.catalogue()}
SMALL = {
    "block_out_channels": [8, 8],
    "down_block_types": ["DownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "UpBlock2D"],
    "norm_num_groups": 4,
}
ATTENTIVE = SMALL | {
    "block_out_channels": [8, 16, 16],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}


def built(overrides, name="mine", channels=1, size=8, classes=None):
    """A small network of two levels with these changes."""
    torch.manual_seed(0)
    return networks.build(name, channels, size, classes, NetworkDefinition("unet-w8", SMALL | overrides))


def config_file(folder, name="config.json", **keys):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(keys))
    return folder / name


def inputs(channels=1, size=8, batch=3):
    return torch.randn(batch, channels, size, size), torch.tensor([0, 500, 999])[:batch]


@pytest.mark.parametrize("name", LISTED)
def test_a_listed_network_has_the_size_and_taps_of_the_list(name):
    network = networks.build(name, 3, 16)
    assert sum(p.numel() for p in network.module.parameters() if p.requires_grad) == LISTED[name]["parameters"]
    assert LISTED[name]["taps"] == list(network.taps)
    shapes = probe(network, list(network.taps), inputs(3, 16))
    assert shapes["noise"] == shapes["prediction"] == (3, 3, 16, 16)
    assert shapes["last"] == shapes["up1"]


def test_levels_are_counted_from_the_outside_on_both_ways():
    network = built(ATTENTIVE)
    shapes = {tap: shape[1:] for tap, shape in probe(network, list(network.taps), inputs()).items()}
    assert shapes["down1"] == (8, 4, 4) and shapes["down2"] == (16, 2, 2) and shapes["down3"] == (16, 2, 2)
    assert shapes["up3"] == (16, 4, 4) and shapes["up2"] == (16, 8, 8) and shapes["up1"] == (8, 8, 8)
    assert shapes["mid"] == shapes["mid.attention"] == (16, 2, 2)
    assert shapes["down2.attention"] == shapes["up2.attention"] == (16, 4, 4)


def test_networks_of_different_depth_agree_in_the_resolution_of_taps_of_one_name():
    deep, shallow = networks.build("unet3-w16", 1, 8), networks.build("unet3-w16-tiny", 1, 8)
    common = set(deep.taps) & set(shallow.taps)
    assert common == {"down1", "down2", "up1", "up2", "last", "noise"}
    theirs, own = (probe(network, sorted(common), inputs()) for network in (deep, shallow))
    assert {tap for tap in common if theirs[tap] != own[tap]} == {"down2"}  # the student's innermost, not downsampled


def test_attention_taps_are_the_last_attention_of_their_block():
    network = built(ATTENTIVE)
    unet = network.module.unet
    with torch.no_grad(), record(network, ["up2.attention", "down2.attention", "down2", "up2"]) as seen:
        network.module(*inputs())
        torch.testing.assert_close(unet.up_blocks[1].upsamplers[0](seen["up2.attention"]), seen["up2"])
        torch.testing.assert_close(unet.down_blocks[1].downsamplers[0](seen["down2.attention"]), seen["down2"])


def test_predictions_are_diffusers_own_with_and_without_classes():
    x, t = inputs()
    plain, told = built({}), built({}, classes=10)
    y = torch.tensor([1, 2, 3])
    with torch.no_grad():
        torch.testing.assert_close(plain.module(x, t), plain.module.unet(x, t).sample)
        torch.testing.assert_close(told.module(x, t, y), told.module.unet(x, t, class_labels=y).sample)
        assert not torch.allclose(told.module(x, t, y), told.module(x, t, y + 1))
        separate = torch.cat([plain.module(x[i : i + 1], t[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(plain.module(x, t), separate)


def test_the_network_of_ddpm_is_the_paper_s():
    """35.7 million parameters (arXiv:2006.11239, section 4) and dropout, which the students' configs keep."""
    unet = networks.build("ddpm-cifar", 3, 32).module.unet
    assert round(sum(p.numel() for p in unet.parameters()) / 1e6, 1) == 35.7
    assert {m.p for m in unet.modules() if isinstance(m, torch.nn.Dropout)} >= {0.1}
    assert [len(block.attentions) if hasattr(block, "attentions") else 0 for block in unet.up_blocks] == [0, 0, 3, 0]


def test_what_is_read_from_diffusers_source_is_what_it_does():
    from diffusers import UNet2DModel

    parameters = inspect.signature(UNet2DModel.__init__).parameters
    known = {key: p.default for key, p in parameters.items() if p.default is not inspect.Parameter.empty}
    assert configs.defaults() == known


def test_a_config_file_of_diffusers_is_a_base(tmp_path):
    from diffusers import UNet2DModel

    UNet2DModel(sample_size=8, in_channels=1, out_channels=1, **SMALL).save_config(tmp_path)
    definition = NetworkDefinition("config.json", {"layers_per_block": 1}, tmp_path / "config.json")
    networks.check_definition(definition)
    network = networks.build("mine", 1, 8, 10, definition)
    assert len(network.module.unet.down_blocks[0].resnets) == 1 and network.module.unet.class_embedding is not None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", r"^config\.json cannot be read: .* a config file of Diffusers is JSON"),
        ("[1]", "holds a list"),
        ('{"_class_name": "UNet2DConditionModel"}', "is of class UNet2DConditionModel; .* UNet2DModel"),
        (
            '{"_class_name": "DDPMPipeline"}',
            r"is of class DDPMPipeline; give the pipeline's folder",
        ),
        ('{"_class_name": "DDIMScheduler"}', "is of class DDIMScheduler"),
        ('{"layer_per_block": 1}', r"config\.json: unknown key 'layer_per_block'; did you mean layers_per_block"),
    ],
)
def test_a_file_that_is_no_network_is_told(tmp_path, content, told):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(AdmError, match=told):
        networks.check_definition(NetworkDefinition("config.json", {}, tmp_path / "config.json"))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"layer_per_block": 1}, "^overrides: unknown key 'layer_per_block'; did you mean layers_per_block"),
        ({"block_removal": "smal"}, r"^overrides\.block_removal: unknown block removal 'smal'; did you mean small"),
        ({"block_removal": "base"}, "takes a layer out of every block, and the blocks have one"),
        ({"block_out_channels": [8, 8, 8]}, "must be lists with an entry per level"),
        ({"block_out_channels": 8}, "must be lists with an entry per level"),
        ({"layers_per_block": "1"}, "layers_per_block must be a whole number"),
    ],
)
def test_overrides_that_do_not_fit_are_told_before_anything_is_built(overrides, told):
    with pytest.raises(AdmError, match=told):
        networks.check_definition(NetworkDefinition("unet-w8", overrides))


@pytest.mark.parametrize(
    ("overrides", "size", "classes", "told"),
    [
        ({"in_channels": 3}, 8, None, "'mine' takes 3 channels and predicts 1, the benchmark's images have 1"),
        ({"out_channels": 2}, 8, None, "predicts 2, the benchmark's images have 1"),
        ({"sample_size": 32}, 8, None, "made for images of 32×32, the benchmark's are of 8×8; override sample_size"),
        ({"sample_size": [8, 16]}, 8, None, "made for images of 8×16"),
        ({"num_class_embeds": 5}, 8, 10, "told 5 classes .* the benchmark's networks 10 classes"),
        ({"num_class_embeds": 5}, 8, None, "told 5 classes .* the benchmark's networks none"),
        ({"class_embed_type": "timestep"}, 8, 10, "told a class of its own kind"),
        ({"time_embedding_type": "fourier"}, 8, None, "'fourier'; here networks are told discrete timesteps"),
        ({}, 9, None, "halves the image 1 times, which images of 9 pixels do not allow: .* a multiple of 2"),
        ({"norm_num_groups": 3}, 8, None, "network 'mine' cannot be built: ValueError"),
        ({"down_block_types": ["DownBlock", "DownBlock2D"]}, 8, None, "cannot be built: .*DownBlock does not exist"),
    ],
)
def test_a_network_for_other_images_says_both_sides(overrides, size, classes, told):
    with pytest.raises(AdmError, match=told):
        built(overrides, size=size, classes=classes)


def test_a_stated_size_and_number_of_classes_that_agree_are_fine():
    agreeing = {"sample_size": [8, 8], "num_class_embeds": 10}
    assert built(agreeing, classes=10).module.unet.config.num_class_embeds == 10


def test_unknown_names_are_told_with_the_nearest():
    with pytest.raises(AdmError, match=r"unknown network 'unet-w61'; did you mean .*unet-w16"):
        networks.build("unet-w61", 1, 8)
    with pytest.raises(AdmError, match=r"pairs: network 'diffusers/ddpm': .* is written diffusers/OWNER/NAME"):
        networks.check("diffusers/ddpm", "pairs")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the Hugging Face hub that holds one repository, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    stored = tmp_path / "models--ann--digits"
    (stored / "refs").mkdir(parents=True)
    (stored / "refs" / "main").write_text("0" * 40)
    return stored / "snapshots" / ("0" * 40)


def test_a_network_of_the_hub_is_built_from_what_was_downloaded(hub):
    config_file(hub / "unet", **SMALL, sample_size=8, in_channels=1, out_channels=1, _class_name="UNet2DModel")
    assert networks.build("diffusers/ann/digits", 1, 8).name == "diffusers/ann/digits"
    changed = NetworkDefinition("diffusers/ann/digits", {"layers_per_block": 1})
    networks.check_definition(changed)
    assert len(networks.build("mine", 1, 8, None, changed).module.unet.down_blocks[0].resnets) == 1
    with pytest.raises(AdmError, match=r"^x: diffusers/ann/digits: .* no weights .*'hf download ann/digits'"):
        networks.locate("diffusers/ann/digits", "weights", "x")
    (hub / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    assert networks.locate("diffusers/ann/digits", "weights", "x").read_bytes() == b"weights"


def test_what_was_never_downloaded_is_told_with_what_to_do(hub):
    told = r"diffusers/ann/faces: .*run 'hf download ann/faces' once where there is a network, or give a folder"
    with pytest.raises(AdmError, match=told):
        networks.build("diffusers/ann/faces", 1, 8)
    with pytest.raises(AdmError, match=told):
        networks.locate("diffusers/ann/faces", "weights", "x")


def test_files_are_found_in_the_folders_of_networks_and_pipelines(tmp_path):
    for folder in (tmp_path / "alone", tmp_path / "pipeline" / "unet"):
        config_file(folder, **SMALL, _class_name="UNet2DModel")
        (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    for place, folder in (("alone", "alone"), ("pipeline", "pipeline/unet")):
        found = [networks.locate(str(tmp_path / place), part, "x") for part in ("config", "weights")]
        names = ["config.json", "diffusion_pytorch_model.safetensors"]
        assert found == [tmp_path / folder / name for name in names]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "no such file or folder"),
        ({"x.txt": ""}, r"holds neither config\.json nor unet/config\.json"),
        ({"model_index.json": "{}"}, "is a pipeline without a U-Net"),
        ({"scheduler_config.json": "{}"}, "is the folder of a scheduler"),
        ({"config.json": '{"_class_name": "AutoencoderKL"}'}, r"config\.json is of class AutoencoderKL"),
        ({"config.json": "{}"}, "has a config and no weights"),
        (
            {"config.json": "{}", "diffusion_pytorch_model.bin": ""},
            r"only pickled .*from_pretrained\(.*save_pre",
        ),
        ({"config.json": "{}", "diffusion_pytorch_model.fp16.safetensors": ""}, r"give one of its files .*fp16\.safe"),
        ({"config.json": "{}", "diffusion_pytorch_model.safetensors.index.json": ""}, "spread over several files"),
    ],
)
def test_a_folder_without_what_is_wanted_says_what_it_is(tmp_path, files, told):
    folder = tmp_path / "given"
    for name, content in files.items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    with pytest.raises(AdmError, match=rf"^mine\.yaml: {folder}: .*{told}|^mine\.yaml: {folder}: {told}"):
        networks.locate(str(folder), "weights", "mine.yaml")


def test_weights_of_diffusers_fit_whatever_release_wrote_them(tmp_path):
    """Early releases named the layers of attention otherwise; Diffusers' own loading is the oracle."""
    from diffusers import UNet2DModel

    network = built(ATTENTIVE)
    former = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    old = {}
    for name, tensor in network.module.unet.state_dict().items():
        known = next((new for new in former if new in name), None)
        old[name.replace(known, former[known]) if known else name] = 0.2 * torch.randn_like(tensor)
    assert sum("proj_attn" in name for name in old) == 2 * 4  # of one layer down, two up, one in the middle
    network.module.unet.save_config(tmp_path)
    save_file(old, tmp_path / "diffusion_pytorch_model.safetensors")

    fit(network, networks.as_denoiser(load_foreign(networks.locate(str(tmp_path), "weights", ""))), "here", "digits@2")
    x, t = inputs()
    with torch.no_grad():
        torch.testing.assert_close(network.module(x, t), UNet2DModel.from_pretrained(tmp_path)(x, t).sample)
    present = network.module.state_dict()
    assert networks.as_denoiser(present).keys() == present.keys()


def silence(layer):
    """Make a residual layer pass its input through, without the skip connection that is joined to it on the way up."""
    layer.conv2.weight.zero_()
    layer.conv2.bias.zero_()
    if layer.conv_shortcut is not None:
        weight = layer.conv_shortcut.weight.zero_()
        weight[range(len(weight)), range(len(weight))] = 1.0
        layer.conv_shortcut.bias.zero_()


@pytest.mark.parametrize("removal", ["base", "small"])
def test_a_student_that_lacks_layers_which_do_nothing_predicts_as_its_teacher(removal):
    teacher = built({"layers_per_block": 2})
    student = built({"layers_per_block": 2, "block_removal": removal})
    unet = teacher.module.unet
    with torch.no_grad():
        for parameter in unet.parameters():  # so that no two are equal by the values that they start from
            parameter += 0.1 * torch.randn_like(parameter)
        for block in (*unet.down_blocks, *unet.up_blocks):
            silence(block.resnets[1])
        if removal == "small":
            for layer in unet.mid_block.resnets:
                silence(layer)
            for parameter in unet.mid_block.attentions[0].to_out[0].parameters():
                parameter.zero_()
    x, t = inputs()
    with torch.no_grad():
        assert not torch.allclose(student.module(x, t), teacher.module(x, t), atol=1e-2)
        assert inherit(student, teacher) == len(student.module.state_dict())
        torch.testing.assert_close(student.module(x, t), teacher.module(x, t))


@pytest.mark.parametrize("name", [name for name in LISTED if name.endswith(("-base", "-small", "-tiny"))])
def test_a_listed_student_inherits_from_its_teacher(name):
    teacher, student = (networks.build(each, 1, 8) for each in (name.rpartition("-")[0], name))
    assert inherit(student, teacher) == len(student.module.state_dict())
    own, theirs = student.module.unet, teacher.module.unet
    assert torch.equal(own.up_blocks[-1].resnets[-1].conv2.weight, theirs.up_blocks[-1].resnets[-1].conv2.weight)


def test_every_tensor_of_the_smallest_student_comes_from_its_place_in_the_teacher():
    teacher = built(ATTENTIVE | {"layers_per_block": 2})
    student = built(ATTENTIVE | {"layers_per_block": 2, "block_removal": "tiny"})
    inherit(student, teacher)
    own, theirs = student.module.unet, teacher.module.unet
    pairs = [
        (own.conv_in, theirs.conv_in),
        (own.conv_out, theirs.conv_out),
        (own.conv_norm_out, theirs.conv_norm_out),
        (own.time_embedding, theirs.time_embedding),
        (own.down_blocks[0].resnets[0], theirs.down_blocks[0].resnets[0]),
        (own.down_blocks[0].downsamplers, theirs.down_blocks[0].downsamplers),
        (own.down_blocks[1].resnets[0], theirs.down_blocks[1].resnets[0]),
        (own.down_blocks[1].attentions[0], theirs.down_blocks[1].attentions[0]),
        (own.up_blocks[0].resnets[0], theirs.up_blocks[1].resnets[0]),
        (own.up_blocks[0].resnets[1], theirs.up_blocks[1].resnets[2]),
        (own.up_blocks[0].attentions[0], theirs.up_blocks[1].attentions[0]),
        (own.up_blocks[0].attentions[1], theirs.up_blocks[1].attentions[2]),
        (own.up_blocks[0].upsamplers, theirs.up_blocks[1].upsamplers),
        (own.up_blocks[1].resnets[0], theirs.up_blocks[2].resnets[0]),
        (own.up_blocks[1].resnets[1], theirs.up_blocks[2].resnets[2]),
    ]
    for mine, other in pairs:
        state = other.state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in mine.state_dict().items())
    assert sum(p.numel() for mine, _ in pairs for p in mine.parameters()) == sum(p.numel() for p in own.parameters())


def test_a_student_of_the_teacher_s_architecture_is_its_copy():
    teacher, student = built(ATTENTIVE), built(ATTENTIVE)
    for parameter in teacher.module.parameters():
        parameter.data.normal_()
    copied = inherit(student, teacher)
    state = teacher.module.state_dict()
    assert copied == len(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in student.module.state_dict().items())


@pytest.mark.parametrize(
    ("student", "told"),
    [
        ({"block_out_channels": [8, 4]}, r"'thin' cannot inherit from 'mine': its unet\.down_blocks\.1\..*widths"),
        ({"layers_per_block": 3}, r"would be the teacher's unet\.down_blocks\.0\.resnets\.1\..*, which is not there"),
        (ATTENTIVE, r"its unet\.down_blocks\.1\.\S+ would be the teacher's .*, which is not there"),
        ({"up_block_types": ["AttnUpBlock2D", "UpBlock2D"]}, r"the teacher's unet\.up_blocks\.0\.attentions\.0\."),
    ],
)
def test_what_cannot_be_inherited_is_told_and_nothing_is_copied(student, told):
    teacher, network = built({"layers_per_block": 1}), built({"layers_per_block": 1} | student, "thin")
    before = copy.deepcopy(network.module.state_dict())
    for parameter in teacher.module.parameters():
        parameter.data.normal_()
    with pytest.raises(AdmError, match=told):
        inherit(network, teacher)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.module.state_dict().items())


def test_a_method_can_keep_a_copy():
    network = built({})
    x, t = inputs()
    kept = NetworkCopy(network.module, network.module)
    with torch.no_grad():
        before = network.module(x, t)
        for parameter in network.module.parameters():
            parameter += 0.1
        torch.testing.assert_close(kept(x, t), before)
        kept.follow()
        torch.testing.assert_close(kept(x, t), network.module(x, t))


def test_weights_do_not_depend_on_anything_but_torchs_generator():
    first, second = (built(ATTENTIVE).module.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_planning_loads_neither_torch_nor_diffusers(tmp_path):
    file = config_file(tmp_path, **SMALL)
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    code = (
        "import sys; from pathlib import Path; from tasks.diffusion import networks as n; "
        "from adm_core.network_definition import NetworkDefinition as D; "
        f"n.catalogue(); n.check('diffusers/a/b', ''); n.check_definition(D('x.json', {{}}, Path({str(file)!r}))); "
        f"n.check_definition(D('diffusers/a/b', {{}})); n.locate({str(tmp_path)!r}, 'weights', ''); "
        "print(sorted({'torch', 'diffusers', 'numpy', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
