import ast
import csv
import json
import random
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning
import torch
from callback_training import CLASSES, SIZE, TWO_PROCESSES, SmallData, SmallModule, SmallNetwork, trainer
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

import vkdnw_pl
from vkdnw_pl.callbacks import proxy_callback, read_history
from vkdnw_pl.callbacks.history import HistoryLogger, HistoryResume
from vkdnw_pl.callbacks.proxy_callback import ProxyCallback, measure
from vkdnw_pl.data.batches import image_batch
from vkdnw_pl.proxies import make_proxies
from vkdnw_pl.proxies.scoring import score_network
from vkdnw_pl.runs.table import read_table
from vkdnw_pl.scoring.scorer import Scorer
from vkdnw_pl.scoring.settings import ScorerSettings
from vkdnw_pl.spaces import SPACES

FEW = ["vkdnw", "aleph", "params"]


def fit(folder, *callbacks, module=None, data=None, logger=False, ckpt_path=None, **options):
    module = module or SmallModule()
    torch.manual_seed(11)
    trainer(folder, callbacks, logger, **options).fit(module, data or SmallData(), ckpt_path=ckpt_path)
    return module


def drift_rows(folder):
    with (folder / "proxy_drift.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def kept_values(network, proxies=FEW, seed=1, batch_size=16):
    batch = image_batch("random", batch_size, SIZE, seed, CLASSES)
    return score_network(network, batch, make_proxies(proxies), seed, "keep").values


def test_values_are_those_of_score(tmp_path):
    """To the last bit, also for a module with other weights, and proxies of other initialisations and real images."""
    arch = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    network = {"channels": 4, "cells": 1, "image_size": 8, "num_classes": CLASSES}
    proxies = ["vkdnw", "macs", "zen", "synflow", {"name": "jacov", "images": "images"}]
    row = Scorer(
        ScorerSettings(
            space="nb201",
            network=network,
            proxies=proxies,
            batch_size=8,
            input="random",
            data="digits",
            init="auto",
            device="cpu",
        )
    ).row(arch, 5)
    assert row.status == "ok"
    module = SmallModule()
    module.network = SPACES["nb201"].build(arch, **network)
    module.arch, module.space = arch, "nb201"
    callback = ProxyCallback(proxies, batch_size=8, seed=5)
    fit(tmp_path, callback, module=module, max_epochs=1)
    assert callback.values == row.values
    (written,) = read_table(tmp_path / "scores.csv").rows
    assert written.same_scores(row)


def test_precision_memory_order_and_compilation_change_no_value(tmp_path):
    plain = ProxyCallback(FEW)
    fit(tmp_path / "plain", plain, max_epochs=1)
    for name, options in {"half": {"precision": "bf16-true"}, "double": {"precision": "64-true"}, "order": {}}.items():
        module, callback = SmallModule(), ProxyCallback(FEW)
        if name == "order":
            module.network.to(memory_format=torch.channels_last)
            module.network.compile(backend="eager")
        fit(tmp_path / name, callback, module=module, max_epochs=1, **options)
        assert callback.values == plain.values
    wrapped = SmallModule()
    wrapped.network = torch.compile(wrapped.network, backend="eager")
    callback = ProxyCallback(FEW)
    fit(tmp_path / "wrapped", callback, module=wrapped, max_epochs=1)
    assert callback.values == plain.values


@pytest.mark.parametrize("options", [{}, {"every_n_epochs": 1}, {"init": "keep", "data": "digits"}], ids=str)
def test_the_training_does_not_notice(tmp_path, options):
    runs = []
    for callbacks in (
        [],
        [ProxyCallback([*FEW, "naswot", {"name": "naswot", "images": "data", "label": "real"}], **options)],
    ):
        random.seed(1)
        np.random.seed(2)
        module = fit(tmp_path, *callbacks, module=SmallModule(dropout=0.5), data=SmallData(shuffle=True))
        states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        runs.append((module.losses, states, {name: value.tolist() for name, value in module.state_dict().items()}))
    assert runs[0] == runs[1]
    assert len(set(runs[0][0])) == 6


def test_network_and_random_streams_are_as_before(tmp_path):
    class Look(Callback):
        def __init__(self):
            self.seen = []

        def on_fit_start(self, trainer, pl_module):
            network = pl_module.network
            self.seen.append(
                (
                    [(id(value), value.tolist()) for value in [*network.parameters(), *network.buffers()]],
                    [value.requires_grad for value in network.parameters()],
                    [value.grad for value in network.parameters()],
                    [
                        (module.training, getattr(module, "inplace", None), len(module._forward_hooks))
                        for module in network.modules()
                    ],
                    (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()),
                    (torch.get_num_threads(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()),
                )
            )

    class Another(Look):
        pass

    before, after = Look(), Another()
    module = SmallModule(dropout=0.3)
    module.network[3].requires_grad_(False)
    module.network[4].eval()
    module.network[0].register_forward_hook(lambda *_: None)
    data = SmallData()
    fit(
        tmp_path,
        before,
        ProxyCallback([*FEW, {"name": "jacov", "images": "data"}], every_n_epochs=1),
        after,
        module=module,
        data=data,
        max_epochs=1,
    )
    assert data.asked
    assert before.seen == after.seen


def test_before_anything_else(tmp_path):
    order = []

    class Module(SmallModule):
        def training_step(self, batch, batch_idx):
            order.append("training")
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch, batch_idx):
            order.append("validation")

    class Noted(ProxyCallback):
        def _tell_reasons(self, reasons):
            order.append("proxies")

    fit(tmp_path, Noted(["params"]), module=Module(), max_epochs=1, num_sanity_val_steps=1)
    assert order[:3] == ["proxies", "validation", "training"]


class Run:
    """What WandbLogger uses of a run."""

    def __init__(self):
        self.config, self.summary, self.lines = {}, {}, []
        self.config = Config()
        self.name = self.id = "x"

    def log(self, values):
        self.lines.append(values)


class Config(dict):
    def update(self, values, allow_val_change=False):
        super().update(values)


def test_every_logger(tmp_path, capsys):
    run = Run()
    loggers = [
        HistoryLogger(tmp_path),
        CSVLogger(tmp_path / "csv", name="", version=""),
        WandbLogger(experiment=run, save_dir=tmp_path),
    ]
    callback = ProxyCallback(FEW)
    fit(tmp_path, callback, HistoryResume(), logger=loggers)
    expected = {f"proxy/{name}": callback.values[name] for name in FEW}
    hparams = json.loads((tmp_path / "hparams.json").read_text())
    assert hparams.items() >= {**expected, "lr": 0.1}.items()
    assert "lr: 0.1" in (tmp_path / "csv" / "hparams.yaml").read_text()
    assert "proxy/vkdnw" in (tmp_path / "csv" / "hparams.yaml").read_text()
    assert run.config.items() >= {**expected, "lr": 0.1}.items()
    assert run.summary == expected
    assert [line for line in read_history(tmp_path) if "proxy/vkdnw" in line] == [{"step": 0, **expected}]
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("proxies before training: ")]
    assert f"vkdnw {callback.values['vkdnw']:.6g}, aleph " in line
    assert line.endswith(" s)")


def test_wandb_is_imported_by_who_asks_for_it_only():
    for path in Path(proxy_callback.__file__).parents[1].glob("[ct]*/*.py"):
        modules = {name for node in ast.parse(path.read_text()).body for name in imported(node)}
        assert "wandb" not in modules, path


def imported(node):
    if isinstance(node, ast.ImportFrom):
        return [node.module.partition(".")[0]]
    return [alias.name.partition(".")[0] for alias in node.names] if isinstance(node, ast.Import) else []


@pytest.mark.slow
def test_wandb_is_not_imported_for_nothing():
    code = "import sys; from vkdnw_pl.callbacks import proxy_callback; sys.exit('wandb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def checkpoint(folder, **options):
    return ModelCheckpoint(
        folder / "checkpoints", filename="{epoch}", save_top_k=-1, enable_version_counter=False, **options
    )


def test_resume_takes_the_values_from_the_checkpoint(tmp_path, monkeypatch):
    first = ProxyCallback(FEW, init="keep")
    fit(tmp_path, first, checkpoint(tmp_path), max_epochs=1)
    table = (tmp_path / "scores.csv").read_bytes()
    (path,) = (tmp_path / "checkpoints").iterdir()
    state = torch.load(path, weights_only=True)["callbacks"]["ProxyCallback"]
    assert state["found"]["values"] == first.values
    assert all(type(value) in (float, int) for value in first.values.values())

    monkeypatch.setattr(proxy_callback, "measure", lambda *_: pytest.fail("computed again"))
    (tmp_path / "scores.csv").unlink()
    second = ProxyCallback(FEW, init="keep")
    logger = HistoryLogger(tmp_path)
    fit(tmp_path, second, checkpoint(tmp_path), HistoryResume(), logger=logger, ckpt_path=path)
    assert second.values == first.values
    assert (tmp_path / "scores.csv").read_bytes() == table
    assert not [line for line in read_history(tmp_path) if "proxy/vkdnw" in line]


def test_resume_with_other_settings(tmp_path):
    fit(tmp_path, ProxyCallback(["params"]), checkpoint(tmp_path), max_epochs=1)
    (path,) = (tmp_path / "checkpoints").iterdir()
    fresh = ProxyCallback(FEW)
    fit(tmp_path / "fresh", fresh, max_epochs=1)
    # Weights that are initialised anew are still to be had, those of the beginning are not.
    for init, expected in (("auto", fresh.values), ("keep", dict.fromkeys(fresh.columns))):
        callback = ProxyCallback(FEW, init=init)
        fit(tmp_path / init, callback, ckpt_path=path)
        assert callback.values == expected
    (row,) = read_table(tmp_path / "keep" / "scores.csv").rows
    assert row.failed
    assert "the weights that it started with are gone" in row.reason


def test_a_proxy_that_fails_leaves_its_reason(tmp_path, capsys):
    callback = ProxyCallback(["params", "zen"])  # the network has no known last feature map
    module = fit(tmp_path, callback, max_epochs=1, logger=HistoryLogger(tmp_path))
    assert len(module.losses) == 3
    assert callback.values["params"] > 0
    assert callback.values["zen"] is None
    (row,) = read_table(tmp_path / "scores.csv").rows
    assert row.failed
    assert "final_map" in row.reason
    assert "no zen: " in capsys.readouterr().err
    assert "proxy/zen" not in json.loads((tmp_path / "hparams.json").read_text())


@pytest.mark.filterwarnings("ignore:generic torch.func Jacobian")
def test_a_network_that_keeps_an_activation(tmp_path):
    class Keeps(SmallNetwork):
        def forward(self, images):
            self.seen = self[0](images)  # a tensor with a history, which copy.deepcopy refuses
            return super().forward(images)

    module = SmallModule()
    module.network = Keeps()
    module.network(torch.zeros(2, *SIZE))
    callback, plain = ProxyCallback(FEW, every_n_epochs=1), ProxyCallback(FEW)
    fit(tmp_path / "keeps", callback, module=module, max_epochs=1)
    fit(tmp_path / "plain", plain, max_epochs=1)
    assert callback.values == pytest.approx(plain.values, rel=1e-5)  # its first layer is called twice
    assert len(drift_rows(tmp_path / "keeps")) == 2


def test_a_network_that_cannot_be_copied(tmp_path, capsys):
    module = SmallModule()
    module.network.lock = threading.Lock()
    callback = ProxyCallback(FEW, every_n_epochs=1)
    fit(tmp_path, callback, module=module, max_epochs=2)
    assert set(callback.values.values()) == {None}
    assert [row["vkdnw"] for row in drift_rows(tmp_path)] == [""] * 3
    assert capsys.readouterr().err.count("no vkdnw, aleph, params: ") == 1


def test_inputs_that_are_no_images(tmp_path):
    module = SmallModule()
    module.input_size = (*SIZE, 1)
    callback = ProxyCallback(["params", "jacov"], data="random")
    trainer = SimpleNamespace(global_step=0, default_root_dir=str(tmp_path))
    callback.setup(trainer, module, "fit")
    assert callback._batches("data", trainer, module)(0).images.shape == (16, *SIZE, 1)


def test_images_of_the_data_module(tmp_path):
    proxies = [{"name": "naswot", "samples": 6, "init": "keep"}]
    data = SmallData()
    callback = ProxyCallback(proxies, batch_size=6, seed=3)
    fit(tmp_path, callback, data=data, max_epochs=1)
    assert set(data.asked) == {(6, 3, 0)}
    expected = score_network(SmallModule().network, data.proxy_batch(6), make_proxies(proxies), 3, "keep").values
    assert callback.values == expected
    module = SmallModule()
    module.input_size = (3, 16, 12)
    enlarged = ProxyCallback(proxies, batch_size=6, seed=3)
    fit(tmp_path, enlarged, data=data, module=module, max_epochs=1)
    images = torch.nn.functional.interpolate(data.proxy_batch(6).images, (16, 12), mode="bilinear")
    expected = score_network(SmallModule().network, images, make_proxies(proxies), 3, "keep").values
    assert enlarged.values == expected


def test_images_that_cannot_be_had(tmp_path):
    real = [{"name": "naswot", "images": "data"}]
    with pytest.raises(ValueError, match="data='module' is not allowed: batch_size=30 needs more than the 24 images"):
        trainer(tmp_path, [ProxyCallback(real, batch_size=30)]).fit(SmallModule(), SmallData().train_dataloader())
    with pytest.raises(ValueError, match="input='nowhere' is not allowed: 'nowhere' is not known"):
        fit(tmp_path, ProxyCallback(FEW, input="nowhere"))
    module = SmallModule()
    module.input_size = (1, 8, 8)
    with pytest.raises(ValueError, match="have 3 channels, the network takes 1"):
        fit(tmp_path, ProxyCallback(real), module=module)
    fit(tmp_path, ProxyCallback(real, data="digits"), max_epochs=1)
    del module.network
    with pytest.raises(ValueError, match="SmallModule has neither network nor a forward of its own"):
        fit(tmp_path, ProxyCallback(FEW), module=module)


def test_drift(tmp_path):
    class Weights(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            self.values.append(kept_values(pl_module.network))

    weights = Weights()
    weights.values = [kept_values(SmallModule().network)]
    # One that asks for an initialisation of its own drifts all the same.
    proxies = [{"name": "vkdnw", "init": "gaussian"}, "aleph", "params"]
    callback = ProxyCallback(proxies, every_n_epochs=2)
    fit(tmp_path, weights, callback, logger=HistoryLogger(tmp_path), max_epochs=5)
    rows = drift_rows(tmp_path)
    assert [(row["epoch"], row["step"]) for row in rows] == [("0", "0"), ("2", "6"), ("4", "12")]
    found = [{name: float(row[name]) for name in FEW} for row in rows]
    assert found == [{name: weights.values[i][name] for name in FEW} for i in (0, 2, 4)]
    assert len({row["vkdnw"] for row in rows}) == 3
    lines = [line for line in read_history(tmp_path) if "proxy_drift/vkdnw" in line]
    assert [(line["step"], line["epoch"]) for line in lines] == [(0, 0), (5, 1), (11, 3)]
    assert [line["proxy_drift/vkdnw"] for line in lines] == [value["vkdnw"] for value in found]
    assert callback.values["vkdnw"] != found[0]["vkdnw"]


@pytest.mark.parametrize("at_epoch_end", [True, False], ids=["epoch_end", "validation_end"])
def test_resume_neither_doubles_nor_loses_drift(tmp_path, at_epoch_end):
    def run(folder, ckpt_path=None):
        callbacks = [ProxyCallback(FEW, every_n_epochs=1), HistoryResume()]
        saves = checkpoint(folder, save_on_train_epoch_end=at_epoch_end)
        fit(folder, *callbacks, saves, logger=HistoryLogger(folder), max_epochs=4, ckpt_path=ckpt_path)
        lines = [line for line in read_history(folder) if "proxy_drift/vkdnw" in line]
        return (folder / "proxy_drift.csv").read_text(), lines

    whole = run(tmp_path)
    assert len(whole[1]) == 5
    # As if killed after two more epochs than the checkpoint has.
    assert run(tmp_path, tmp_path / "checkpoints" / "epoch=1.ckpt") == whole

    # A training that only just goes on has dropped what comes after.
    class Stop(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fit(
            tmp_path,
            Stop(),
            ProxyCallback(FEW, every_n_epochs=1),
            max_epochs=4,
            ckpt_path=tmp_path / "checkpoints" / "epoch=1.ckpt",
        )
    assert [row["epoch"] for row in drift_rows(tmp_path)] == ["0", "1", "2"]


def test_the_end_of_an_epoch_may_come_twice(tmp_path):
    class Again(ProxyCallback):
        def on_train_epoch_end(self, trainer, pl_module):
            for _ in range(2):
                super().on_train_epoch_end(trainer, pl_module)

    fit(tmp_path, Again(["params"], every_n_epochs=1))
    assert [row["epoch"] for row in drift_rows(tmp_path)] == ["0", "1", "2"]


def test_two_processes(tmp_path, monkeypatch):
    def noted(*given):
        with (tmp_path / "measured").open("a") as file:
            file.write(f"{rank_zero_only.rank}")
        return measure(*given)

    monkeypatch.setattr(proxy_callback, "measure", noted)

    class Same(Callback):
        def on_train_end(self, trainer, pl_module):
            (callback,) = (one for one in trainer.callbacks if isinstance(one, ProxyCallback))
            (tmp_path / f"{trainer.global_rank}.json").write_text(
                json.dumps([callback.values, callback.state_dict()["drift"]])
            )

    alone = ProxyCallback(FEW)
    fit(tmp_path / "alone", alone, max_epochs=1)
    callbacks = [ProxyCallback(FEW, every_n_epochs=1), Same()]
    fit(tmp_path, *callbacks, logger=HistoryLogger(tmp_path), max_epochs=1, **TWO_PROCESSES)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first[0] == alone.values
    assert (tmp_path / "measured").read_text() == "0" * 4  # alone, then two processes: before, and the drift twice
    assert len(read_table(tmp_path / "scores.csv").rows) == 1
    assert len(drift_rows(tmp_path)) == 2
    assert len([line for line in read_history(tmp_path) if "proxy/vkdnw" in line]) == 1


def test_another_score_table_is_not_replaced(tmp_path):
    (tmp_path / "scores.csv").write_text("arch,vkdnw\na,1\nb,2\n")
    with pytest.raises(ValueError, match="holds the scores of 2 networks"):
        fit(tmp_path, ProxyCallback(FEW))
    assert len(read_table(tmp_path / "scores.csv").rows) == 2
    (tmp_path / "scores.csv").write_text("arch,vkdnw\nan earlier training,1\n")
    fit(tmp_path, ProxyCallback(FEW), max_epochs=1)
    assert read_table(tmp_path / "scores.csv").archs == ["small"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"proxies": ["vkdnv"]}, "proxies: 'vkdnv' is not known; did you mean 'vkdnw'"),
        ({"proxies": [{"name": "vkdnw", "alfa": 1}]}, "no parameter 'alfa'"),
        ({"init": "zeros"}, r"init='zeros' is not known \(allowed: auto, kaiming_normal"),
        ({"batch_size": 0}, "batch_size=0 is not allowed"),
        ({"every_n_epochs": -1}, "every_n_epochs=-1 is not allowed"),
    ],
)
def test_constructor_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        ProxyCallback(**options)


def plain_training(pl, folder, **options):
    """A module of a package that only maps a tensor to logits, and is trained on a loader."""

    class Plain(pl.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(3)
            self.body = SmallModule().network

        def forward(self, images):
            return self.body(images)

        def training_step(self, batch, batch_idx):
            return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

        def train_dataloader(self):
            return SmallData(shuffle=True).train_dataloader()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    callback = ProxyCallback(["vkdnw", "snip", "params"], batch_size=8, every_n_epochs=1)
    quiet = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": False,
    }
    module, loader = Plain(), None if options.pop("own_loader", False) else SmallData().train_dataloader()
    network = Plain()
    pl.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=str(folder), callbacks=[callback], **quiet).fit(
        module, loader
    )
    assert len(drift_rows(folder)) == 2
    data = SmallData()
    expected = vkdnw_pl.score(
        network, proxies=["vkdnw", "snip", "params"], images=(data.images, data.labels), batch_size=8, details=True
    )
    assert callback.values == expected


@pytest.mark.parametrize("own_loader", [True, False])
def test_any_module_with_any_loader(tmp_path, own_loader):
    plain_training(pytorch_lightning, tmp_path, own_loader=own_loader)


@pytest.mark.slow
def test_the_other_lightning(tmp_path):
    plain_training(pytest.importorskip("lightning.pytorch"), tmp_path)
