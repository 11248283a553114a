"""The recipes in configs/ run end to end, with the learning rates and parameter groups that they say."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pytorch_lightning import Callback
from training_runs import run_fit

from vkdnw_pl.runs.table import read_table
from vkdnw_pl.spaces import SPACES

CONFIGS = Path(__file__).parents[2] / "configs"
STEPS = 3


class Look(Callback):
    """Stops after a few steps and writes down what there was to see."""

    def __init__(self, file: str):
        self.file = file
        self.lrs = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.lrs.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == STEPS:
            trainer.should_stop = True

    def on_train_end(self, trainer, pl_module):
        (optimizer,), (scheduler,) = trainer.optimizers, [c.scheduler for c in trainer.lr_scheduler_configs]
        names = {id(parameter): name for name, parameter in pl_module.named_parameters()}
        steps = trainer.estimated_stepping_batches
        asked = sorted({0, 1, 2, steps // 480, steps // 96 - 1, steps // 96, steps // 2, steps - 2, steps - 1})
        seen = {
            "kind": type(optimizer).__name__,
            "nesterov": optimizer.param_groups[0]["nesterov"],
            "momentum": optimizer.param_groups[0]["momentum"],
            "groups": {
                str(group["weight_decay"]): [names[id(parameter)] for parameter in group["params"]]
                for group in optimizer.param_groups
            },
            "parameters": list(names.values()),
            "lrs": self.lrs,
            "steps": steps,
            "factors": {step: scheduler.lr_lambdas[0](step) for step in asked},
            "momenta": sorted({m.momentum for m in pl_module.modules() if isinstance(m, torch.nn.BatchNorm2d)}),
            "batch": list(trainer.datamodule.input_size),
            "network": list(pl_module.input_size),
        }
        Path(self.file).write_text(json.dumps(seen))


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder like ImageNet's with four classes."""
    root = tmp_path_factory.mktemp("imagenet")
    rng = np.random.default_rng(0)
    for part, count in (("train", 3), ("val", 1)):
        for wnid in ("n01440764", "n01443537", "n01484850", "n01491361"):
            (root / part / wnid).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / wnid / f"{wnid}_{i}.JPEG")
    return root


def look_at(name, photos, tmp_path):
    config = yaml.safe_load((CONFIGS / name).read_text())
    config["data"]["init_args"] |= {"root": str(photos), "batch_size": 2, "num_workers": 0, "classes": 4}
    proxies = next(one for one in config["trainer"]["callbacks"] if one["class_path"] == "ProxyCallback")
    proxies["init_args"] |= {"proxies": ["aleph", "macs"], "batch_size": 2}
    config["trainer"]["callbacks"] += [
        {"class_path": "test_recipes.Look", "init_args": {"file": str(tmp_path / "seen.json")}}
    ]
    if "teacher" in config["model"]:
        config["model"]["teacher"] |= {"pretrained": False}
    code = run_fit(config, tmp_path / "run", WANDB_MODE="disabled")
    assert code == 0
    return json.loads((tmp_path / "seen.json").read_text()), tmp_path / "run"


def check_groups(seen, weight_decay):
    decayed = set(seen["groups"][str(weight_decay)])
    assert set(seen["groups"]) == {str(weight_decay), "0.0"}
    assert sorted([*decayed, *seen["groups"]["0.0"]]) == sorted(seen["parameters"])  # none lost, none twice
    assert "network.classifier.weight" in decayed
    assert any(name.startswith("network.blocks") and name.endswith("weight") for name in decayed)
    assert not any(name.endswith("bias") for name in decayed)
    return decayed


def closed_form(n, lr, warmup, total):
    """SPEC of the reference: n is the number of steps with this one."""
    return lr * n / warmup if n <= warmup else lr / 2 * (1 + math.cos(math.pi * (n - warmup) / (total - warmup)))


@pytest.mark.slow
def test_480_epochs_with_teacher(photos, tmp_path):
    seen, out = look_at("mbv2_imnet.yaml", photos, tmp_path)
    assert (seen["kind"], seen["nesterov"], seen["momentum"], seen["momenta"]) == ("SGD", True, 0.9, [0.01])
    assert (seen["batch"], seen["network"]) == ([3, 320, 320], [3, 224, 224])
    decayed = check_groups(seen, 4e-5)
    assert "distillation.features.projections.0.weight" in decayed
    assert not any("teacher" in name for name in seen["parameters"])

    batches, lr = 6, 0.1 * 2 / 256  # 12 images by 2
    assert seen["steps"] == 480 * batches
    assert seen["lrs"] == pytest.approx([closed_form(n, lr, 5 * batches, 480 * batches) for n in (1, 2, 3)])
    for step, factor in seen["factors"].items():
        assert factor == pytest.approx(closed_form(int(step) + 1, 1.0, 5 * batches, 480 * batches), abs=1e-12)

    saved = torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == STEPS
    assert not any("teacher" in name for name in saved["state_dict"])
    (row,) = read_table(out / "scores.csv").rows
    assert row.arch == SPACES["mbv2"].validate("mbv2_480m")
    assert row.values == {"aleph": 137.0, "macs": SPACES["mbv2"].cost(row.arch, num_classes=4, use_se=True).macs}


@pytest.mark.slow
def test_150_epochs_without_teacher(photos, tmp_path):
    seen, _ = look_at("mbv2_imnet_150ep.yaml", photos, tmp_path)
    assert (seen["batch"], seen["network"]) == ([3, 224, 224], [3, 224, 224])
    check_groups(seen, 4e-5)
    assert seen["lrs"][0] == pytest.approx(closed_form(1, 0.4 * 2 / 256, 5 * 6, 150 * 6))


def test_zero_gamma_begins_as_the_shortcuts(photos, tmp_path):
    """What the recipe's initialisation means: every residual branch ends in a batch norm of weight 0."""
    from vkdnw_pl.networks.mbv2 import InvertedResidual
    from vkdnw_pl.training.module import TrainingModule

    config = yaml.safe_load((CONFIGS / "mbv2_imnet.yaml").read_text())["model"] | {"teacher": None}
    module = TrainingModule(**config, num_classes=4, input_size=(3, 320, 320))
    blocks = [block for block in module.network.modules() if isinstance(block, InvertedResidual)]
    assert len(blocks) == 26
    for block in blocks:
        norms = [m for name, m in block.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert sum(bool((norm.weight == 0).all()) for norm in norms) == 1
    assert {m.eps for m in module.network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-3}
