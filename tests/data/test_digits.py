"""The corrupted digits: fixed split without leakage, pure functions of their seeds, and what each corruption does."""

import math

import pytest
import torch
from sklearn.datasets import load_digits

from vkdnw_pl.data.digit_images import (
    IMAGE_SIZE,
    NUM_TRAIN,
    Corruption,
    clean_digits,
    corrupt,
    split_indices,
)

# Nothing but the resize to the whole canvas.
PLAIN = {"rotation": 0.0, "shear": 0.0, "scale": (1.0, 1.0), "shift": 0.0, "contrast": (1.0, 1.0), "occlusion": 0, "noise": 0.0}  # fmt: skip


def only(**what: object) -> Corruption:
    return Corruption(**{**PLAIN, **what})


def test_split_is_a_partition_of_all_digits() -> None:
    train, test = split_indices("train"), split_indices("test")
    assert len(train) == NUM_TRAIN
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(len(load_digits().target)))


def test_split_is_the_one_the_table_was_made_with() -> None:
    # A later change of the split would put tested digits among the trained ones without any error.
    assert split_indices("train")[:5].tolist() == [362, 1568, 1440, 1761, 815]
    assert split_indices("test")[:5].tolist() == [1543, 1759, 1296, 1343, 441]


def test_no_test_image_comes_from_a_training_digit() -> None:
    train, test = (clean_digits(split)[0].flatten(1) for split in ("train", "test"))
    # Not even as an equal image under another index.
    assert torch.cdist(train, test).min() > 0


def test_clean_digits_are_scikit_learns() -> None:
    images, labels = clean_digits("test")
    chosen = split_indices("test").numpy()
    bunch = load_digits()
    assert images.shape == (len(chosen), 1, 8, 8)
    torch.testing.assert_close(images[:, 0].double() * 16, torch.from_numpy(bunch.images[chosen]), rtol=0, atol=0)
    assert labels.tolist() == bunch.target[chosen].tolist()


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_class_is_well_represented(split: str) -> None:
    _, labels = clean_digits(split)
    counts = labels.bincount(minlength=10)
    assert len(counts) == 10
    assert counts.min() > 0.07 * len(labels)


def test_unknown_split_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(ValueError, match=r"split='valid'.*train, test"):
        split_indices("valid")


def test_corrupted_digits_are_grey_values_on_a_larger_canvas() -> None:
    digits, _ = clean_digits("test")
    images = corrupt(digits, seed=7)
    assert images.shape == (len(digits), 1, IMAGE_SIZE, IMAGE_SIZE)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1


def test_copies_of_a_digit_differ() -> None:
    first, second = corrupt(clean_digits("test")[0].repeat(2, 1, 1, 1), seed=7).chunk(2)
    assert (first - second).abs().amax((1, 2, 3)).min() > 0.05


def test_equal_seeds_agree_and_others_differ() -> None:
    digits, _ = clean_digits("train")
    assert torch.equal(corrupt(digits, seed=3), corrupt(digits, seed=3))
    assert not torch.isclose(corrupt(digits, seed=3), corrupt(digits, seed=4)).all((1, 2, 3)).any()


def test_global_random_state_neither_matters_nor_moves() -> None:
    digits = clean_digits("train")[0][:20]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = corrupt(digits, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(corrupt(digits, seed=1), first)


def test_input_is_left_alone() -> None:
    digits = clean_digits("train")[0][:20]
    before = digits.clone()
    corrupt(digits, seed=1)
    assert torch.equal(digits, before)


def test_without_corruptions_the_digit_fills_the_canvas() -> None:
    digits = clean_digits("train")[0][:50]
    got = corrupt(digits, seed=0, corruption=only())
    expected = torch.nn.functional.interpolate(digits, scale_factor=2, mode="bilinear", align_corners=False)
    # The two treat the outermost pixel differently (zeros outside against repeating the edge).
    torch.testing.assert_close(got[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], rtol=0, atol=1e-5)


def blob(row: int, column: int) -> torch.Tensor:
    """2,000 images of one bright pixel."""
    image = torch.zeros(2_000, 1, 8, 8)
    image[..., row, column] = 1
    return image


def centres(images: torch.Tensor) -> torch.Tensor:
    """Centre of mass (x, y) in canvas pixels from the middle of the canvas, (n, 2)."""
    at = torch.arange(IMAGE_SIZE) - (IMAGE_SIZE - 1) / 2
    mass = images[:, 0] / images.sum((2, 3))[..., None]
    return torch.stack([(mass * at).sum((1, 2)), (mass * at[:, None]).sum((1, 2))], 1)


def test_rotation_keeps_the_radius_and_stays_within_its_range() -> None:
    start = centres(corrupt(blob(4, 6)[:1], 0, only()))
    moved = centres(corrupt(blob(4, 6), 0, only(rotation=40.0)))
    torch.testing.assert_close(moved.norm(dim=1), start.norm(dim=1).expand(len(moved)), rtol=0, atol=0.15)
    angle = torch.rad2deg(torch.atan2(moved[:, 1], moved[:, 0]) - torch.atan2(start[:, 1], start[:, 0]))
    assert angle.abs().max() < 42
    assert angle.min() < -36 < 36 < angle.max()


def test_shift_is_in_canvas_pixels() -> None:
    moved = centres(corrupt(blob(4, 4), 0, only(shift=3.0))) - centres(corrupt(blob(4, 4)[:1], 0, only()))
    for axis in (0, 1):
        assert moved[:, axis].min() == pytest.approx(-3, abs=0.1)
        assert moved[:, axis].max() == pytest.approx(3, abs=0.1)
    assert abs(torch.corrcoef(moved.T)[0, 1]) < 0.1


def test_shear_moves_pixels_sideways_by_their_height() -> None:
    start = centres(corrupt(blob(6, 4)[:1], 0, only()))[0]
    moved = centres(corrupt(blob(6, 4), 0, only(shear=0.3)))
    assert (moved[:, 0] - start[0]).abs().max() == pytest.approx(0.3 * start[1].item(), abs=0.15)
    assert (moved[:, 1] - start[1]).abs().max() < 0.1


def test_scale_is_the_size_of_the_frame() -> None:
    full = torch.ones(2_000, 1, 8, 8)
    got = corrupt(full, 0, only(scale=(0.5, 1.0)))
    for axis in (2, 3):
        extent = got.amax(5 - axis).sum(-1)  # bright lines of the canvas
        assert extent.min() == pytest.approx(8, abs=0.5)
        assert extent.max() == pytest.approx(16, abs=1.1)


def test_contrast_leaves_the_rest_to_the_paper() -> None:
    got = corrupt(blob(4, 4), 0, only(contrast=(0.4, 0.6)))
    paper = got[:, 0, 0, 0]
    assert paper.min() < 0.02
    assert 0.5 < paper.max() <= 0.6
    # The blob's four inner pixels hold 9/16 of its brightness each.
    strength = (got.amax((1, 2, 3)) - paper) / 0.5625
    assert strength.min() == pytest.approx(0.4, abs=0.01)
    assert strength.max() == pytest.approx(0.6, abs=0.01)


def test_occlusion_is_one_square_of_one_grey_level() -> None:
    got = corrupt(torch.zeros(500, 1, 8, 8), 0, only(occlusion=5))[:, 0]
    for image in got:
        rows, columns = (image > 0).nonzero(as_tuple=True)
        assert len(rows) == 25
        assert rows.max() - rows.min() == columns.max() - columns.min() == 4
        assert image[rows, columns].unique().numel() == 1
    assert (got.amax(0) > 0).all()  # it reaches every place


def test_noise_has_the_standard_deviation_drawn() -> None:
    grey = torch.full((4_000, 1, 8, 8), 0.5)
    got = corrupt(grey, 0, only(noise=0.1))[..., 2:-2, 2:-2]
    std = got.std((1, 2, 3))
    assert std.min() < 0.005
    assert std.max() == pytest.approx(0.1, rel=0.2)
    # Mean square of a uniform draw of the standard deviation.
    assert got.var().item() == pytest.approx(0.1**2 / 3, rel=0.05)
    assert abs(got.mean().item() - 0.5) < 1e-3


def test_default_corruption_changes_every_kind_of_thing() -> None:
    corruption = Corruption()
    assert corruption.rotation > 0
    assert corruption.noise > 0
    assert math.prod(corruption.scale) < 1
