import copy

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from vkdnw_pl.callbacks.ema import EMA


class Small(LightningModule):
    """Batch norm, momentum, and a record of what each validation saw."""

    def __init__(self, fail_at=None):
        super().__init__()
        torch.manual_seed(3)
        self.network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
        self.fail_at = fail_at
        self.validated = []

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        if batch_idx == 0:
            self.validated.append(state(self.network))
        if self.fail_at is not None and self.trainer.global_step >= self.fail_at:
            raise RuntimeError("stop here")

    def test_step(self, batch, batch_idx):
        self.tested = state(self.network)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, nesterov=True)


class Steps(Callback):
    """The network after every optimizer step."""

    def __init__(self):
        self.states = []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.states.append(state(pl_module.network))


def state(network):
    return copy.deepcopy(network.state_dict())


def loader(batch_size=4, n=20):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(n, 4, generator=generator)
    return DataLoader(TensorDataset(images, torch.randint(3, (n,), generator=generator)), batch_size=batch_size)


def trainer(tmp_path, *callbacks, epochs=2, checkpoint=False, **options):
    options = {"num_sanity_val_steps": 0, "enable_checkpointing": checkpoint, **options}
    return Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        devices=options.pop("devices", 1),
        logger=False,
        max_epochs=epochs,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def fit(tmp_path, *callbacks, module=None, ckpt_path=None, **options):
    module = module or Small()
    made = trainer(tmp_path, *callbacks, **options)
    made.fit(module, loader(), loader(), ckpt_path=ckpt_path)
    return module, made


def same(found, expected, **tolerances):
    torch.testing.assert_close(found, expected, **{"rtol": 0, "atol": 0, **tolerances})


@pytest.mark.parametrize("buffers", ["average", "copy"])
@pytest.mark.parametrize(("warmup", "every"), [(True, 1), (False, 3)])
def test_the_average_is_that_of_its_formula(tmp_path, warmup, every, buffers):
    steps = Steps()
    module, _ = fit(tmp_path, EMA(0.8, warmup, every, buffers), steps, epochs=3)
    assert len(steps.states) == 15
    average, updates = None, 0
    for index, current in enumerate(steps.states):
        if index and (index + 1) % every:
            continue
        if average is None:
            average = {name: value.double() for name, value in current.items()}
        else:
            decay = min(0.8, (1 + updates) / (10 + updates)) if warmup else 0.8
            for name, value in current.items():
                copied = not value.is_floating_point() or (buffers == "copy" and "running" in name)
                average[name] = value.double() if copied else decay * average[name] + (1 - decay) * value.double()
        updates += 1
    found = module.network.state_dict()
    assert found["1.num_batches_tracked"].dtype == torch.int64
    assert found["1.num_batches_tracked"] == 15
    same({name: value.double() for name, value in found.items()}, average, atol=1e-6)
    assert (found["0.weight"] - steps.states[-1]["0.weight"]).abs().max() > 1e-3


def test_validation_sees_the_average_and_training_goes_on_without_it(tmp_path):
    steps, plain_steps = Steps(), Steps()
    module, _ = fit(tmp_path, EMA(0.5, warmup=False), steps, epochs=1, val_check_interval=2)
    fit(tmp_path, plain_steps, epochs=1, val_check_interval=2)
    same(steps.states, plain_steps.states)
    assert len(module.validated) == 2
    expected = (steps.states[0]["0.weight"] + steps.states[1]["0.weight"]) / 2
    same(module.validated[0]["0.weight"], expected, atol=1e-7)


class Late(Small):
    """Gets other weights, and another layer, after the callbacks' `setup`."""

    def setup(self, stage):
        self.late = nn.Linear(2, 2)

    def on_fit_start(self):
        with torch.no_grad():
            self.network[0].weight.fill_(7.0)


def test_before_the_first_update_the_model_itself_is_validated(tmp_path):
    module, _ = fit(tmp_path, EMA(0.9, every_n_steps=100), module=Late(), epochs=1, num_sanity_val_steps=1)
    sanity, end = module.validated
    assert (sanity["0.weight"] == 7.0).all()
    assert not (end["0.weight"] == 7.0).any()  # the first step is an update too


def test_checkpoint_holds_the_average(tmp_path, recwarn):
    steps = Steps()
    save = ModelCheckpoint(tmp_path, save_last=True)
    module, made = fit(tmp_path, EMA(0.9), steps, save, checkpoint=True)
    content = torch.load(save.last_model_path, weights_only=True)
    average = module.network.state_dict()
    same({name.removeprefix("network."): value for name, value in content["state_dict"].items()}, average)
    current = {name.removeprefix("network."): value for name, value in content["current_model_state"].items()}
    same(current, steps.states[-1])
    same(state(Small.load_from_checkpoint(save.last_model_path).network), average)
    made.test(module, loader(), ckpt_path=save.last_model_path, verbose=False)
    same(module.tested, average)
    assert not [warning for warning in recwarn if "WeightAveraging" in str(warning.message)]


class SaveNow(Callback):
    """Checkpoints at times when the module has the average in it."""

    def __init__(self, folder):
        self.folder = folder

    def on_validation_batch_end(self, trainer, *_):
        trainer.save_checkpoint(self.folder / "validating.ckpt")

    def on_train_end(self, trainer, pl_module):
        trainer.save_checkpoint(self.folder / "end.ckpt")


def test_checkpoint_at_any_time(tmp_path):
    steps = Steps()
    module, made = fit(tmp_path, EMA(0.9), steps, SaveNow(tmp_path))
    made.save_checkpoint(tmp_path / "after.ckpt")
    for name in ("validating", "end", "after"):
        content = torch.load(tmp_path / f"{name}.ckpt", weights_only=True)
        same(content["state_dict"]["network.0.weight"], module.network[0].weight.detach())
        same(content["current_model_state"]["network.0.weight"], steps.states[-1]["0.weight"])


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("every", [1, 3])
def test_resumed_training_is_exact(tmp_path, every):
    straight, _ = fit(
        tmp_path / "a", EMA(0.9, every_n_steps=every), ModelCheckpoint(tmp_path / "a"), epochs=4, checkpoint=True
    )
    save = ModelCheckpoint(tmp_path / "b", save_last=True)
    fit(tmp_path / "b", EMA(0.9, every_n_steps=every), save, checkpoint=True)
    torch.manual_seed(99)
    resumed = Small()
    nn.init.ones_(resumed.network[0].weight)
    again = ModelCheckpoint(tmp_path / "c")
    fit(
        tmp_path / "c",
        EMA(0.9, every_n_steps=every),
        again,
        module=resumed,
        ckpt_path=save.last_model_path,
        epochs=4,
        checkpoint=True,
    )
    same(state(resumed.network), state(straight.network))
    same(resumed.validated, straight.validated[2:])
    first, second = (torch.load(next((tmp_path / run).glob("epoch=3*.ckpt")), weights_only=True) for run in "ac")
    for part in ("state_dict", "current_model_state", "averaging_state", "optimizer_states"):
        same(second[part], first[part])
    assert first["averaging_state"]["n_averaged"] == (20 if every == 1 else 7)


def test_after_an_error_in_validation(tmp_path):
    steps = Steps()
    module = Small(fail_at=6)
    save = ModelCheckpoint(tmp_path, save_on_exception=True)
    with pytest.raises(RuntimeError, match="stop here"):
        fit(tmp_path, EMA(0.9), steps, save, module=module, checkpoint=True)
    same(state(module.network), steps.states[-1])
    content = torch.load(max(tmp_path.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns), weights_only=True)
    assert content["global_step"] == 10
    same(content["current_model_state"]["network.0.weight"], steps.states[-1]["0.weight"])
    same(content["state_dict"]["network.0.weight"], module.validated[-1]["0.weight"])


class Ranks(Small):
    def validation_step(self, batch, batch_idx):
        seen = self.all_gather(torch.cat([v.flatten().double() for v in self.network.state_dict().values()]))
        if not torch.equal(seen[0], seen[1]):
            raise RuntimeError("the two processes validate different networks")


def test_all_processes_validate_the_same_network(tmp_path):
    """Batch norm sees other images in each, so that their own averages of its statistics differ."""
    save = ModelCheckpoint(tmp_path, save_last=True)
    options = {"devices": 2, "strategy": "ddp_fork", "checkpoint": True}
    fit(tmp_path, EMA(0.9), save, module=Ranks(), **options)
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert content["averaging_state"]["n_averaged"] == 6
    assert all(value.isfinite().all() for value in content["state_dict"].values())


def test_a_second_run_with_the_same_callback(tmp_path):
    ema = EMA(0.9)
    fit(tmp_path, ema)
    first, _ = fit(tmp_path, EMA(0.9))
    second, _ = fit(tmp_path, ema)
    same(state(second.network), state(first.network))


def test_accumulated_batches_are_one_update(tmp_path):
    save = ModelCheckpoint(tmp_path, save_last=True)
    fit(tmp_path, EMA(0.9), save, checkpoint=True, accumulate_grad_batches=2)
    assert torch.load(save.last_model_path, weights_only=True)["averaging_state"]["n_averaged"] == 6


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"decay": 1.0}, r"ema.decay=1.0 .*below 1"),
        ({"every_n_steps": 0}, r"ema.every_n_steps=0"),
        ({"buffers": "none"}, r"ema.buffers='none'.*average, copy"),
    ],
)
def test_refused(options, text):
    with pytest.raises(ValueError, match=text):
        EMA(**options)


def test_half_precision_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"network.0.weight is torch.bfloat16.*bf16-mixed"):
        fit(tmp_path, EMA(), precision="bf16-true")


def test_checkpoints_of_weights_only_are_refused(tmp_path):
    with pytest.raises(ValueError, match="save_weights_only=True is not allowed with EMA"):
        fit(tmp_path, EMA(), ModelCheckpoint(tmp_path, save_weights_only=True), checkpoint=True)
