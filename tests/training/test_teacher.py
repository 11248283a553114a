import copy
import math

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from training_reference import GOLDEN, noise, noisy_state

from vkdnw_pl.data.transforms import IMAGENET_MEAN, IMAGENET_STD
from vkdnw_pl.training.teacher import Teacher, TeacherOptions, teacher_stages

SMALL, PLAIN = "test_efficientnet", "test_resnet"  # timm's smallest of the two families


def make(num_classes=1000, mean=IMAGENET_MEAN, std=IMAGENET_STD, **options):
    return Teacher(TeacherOptions(**options), num_classes, (mean, std))


def small(name=SMALL, **options):
    return make(**{"name": name, "pretrained": False, "num_classes": 5, **options})


def images(size=64, batch=2, scale=1.0):
    return noise((batch, 3, size, size), "images", scale).float()


def test_logits_and_features_are_those_of_the_reference():
    """EfficientNet-B3: 96 channels at 1/16, and 1536 at 1/32 before the activation, which is never below -0.28."""
    golden = GOLDEN["teacher"]
    teacher = make(pretrained=False)
    assert sum(p.numel() for p in teacher.network.parameters()) == golden["parameters"]
    teacher.network.load_state_dict(noisy_state(teacher.network.state_dict()))
    said = teacher(images(96))
    for found, expected in zip(said.features, golden["features"], strict=True):
        assert list(found.shape) == expected["shape"]
        assert float(found.mean()) == pytest.approx(expected["mean"], abs=1e-4)
        assert float(found.std()) == pytest.approx(expected["std"], rel=1e-4)
        assert float(found.min()) == pytest.approx(expected["minimum"], rel=1e-4)
        for image, key in zip(found, ("first", "second")):
            assert image.flatten()[:3].tolist() == pytest.approx(expected[key], rel=1e-3)
    for logits, key in zip(said.logits, ("first", "second")):
        assert logits[:4].tolist() == pytest.approx(golden["logits"][key], rel=1e-3)
    assert float(said.logits.std()) == pytest.approx(golden["logits"]["std"], rel=1e-4)


def test_stages_of_other_families():
    """Without a convolutional head the last stage stands for it."""
    assert [(s.name, s.channels, s.reduction) for s in teacher_stages("mobilenetv3_small_100", (16, 32))] == [
        ("blocks.2", 40, 16),
        ("blocks.5", 576, 32),
    ]
    assert [(s.name, s.reduction) for s in teacher_stages(PLAIN, (4, 32), 64)] == [("layer1", 4), ("layer4", 32)]
    assert [s.name for s in teacher_stages(SMALL, (8, 16, 32))] == ["blocks.2", "blocks.3", "bn2.drop"]
    assert teacher_stages(SMALL, ()) == []


def test_features_are_what_the_stages_give():
    teacher = small(PLAIN, reductions=(8, 32), mean=(0.5,) * 3, std=(0.5,) * 3)  # as it was trained with
    network, x = teacher.network, images()
    said = teacher(x)
    with torch.no_grad():
        stem = network.maxpool(network.act1(network.bn1(network.conv1(x))))
        second = network.layer2(network.layer1(stem))
        assert torch.equal(said.features[0], second)
        assert torch.equal(said.features[1], network.layer4(network.layer3(second)))
        assert torch.equal(said.logits, network(x))


def test_frozen_and_in_evaluation_mode():
    teacher = small()
    before = copy.deepcopy(teacher.network.state_dict())
    said = teacher(images())
    assert not said.logits.requires_grad
    assert not any(p.requires_grad for p in teacher.network.parameters())
    torch.testing.assert_close(teacher.network.state_dict(), before, rtol=0, atol=0)
    student = nn.Linear(5, 5)
    nn.functional.smooth_l1_loss(
        student(said.logits), said.logits
    ).backward()  # may be part of a graph, unlike inference tensors
    assert student.weight.grad.any()


class Module(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.teacher = small(reductions=())


def test_no_part_of_the_module_that_has_it():
    module = Module().train()
    assert list(module.state_dict()) == ["layer.weight", "layer.bias"]
    assert len(list(module.parameters())) == 2
    assert copy.deepcopy(module).teacher is module.teacher
    assert copy.copy(module.teacher) is module.teacher
    assert not module.teacher.network.training


def test_building_leaves_the_random_state_alone_and_is_repeatable():
    before = torch.get_rng_state()
    first, second = small(), small()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first(images()).logits, second(images()).logits)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_file(tmp_path, suffix):
    source = timm.create_model(SMALL, num_classes=5)
    source.load_state_dict(noisy_state(source.state_dict()))
    path = tmp_path / f"teacher{suffix}"
    save_file(source.state_dict(), path) if suffix == ".safetensors" else torch.save(source.state_dict(), path)
    # The head comes along too, although the published weights of this name have 1,000 classes.
    teacher = make(name=SMALL, weights=path, num_classes=5)
    with torch.no_grad():
        assert torch.equal(teacher(images()).logits, source.eval()(images()))
    with pytest.raises(
        ValueError, match=rf"weights=.*teacher{suffix}.* weights of {SMALL} with 7 classes.*size mismatch"
    ):
        make(name=SMALL, weights=path, num_classes=7)
    with pytest.raises(ValueError, match=rf"weights=.*does not hold the weights of {PLAIN}"):
        make(name=PLAIN, weights=path, num_classes=5)


class Unsafe:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_file_that_would_run_code(tmp_path, capsys):
    torch.save({"state_dict": Unsafe()}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match="can be read safely"):
        make(name=SMALL, weights=tmp_path / "bad.pth", num_classes=5)
    assert "code ran" not in capsys.readouterr().out


def test_weights_that_cannot_be_fetched(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    text = (
        r"'tf_efficientnet_b3.ns_jft_in1k' could not be fetched.*https://huggingface.co/timm/tf_efficientnet_b3.ns_jft_in1k"
        r".*tf_efficientnet_b3_ns-9d44bf68.pth.*model.teacher.weights"
    )
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"name": "tf_eficientnet_b3"},
            r"name='tf_eficientnet_b3' is not a model of timm; did you mean 'tf_efficientnet_b3",
        ),
        ({"name": SMALL, "weights": "none.pth"}, r"weights='none.pth': there is no such file"),
        ({"name": f"{SMALL}.r160_in1k"}, r"knows 1000 classes and the student has 5"),
        ({"name": "tf_efficientnet_b3.no_tag"}, r"no published weights; .*tf_efficientnet_b3.ns_jft_in1k"),
        ({"name": SMALL, "pretrained": False, "reductions": (64,)}, r"reductions=\[64\] .*: 2, 4, 8, 16, 32\)"),
        ({"name": SMALL, "pretrained": False, "dtype": "int8"}, r"dtype='int8' .*float32, bfloat16, float16"),
        ({"name": SMALL, "pretrained": False, "image_size": 0}, r"image_size=0"),
    ],
)
def test_refused(options, text):
    with pytest.raises(ValueError, match=text):
        make(num_classes=5, **options)


def test_images_of_another_normalisation():
    """inception_v3 learned with mean and deviation 0.5, and the data have ImageNet's."""
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in (timm.data.IMAGENET_DEFAULT_MEAN, timm.data.IMAGENET_DEFAULT_STD)
    )
    teacher = small("tf_efficientnetv2_b0", reductions=())
    other = small("tf_efficientnet_lite0", reductions=())
    assert other.network.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    raw = images(64, scale=0.2) + 0.5
    said = other((raw - mean) / std).logits
    with torch.no_grad():
        torch.testing.assert_close(said, other.network((raw - 0.5) / 0.5), rtol=1e-4, atol=1e-5)
    told = small("tf_efficientnet_lite0", reductions=(), mean=(0.5,) * 3, std=(0.5,) * 3)
    assert torch.equal(told((raw - 0.5) / 0.5).logits, other.network((raw - 0.5) / 0.5))
    assert torch.equal(teacher((raw - mean) / std).logits, teacher.network((raw - mean) / std))


def test_images_of_another_size():
    teacher = small(image_size=96)
    resized = nn.functional.interpolate(images(64), (96, 96), mode="bilinear", align_corners=False)
    assert torch.equal(teacher(images(64)).logits, teacher.network(resized))
    assert [tuple(f.shape[1:]) for f in teacher(images(64)).features] == [
        (s.channels, 96 // s.reduction, 96 // s.reduction) for s in teacher.stages
    ]


@pytest.mark.parametrize("channels_last", [False, True])
def test_precision(channels_last):
    exact, half = small(), small(dtype="bfloat16", channels_last=channels_last)
    assert next(half.network.parameters()).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        said, rough = exact(images()), half(images())
    assert all(t.dtype == torch.float32 for t in (said.logits, rough.logits, *said.features, *rough.features))
    assert torch.equal(said.logits, exact(images()).logits)  # mixed precision of the student is not the teacher's
    for found, expected in zip([rough.logits, *rough.features], [said.logits, *said.features]):
        distance = float((found - expected).norm() / expected.norm())
        assert 1e-4 < distance < 0.05
    assert half.network.conv_head.weight.is_contiguous(memory_format=torch.channels_last) or not channels_last


def test_compiled():
    teacher, compiled = small(), small()
    compiled.compile(backend="eager")
    for _ in range(2):
        for found, expected in zip(compiled(images()).features, teacher(images()).features):
            torch.testing.assert_close(found, expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_follows_the_images():
    teacher = small()
    expected = teacher(images()).logits
    found = teacher(images().cuda()).logits
    assert found.device.type == next(teacher.network.parameters()).device.type == "cuda"
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)


def test_meta_device_finds_what_a_forward_pass_does():
    for stage, map_ in zip(teacher_stages(SMALL, (4, 16, 32)), small(reductions=(4, 16, 32))(images(64)).features):
        assert map_.shape[1] == stage.channels
        assert math.isclose(64 / map_.shape[2], stage.reduction)
