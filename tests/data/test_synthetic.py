import pytest
import torch

from vkdnw_pl.data.synthetic import Synthetic


def all_of(module, part):
    images = module.images(part)
    pairs = [images[i] for i in range(len(images))]
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])


def test_images_are_a_function_of_their_number():
    first, again, other = (Synthetic(train_size=20, images_seed=seed) for seed in (1, 1, 2))
    images, labels = all_of(first, "train")
    assert images.shape == (20, 3, 32, 32)
    assert torch.equal(all_of(again, "train")[0], images)
    assert not torch.equal(all_of(other, "train")[0], images)
    assert (
        len({image.numpy().tobytes() for part in ("train", "val", "test") for image in all_of(first, part)[0]}) == 532
    )
    assert labels.tolist() == [i % 10 for i in range(20)]


def test_moments():
    images, _ = all_of(Synthetic(num_classes=100, signal=0.5), "train")
    assert abs(float(images.mean())) < 0.05
    assert abs(float(images.std()) - 1) < 0.05


@pytest.mark.parametrize(("signal", "at_least", "at_most"), [(0.0, 0.0, 0.25), (0.2, 0.95, 1.0), (1.0, 1.0, 1.0)])
def test_the_signal_can_be_learned(signal, at_least, at_most):
    """Nearest mean of the training images tells the classes of the test images."""
    module = Synthetic((1, 12, 12), 8, 320, 160, signal)
    images, labels = all_of(module, "train")
    means = torch.stack([images[labels == label].mean(0) for label in range(8)]).flatten(1)
    images, labels = all_of(module, "test")
    correct = (torch.cdist(images.flatten(1), means).argmin(1) == labels).float().mean()
    assert at_least <= float(correct) <= at_most


def test_size_costs_nothing():
    module = Synthetic((3, 64, 64), 1000, train_size=1_281_167)
    module.setup()
    image, label = module.images("train")[1_281_166]
    assert image.shape == (3, 64, 64)
    assert label == 166
    assert module.proxy_batch(4).images.shape == (4, 3, 64, 64)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"input_size": (3, 0, 4)}, "input_size=\\(3, 0, 4\\) is not allowed"),
        ({"input_size": (3, 4)}, "give channels, height and width"),
        ({"signal": 1.1}, "signal=1.1"),
        ({"train_size": 0}, "train_size=0"),
        ({"num_classes": 0}, "num_classes=0"),
    ],
)
def test_wrong_options(wrong, words):
    with pytest.raises(ValueError, match=words):
        Synthetic(**wrong)
