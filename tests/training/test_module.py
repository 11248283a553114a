"""The training module: what its options do to the network and the loss."""

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning import Trainer
from training_runs import TINY_ARCH

from vkdnw_pl.data import Digits
from vkdnw_pl.errors import UsageError
from vkdnw_pl.training.module import TrainingModule
from vkdnw_pl.training.optimizer import OptimizerOptions, ScheduleOptions
from vkdnw_pl.training.teacher import TeacherOptions

TINY = {"network": {"channels": 4, "cells": 1}, "num_classes": 10, "input_size": (3, 16, 16)}
IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 9])


def module(**options):
    return TrainingModule(TINY_ARCH, **TINY | options)


def draws():
    return torch.Generator().manual_seed(0)


def fit(model, **options):
    data = Digits(batch_size=100, num_workers=0)
    settings = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    settings |= {"enable_model_summary": False, "max_epochs": 1, "limit_val_batches": 0}
    trainer = Trainer(**settings | options)
    trainer.fit(model, datamodule=data)
    return trainer


def test_same_seed_same_network_and_global_state_untouched():
    before = torch.get_rng_state()
    first, second, other = module(seed=1), module(seed=1), module(seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    for (name, a), (_, b), (_, c) in zip(*(m.named_parameters() for m in (first, second, other)), strict=True):
        assert torch.equal(a, b)
        if name.endswith("conv.weight"):
            assert not torch.equal(a, c)


def test_loss_is_smoothed_cross_entropy():
    model = module(label_smoothing=0.1).eval()
    parts, logits = model.losses(IMAGES, LABELS, draws())
    assert set(parts) == {"ce"}
    assert parts["ce"].item() == pytest.approx(F.cross_entropy(logits, LABELS, label_smoothing=0.1).item(), rel=1e-6)


def test_mixup_mixes_images_and_targets_alike():
    model = module(mixup=0.5).eval()
    parts, logits = model.losses(IMAGES, LABELS, draws())
    from vkdnw_pl.training.losses import mixup

    images, targets = mixup(IMAGES, F.one_hot(LABELS, 10).float(), 0.5, draws())
    assert torch.equal(logits, model.network(images))
    expected = -(targets * logits.log_softmax(1)).sum(1).mean()
    assert parts["ce"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_teacher_adds_its_losses_and_no_parameters_of_its_own():
    options = TeacherOptions(
        name="lcnet_050", pretrained=False, reductions=[2, 4], logit_weight=0.5, feature_weight=2.0
    )
    model = module(teacher=options).eval()
    parts, _ = model.losses(IMAGES, LABELS, draws())
    assert set(parts) == {"ce", "logits", "features"}
    plain = module()
    extra = {name for name, _ in model.named_parameters()} - {name for name, _ in plain.named_parameters()}
    assert all(name.startswith("distillation.features.projections") for name in extra)
    assert len(extra) == 4
    half = module(teacher=TeacherOptions(**{**vars(options), "logit_weight": 1.0, "feature_weight": 1.0})).eval()
    whole, _ = half.losses(IMAGES, LABELS, draws())
    assert parts["logits"].item() == pytest.approx(0.5 * whole["logits"].item(), rel=1e-5)
    assert parts["features"].item() == pytest.approx(2.0 * whole["features"].item(), rel=1e-5)


def test_student_sees_resized_images_and_the_teacher_whole_ones():
    model = TrainingModule(TINY_ARCH, **TINY | {"input_size": (3, 32, 32)}, student_size=16)
    assert model.input_size == (3, 16, 16)
    images = torch.randn(2, 3, 32, 32)
    small = F.interpolate(images, size=(16, 16), mode="bilinear", align_corners=False)
    assert torch.equal(model.eval()(images), model.network(small))


def test_batch_norm_momentum():
    momenta = {m.momentum for m in module(bn_momentum=0.01).modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert momenta == {0.01}
    assert {m.momentum for m in module().modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.1}


@pytest.mark.parametrize("init", ["pytorch", "kaiming_normal", "zennas", "gaussian"])
def test_initialisations_differ(init):
    weight = module(init=init).network.stem[0].weight
    others = {"pytorch": 0.5774 / 27**0.5, "kaiming_normal": (2 / 27) ** 0.5, "gaussian": 1.0}
    others["zennas"] = 3.26033 * (2 / (27 + 36)) ** 0.5
    assert weight.std().item() == pytest.approx(others[init], rel=0.25)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_learning_rate_follows_the_global_batch(accumulate):
    trainer = fit(module(optimizer=OptimizerOptions(lr=0.1)), accumulate_grad_batches=accumulate, max_steps=1)
    assert trainer.optimizers[0].param_groups[0]["initial_lr"] == pytest.approx(0.1 * 100 * accumulate / 256)
    trainer = fit(module(optimizer=OptimizerOptions(lr=0.1, lr_batch_size=None)), max_steps=1)
    assert trainer.optimizers[0].param_groups[0]["initial_lr"] == 0.1


@pytest.mark.filterwarnings("ignore")
def test_cosine_per_epoch_counts_optimizer_steps():
    model = module(schedule=ScheduleOptions(name="cosine_per_epoch"), optimizer=OptimizerOptions(lr_batch_size=None))
    trainer = fit(model, max_epochs=4, accumulate_grad_batches=3)  # 8 batches: 3 steps an epoch
    (config,) = trainer.lr_scheduler_configs
    factors = [config.scheduler.lr_lambdas[0](step) for step in range(12)]
    assert factors == pytest.approx([1.0] * 3 + [0.853553] * 3 + [0.5] * 3 + [0.146447] * 3, abs=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_precisions_train(precision):
    model = module(label_smoothing=0.1, mixup=0.2, channels_last=True)
    before = model.network.classifier.weight.detach().clone()
    trainer = fit(model, precision=precision, max_steps=2, gradient_clip_val=1.0)
    assert trainer.global_step == 2
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
    assert not torch.equal(model.network.classifier.weight.to(before), before)


@pytest.mark.filterwarnings("ignore")
def test_a_training_without_end_is_refused():
    with pytest.raises(ValueError, match="the training has no end"):
        fit(module(), max_epochs=-1)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"optimizer": OptimizerOptions(name="adamw", momentum=0.5)}, "momentum=0.5 is not allowed: adamw has none"),
        ({"optimizer": OptimizerOptions(name="adamv")}, "did you mean"),
        ({"input_size": (3, 16, 32)}, "images must be square"),
        ({"teacher": TeacherOptions(name="lcnet_050", pretrained=False)}, "reductions of its stages"),
        ({"teacher": TeacherOptions(name="lcnet_05", pretrained=False)}, "did you mean"),
    ],
)
def test_refused(options, text):
    with pytest.raises(ValueError, match=text):
        module(**options)


def test_a_teacher_without_losses_is_refused():
    with pytest.raises(ValueError, match="leave the teacher out"):
        TeacherOptions(logit_weight=0, feature_weight=0)


def test_weights_for_other_classes_start_all_but_the_classifier(tmp_path, capsys):
    trained, path = module(seed=1), tmp_path / "model.pt"
    torch.save(trained.network.state_dict(), path)
    other = module(seed=2, num_classes=3)
    model = module(seed=2, num_classes=3, weights=str(path))
    assert "are for 10 classes" in capsys.readouterr().err
    for name, value in model.network.state_dict().items():
        source = other if name.startswith("classifier.") else trained
        assert torch.equal(value, source.network.state_dict()[name]), name
    module(weights=str(path))
    assert not capsys.readouterr().err  # the same classes: nothing is left out
    with pytest.raises(ValueError, match="are those of another network"):
        module(num_classes=3, weights=str(path), network={"channels": 8, "cells": 1})


def test_published_weights_are_not_overwritten_unseen():
    with pytest.raises(UsageError, match=r"--model\.init keep"):
        TrainingModule("lcnet_050", network={"pretrained": True}, num_classes=3, input_size=(3, 32, 32))


def test_linear_start_leaves_kept_weights_alone():
    started, kept = (
        TrainingModule("mbv2_initial", num_classes=3, input_size=(3, 32, 32), init=init, linear_start=True).network
        for init in ("pytorch", "keep")
    )
    biases = [network.get_parameter("blocks.1.0.shortcut.1.bias") for network in (started, kept)]
    assert [bool(bias.any()) for bias in biases] == [True, False]


@pytest.mark.parametrize("linear_start", [False, True])
def test_a_bad_beginning_is_named(linear_start, capsys):
    blocks = "SuperResIDWE1K3(16,16,2,8,5)" * 3
    arch = f"SuperConvK3BNRELU(3,16,1,1){blocks}SuperConvK1BNRELU(16,16,1,1)"
    model = TrainingModule(arch, num_classes=10, input_size=(3, 16, 16), linear_start=linear_start)
    fit(model, limit_train_batches=1)
    assert ("--model.linear_start true" in capsys.readouterr().err) is not linear_start
