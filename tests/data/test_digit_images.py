import pytest
import torch

from vkdnw_pl.data.digit_images import clean_digits, corrupt
from vkdnw_pl.data.digits import Digits


def test_sizes_and_normalisation():
    module = Digits(eval_batch_size=2000)
    module.setup()
    assert [len(module.images(part)) for part in ("train", "val", "test")] == [800, 200, 797]
    images, labels = next(iter(module.test_dataloader()))
    clean, known = clean_digits("test")
    assert images.shape == (797, 3, 16, 16)
    assert torch.equal(labels, known)
    assert torch.equal(images[:, 0], images[:, 2])
    assert abs(float(images.mean())) < 0.05
    assert abs(float(images.std()) - 1) < 0.05
    small = torch.nn.functional.avg_pool2d(images[:, :1], 2)
    for seen, stored in ((small[i].flatten(), clean[i].flatten()) for i in range(20)):
        assert float(torch.corrcoef(torch.stack([seen, stored]))[0, 1]) > 0.95


def test_images_that_are_trained_on_are_not_validated_on():
    module = Digits(val_size=300)
    places = [set(module.images(part).chosen.tolist()) for part in ("train", "val")]
    assert places[0] | places[1] == set(range(1000))
    assert not places[0] & places[1]
    module = Digits(val_size=0)
    assert len(module.images("train")) == 1000
    assert torch.equal(module.images("val").images, module.images("test").images)


@pytest.mark.parametrize("size", [16, 24])
def test_corruption(size):
    module = Digits(corruption="default", image_size=size, batch_size=800, eval_batch_size=797, num_workers=0)
    (images, _), (again, _) = next(iter(module.test_dataloader())), next(iter(module.test_dataloader()))
    assert images.shape == (797, 3, size, size)
    assert torch.equal(images, again)
    if size == 16:
        expected = corrupt(clean_digits("test")[0], 0)
        both = torch.stack([images[:, 0].flatten(), expected.flatten()])
        assert float(torch.corrcoef(both)[0, 1]) > 0.9999
    loader = module.train_dataloader()
    first = next(iter(loader))[0]
    assert torch.equal(next(iter(loader))[0], first)
    loader.sampler.set_epoch(1)
    second = next(iter(loader))[0]
    assert abs(float(first.mean() - second.mean())) < 0.05
    assert not {image.numpy().tobytes() for image in first} & {image.numpy().tobytes() for image in second}


def test_augmentation_is_mild():
    module = Digits(batch_size=800, num_workers=0)
    moved, labels = next(iter(module.train_dataloader()))
    keys = [index for _, index in module.train_dataloader().sampler]
    plain = torch.stack([module.images("train")[index][0] for index in keys])
    assert labels.tolist() == [module.images("train")[index][1] for index in keys]
    alike = [
        torch.corrcoef(torch.stack([a[0].flatten(), b.flatten()]))[0, 1] for a, b in zip(moved, plain, strict=True)
    ]
    assert 0.7 < float(torch.stack(alike).mean()) < 0.97


def test_wrong_options():
    with pytest.raises(ValueError, match=r"corruption='strong' is not known \(allowed: none, default\)"):
        Digits(corruption="strong")
    with pytest.raises(ValueError, match="image_size=4 is not allowed"):
        Digits(image_size=4)
    with pytest.raises(ValueError, match="val_size=1000 is not allowed"):
        Digits(val_size=1000).setup("fit")
