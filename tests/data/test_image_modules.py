"""What all image data modules promise: the same images whoever loads them, and numbered batches for the proxies."""

import hashlib
import inspect
import json
import pickle

import docstring_parser
import pytest
import pytorch_lightning as pl
import torch
from image_files import pixels, write_cifar, write_photos
from torchvision import datasets

import vkdnw_pl.data
from vkdnw_pl.data import DATA_MODULES, small_images
from vkdnw_pl.data.base import ImageDataModule, automatic_workers
from vkdnw_pl.data.batches import image_batch
from vkdnw_pl.data.synthetic import Synthetic

SMALL = [name for name in DATA_MODULES if name != "NumberedDigits"]
"""Modules that can be made of 40 training images; the other is a fixed set, with tests of its own."""


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Arguments with which each module finds a tiny data set."""
    for published, name, classes in ((datasets.CIFAR10, "labels", 10), (datasets.CIFAR100, "fine_labels", 100)):
        (train, test), _ = write_cifar(tmp_path, published, (10 if classes == 10 else 50, 12), name, classes)
        monkeypatch.setattr(published, "train_list", train)
        monkeypatch.setattr(published, "test_list", test)
    for listed, count in ((small_images.IMAGENET16_TRAIN_FILES, 5), (small_images.IMAGENET16_VAL_FILES, 12)):
        for k, (name, _) in enumerate(listed):
            batch = {"data": pixels(count, 16, k), "labels": [1 + (i + k) % 9 for i in range(count)]}
            (tmp_path / name).write_bytes(pickle.dumps(batch, 2))
    write_photos(tmp_path / "photos", ["n00000001", "n00000002"], (20, 6))
    write_photos(tmp_path / "own", ["a cat", "b"], (20, 6))
    (tmp_path / "own" / "val").rename(tmp_path / "own" / "test")
    root = {"root": str(tmp_path)}
    return {
        "ImageFolder": {"root": str(tmp_path / "own"), "image_size": 16, "val_size": 0},
        "CIFAR10": root | {"val_size": 10},
        "CIFAR100": root | {"val_size": 10},
        "ImageNet16": root | {"val_size": 10, "verify": False},
        "ImageNet": {
            "root": str(tmp_path / "photos"),
            **{"classes": 2, "image_size": 16, "auto_augment": True, "erase_probability": 0.5},
        },
        "Digits": {"corruption": "default", "val_size": 960},
        "Synthetic": {"input_size": [2, 5, 7], "train_size": 40, "val_size": 12},
    }


def make(name, options, **loader):
    return getattr(vkdnw_pl.data, name)(**options[name], **{"batch_size": 8, "num_workers": 0} | loader)


def epochs(module, count=2):
    loader = module.train_dataloader()
    found = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        found.append(list(loader))
    return found


def same(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("name", SMALL)
def test_workers_change_nothing(options, name):
    before = torch.get_rng_state()
    alone = epochs(make(name, options))
    assert torch.equal(torch.get_rng_state(), before)
    shared = epochs(make(name, options, num_workers=2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(alone[0], shared[0])
    assert same(alone[1], shared[1])
    assert not same(alone[0], alone[1])
    assert not same(alone[0], epochs(make(name, options, seed=1), 1)[0])
    assert len(alone[0]) == 5


@pytest.mark.parametrize("name", SMALL)
def test_what_the_loaders_give(options, name):
    module = make(name, options, eval_batch_size=5)
    module.prepare_data()
    module.setup()
    for loader, count, size in (
        (module.train_dataloader(), 40, 8),
        (module.val_dataloader(), len(module.images("val")), 5),
        (module.test_dataloader(), len(module.images("test")), 5),
        (module.predict_dataloader(), len(module.images("test")), 5),
    ):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert len(batches[0][0]) == size
        images, labels = (torch.cat([batch[k] for batch in batches]) for k in (0, 1))
        assert images.shape[1:] == module.input_size
        assert images.dtype == torch.float32
        assert labels.dtype == torch.int64
        assert 0 <= int(labels.min()) <= int(labels.max()) < module.num_classes
        assert len(images) == len(labels) == count


@pytest.mark.parametrize("name", SMALL)
def test_numbered_batches_for_proxies(options, name):
    module = make(name, options)
    before = torch.get_rng_state()
    batch = module.proxy_batch(16, seed=3)
    again = make(name, options, seed=9).proxy_batch(16, seed=3)  # the module's own seed does not matter
    assert torch.equal(batch.images, again.images)
    other = module.proxy_batch(16, seed=3, index=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert batch.images.shape == (16, *module.input_size)
    assert not {x.numpy().tobytes() for x in batch.images} & {x.numpy().tobytes() for x in other.images}
    for class_path in (name, f"vkdnw_pl.data.{DATA_MODULES[name]}.{name}"):
        spec = {"class_path": class_path, "init_args": json.loads(json.dumps(options[name]))}
        for index, expected in enumerate((batch, other)):
            found = image_batch(spec, 16, module.input_size, 3, index=index)
            assert torch.equal(found.images, expected.images)
            assert torch.equal(found.labels, expected.labels)
    with pytest.raises(ValueError, match=rf"batch 2 of batch_size=16 needs more than the 40 images of '{name}'"):
        module.proxy_batch(16, index=2)


@pytest.mark.parametrize("name", DATA_MODULES)
def test_every_argument_is_explained(name):
    """Lightning shows these texts in --data.help."""
    cls = getattr(vkdnw_pl.data, name)
    for documented in (cls, ImageDataModule):
        parsed = docstring_parser.parse(documented.__doc__, docstring_parser.DocstringStyle.GOOGLE)
        texts = {one.arg_name: one.description for one in parsed.params}
        assert list(texts) == list(inspect.signature(documented).parameters)
        assert all(texts.values())


def test_modules_say_whether_they_validate_on_the_test_images(options, tmp_path):
    (tmp_path / "splits.txt").write_text(json.dumps({"xvalid": list(range(6)), "xtest": list(range(6, 12))}))
    for name in SMALL:
        for val_size in (0, 5):
            module = make(
                name, {name: options[name] | {"val_size": val_size or 5 if name == "Synthetic" else val_size}}
            )
            module.setup()
            parts = [module.images(part) for part in ("val", "test")]
            firsts = [torch.as_tensor(numbers_of(part[0][0])) for part in parts]
            assert module.validates_on_test is (val_size == 0 and name != "Synthetic")
            assert torch.equal(*firsts) is module.validates_on_test
    assert not vkdnw_pl.data.CIFAR10(root="x", splits=str(tmp_path / "splits.txt")).validates_on_test


def test_cifar_names_its_classes_where_the_file_is_there(options, tmp_path, monkeypatch):
    module = make("CIFAR10", options)
    module.setup("test")
    assert module.class_names is None
    names = ["airplane", *"bcdefghij"]
    raw = pickle.dumps({"label_names": names, "num_vis": 3072}, 2)
    (tmp_path / "cifar-10-batches-py" / "batches.meta").write_bytes(raw)
    meta = {**datasets.CIFAR10.meta, "md5": hashlib.md5(raw).hexdigest()}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    module = make("CIFAR10", options)
    module.setup("test")
    assert module.class_names == tuple(names)


def numbers_of(image):
    return image if isinstance(image, torch.Tensor) else list(image.tobytes())


def test_names_that_are_not_known():
    with pytest.raises(ValueError, match=r"class_path='CIFAR1' cannot be imported: .*; did you mean 'CIFAR10'\?"):
        image_batch({"class_path": "CIFAR1"}, 2, (3, 4, 4), 1)


def test_setup_loads_what_a_stage_needs_and_only_once(monkeypatch):
    module, calls = Synthetic(), []
    load = Synthetic.load
    monkeypatch.setattr(Synthetic, "load", lambda self, part: calls.append(part) or load(self, part))
    for stage in ("fit", "fit", "validate", "test", "predict", None):
        module.setup(stage)
    assert calls == ["train", "val", "test"]


def test_automatic_workers():
    assert 1 <= automatic_workers(1) <= 12
    assert automatic_workers(10_000) == 0
    module = vkdnw_pl.data.Digits(num_workers="auto")
    assert module.train_dataloader().num_workers == 0
    loader = Synthetic(num_workers=2, prefetch=4).train_dataloader()
    assert (loader.num_workers, loader.prefetch_factor, loader.persistent_workers) == (2, 4, True)
    assert loader.pin_memory is torch.cuda.is_available()


class Threads:
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return torch.tensor([torch.get_num_threads()]), 0


def test_workers_use_one_thread(monkeypatch):
    monkeypatch.setattr(Synthetic, "load", lambda self, part: Threads())
    ((threads, _),) = Synthetic(num_workers=1, batch_size=2).train_dataloader()
    assert threads.tolist() == [[1], [1]]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"batch_size": 0}, "batch_size=0 is not allowed: give a whole number of at least 1"),
        ({"eval_batch_size": -1}, "eval_batch_size=-1"),
        ({"num_workers": -1}, "num_workers=-1 is not allowed: give a whole number of at least 0, or auto"),
        ({"num_workers": "all"}, "num_workers='all'"),
        ({"pin_memory": "yes"}, "pin_memory='yes' is not allowed: give true, false or auto"),
        ({"seed": 1.5}, "seed=1.5"),
    ],
)
def test_wrong_options(wrong, words):
    with pytest.raises(ValueError, match=words):
        Synthetic(**wrong)


class Recorder(pl.LightningModule):
    """Writes down which images it was given, in which epoch; skips what a resumed run has done."""

    def __init__(self, folder, stop_after=None):
        super().__init__()
        self.layer = torch.nn.Linear(12, 3)
        self.folder, self.stop_after = folder, stop_after

    def on_train_start(self):
        self.trainer.train_dataloader.sampler.skip_batches = (
            self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        )

    def write(self, kind, batch, batch_idx):
        rows = [image.double().sum().item() for image in batch[0]]
        line = json.dumps([kind, self.current_epoch, batch_idx, rows])
        with open(self.folder / f"{self.global_rank}.jsonl", "a") as file:
            file.write(line + "\n")

    def training_step(self, batch, batch_idx):
        self.write("train", batch, batch_idx)
        return self.layer(batch[0].flatten(1)).square().mean()

    def validation_step(self, batch, batch_idx):
        self.write("val", batch, batch_idx)

    def predict_step(self, batch, batch_idx):
        self.write("predict", batch, batch_idx)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def run(folder, batch_size, *, num_workers=0, ckpt_path=None, predict=False, callbacks=(), **trainer):
    """Train and read what each process wrote, in order."""
    folder.mkdir(exist_ok=True)
    settings = dict(accelerator="cpu", max_epochs=2, num_sanity_val_steps=0, logger=False, enable_progress_bar=False)
    settings |= dict(enable_model_summary=False, enable_checkpointing=bool(callbacks), default_root_dir=folder)
    data = Synthetic((3, 2, 2), 3, 44, 13, batch_size=batch_size, eval_batch_size=6, num_workers=num_workers)
    trainer = pl.Trainer(**settings | trainer, callbacks=list(callbacks))
    if predict:
        trainer.predict(Recorder(folder), datamodule=data, return_predictions=False)
    else:
        trainer.fit(Recorder(folder), datamodule=data, ckpt_path=ckpt_path)
    return [[json.loads(line) for line in open(file)] for file in sorted(folder.glob("*.jsonl"))]


def global_batches(ranks, kind):
    """{(epoch, batch): sorted images} of all processes together."""
    found = {}
    for rank in ranks:
        for what, epoch, index, rows in rank:
            if what == kind:
                found.setdefault((epoch, index), []).extend(rows)
    return {place: sorted(rows) for place, rows in found.items()}


def test_two_processes_see_the_batches_of_one(tmp_path):
    alone = run(tmp_path / "one", 8)
    both = run(tmp_path / "two", 4, devices=2, strategy="ddp_fork")
    assert len(both) == 2
    assert global_batches(both, "train") == global_batches(alone, "train")
    assert len(global_batches(alone, "train")) == 2 * 5
    images = [sorted(row for rows in global_batches(ranks, "val").values() for row in rows) for ranks in (alone, both)]
    assert images[0] == images[1]
    assert len(images[0]) == 2 * 13
    # 7 and 6 images in batches of 6 would be 2 batches and 1, and DDP would get out of step
    assert [sum(kind == "val" for kind, *_ in rank) for rank in both] == [4, 4]


def test_prediction_sees_each_test_image_once(tmp_path):
    alone = run(tmp_path / "one", 8, predict=True)
    both = run(tmp_path / "two", 8, predict=True, devices=2, strategy="ddp_fork", num_workers=1)
    images = [
        sorted(row for rows in global_batches(ranks, "predict").values() for row in rows) for ranks in (alone, both)
    ]
    assert images[0] == images[1]
    assert len(images[0]) == 13


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_resumed_within_an_epoch_goes_on_as_if_never_interrupted(tmp_path, num_workers):
    (whole,) = run(tmp_path / "whole", 8)
    keep = pl.callbacks.ModelCheckpoint(tmp_path, every_n_train_steps=7, save_top_k=-1, filename="{step}")
    (first,) = run(tmp_path / "first", 8, max_steps=7, callbacks=[keep])
    (rest,) = run(tmp_path / "rest", 8, ckpt_path=tmp_path / "step=7.ckpt", num_workers=num_workers)
    trained = [[row for row in rows if row[0] == "train"] for rows in (whole, first, rest)]
    assert trained[1] + trained[2] == trained[0]
    assert [row[1:3] for row in trained[2]] == [[1, 2], [1, 3], [1, 4]]
