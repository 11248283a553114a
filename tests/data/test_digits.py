import pytest
import torch

from vkdnw_pl.data.digits import Corruption, clean_digits, corrupt, corrupted_digits, split_indices


def test_split_is_fixed_and_no_test_digit_is_trained_on():
    train, test = split_indices("train"), split_indices("test")
    assert (len(train), len(test)) == (1000, 797)
    assert sorted(torch.cat([train, test]).tolist()) == list(range(1797))
    assert train[:5].tolist() == split_indices("train")[:5].tolist()


def test_every_class_is_in_both_parts():
    for split in ("train", "test"):
        assert clean_digits(split)[1].bincount(minlength=10).min() > 60


def test_corruption_is_a_pure_function_of_its_seed():
    images, _ = clean_digits("test")
    before = torch.get_rng_state()
    first, again, other = (corrupt(images[:50], seed=s) for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.shape == (50, 1, 16, 16)
    assert 0 <= first.min() < first.max() <= 1


def test_without_corruption_the_digit_is_only_enlarged():
    plain = Corruption(rotation=0, shear=0, scale=(1.0, 1.0), shift=0, contrast=(1.0, 1.0), occlusion=0, noise=0)
    images, _ = clean_digits("train")
    larger = torch.nn.functional.interpolate(images[:20], size=16, mode="bilinear", align_corners=False)
    # Borders differ: outside of the digit is paper.
    torch.testing.assert_close(corrupt(images[:20], 0, plain)[..., 1:-1, 1:-1], larger[..., 1:-1, 1:-1], atol=1e-5, rtol=0)


def test_each_corruption_does_something():
    images, _ = clean_digits("train")
    base = {"rotation": 0, "shear": 0, "scale": (1.0, 1.0), "shift": 0, "contrast": (1.0, 1.0), "occlusion": 0, "noise": 0}
    plain = corrupt(images[:20], 0, Corruption(**base))
    for name, value in {
        "rotation": 30, "shear": 0.3, "scale": (0.5, 0.6), "shift": 3, "contrast": (0.4, 0.5), "occlusion": 5, "noise": 0.2,
    }.items():  # fmt: skip
        assert (corrupt(images[:20], 0, Corruption(**(base | {name: value}))) - plain).abs().mean() > 0.005, name


def test_copies_repeat_the_labels():
    images, labels = corrupted_digits("test", copies=2, seed=1)
    assert images.shape == (2 * 797, 1, 16, 16)
    assert torch.equal(labels[:797], labels[797:])
    assert not torch.equal(images[:797], images[797:])
    assert torch.equal(labels[:797], clean_digits("test")[1])


def test_errors_name_what_is_allowed():
    with pytest.raises(ValueError, match=r"split='val'.*train, test"):
        clean_digits("val")
    with pytest.raises(ValueError, match="copies=0"):
        corrupted_digits("test", copies=0, seed=1)
