import pytest
import torch
from image_files import photo
from PIL import Image
from torch.utils.data import default_collate
from torchvision.transforms import v2
from torchvision.transforms import v2 as transforms

from vkdnw_pl.data.digits import mild_motion
from vkdnw_pl.data.photos import open_photo
from vkdnw_pl.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    PCALighting,
    flip_and_crop,
    normalisation,
    photo_evaluation,
    photo_training,
)

PLAIN = dict(auto_augment=False, color_jitter=0.0, lighting=0.0, erase_probability=0.0)


@pytest.fixture
def picture(tmp_path):
    (tmp_path / "a.JPEG").write_bytes(photo(3, (80, 60)))
    return open_photo(str(tmp_path / "a.JPEG"))


def test_normalisation_by_hand():
    image = torch.tensor([0, 128, 255], dtype=torch.uint8).reshape(3, 1, 1)
    result = normalisation([0.5, 0.25, 0.1], [0.5, 0.25, 0.3])(image)
    torch.testing.assert_close(result.flatten(), torch.tensor([-1.0, (128 / 255 - 0.25) / 0.25, 3.0]))


def test_normalisation_of_a_batch_is_that_of_its_images():
    batch = torch.randint(0, 256, (9, 3, 7, 7), dtype=torch.uint8)
    finish = normalisation(IMAGENET_MEAN, IMAGENET_STD)
    assert torch.equal(finish(batch), default_collate([finish(image) for image in batch]))


def test_flip_and_crop_give_all_shifted_and_mirrored_images():
    image = torch.arange(1, 26, dtype=torch.uint8).reshape(1, 5, 5)
    padded = torch.nn.functional.pad(image, (2, 2, 2, 2))
    possible = {
        kind.flip(-1)[..., y : y + 5, x : x + 5].numpy().tobytes()
        if mirrored
        else kind[..., y : y + 5, x : x + 5].numpy().tobytes()
        for kind in (padded,)
        for mirrored in (False, True)
        for y in range(5)
        for x in range(5)
    }
    augment = flip_and_crop(5, 2)
    seen = {augment(image).numpy().tobytes() for _ in range(1000)}
    assert seen == possible
    assert len(seen) == 50


def test_lighting_has_the_colours_of_imagenet():
    """Covariance of what is added: std² V diag(λ²) Vᵀ."""
    torch.manual_seed(0)
    lighting = PCALighting(0.1)
    image = torch.full((3, 2, 2), 0.5)
    added = torch.stack([lighting(image) - image for _ in range(20_000)])
    assert torch.equal(added[..., 0, 0], added[..., 1, 1])
    covariance = added[..., 0, 0].T.cov()
    expected = 0.01 * lighting.vectors @ torch.diag(lighting.values**2) @ lighting.vectors.T
    torch.testing.assert_close(covariance, expected, rtol=0.05, atol=1e-6)
    torch.testing.assert_close(lighting.vectors.T @ lighting.vectors, torch.eye(3), atol=2e-3, rtol=0)
    assert torch.equal(PCALighting(0.0)(image), image)


@pytest.mark.parametrize("change", [{}, {"auto_augment": True}, {"color_jitter": 0.4}, {"lighting": 0.1}])
def test_photo_training(picture, change):
    transform, finish = photo_training(24, **PLAIN | change)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        image = transform(picture)
        results.append(image if finish is None else finish(image))
    assert results[0].shape == (3, 24, 24)
    assert results[0].dtype == torch.float32
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    if change:
        torch.manual_seed(1)
        plain, normalise = photo_training(24, **PLAIN)
        values = [results[0]]
        for seed in range(5):  # AutoAugment does nothing now and then
            torch.manual_seed(seed)
            without = normalise(plain(picture))
            torch.manual_seed(seed)
            image = transform(picture)
            values.append((without - (image if finish is None else finish(image))).abs().max())
        assert max(values[1:]) > 0.01


def test_late_and_early_normalisation_agree(picture):
    torch.manual_seed(0)
    early, nothing = photo_training(24, **PLAIN | {"lighting": 1e-9})
    one = early(picture)
    torch.manual_seed(0)
    late, normalise = photo_training(24, **PLAIN)
    assert nothing is None
    torch.testing.assert_close(one, normalise(late(picture)), atol=1e-6, rtol=1e-6)


def test_erasing_sets_a_rectangle_to_zero(picture):
    transform, _ = photo_training(32, **PLAIN | {"erase_probability": 0.5})
    torch.manual_seed(0)
    shares = [float((transform(picture) == 0).all(0).float().mean()) for _ in range(300)]
    erased = [share for share in shares if share > 0.015]
    assert 0.4 < len(erased) / len(shares) < 0.6
    assert max(erased) < 0.36
    assert sum(erased) / len(erased) == pytest.approx(0.175, abs=0.03)


@pytest.mark.parametrize(
    ("size", "crop_pct", "shorter"), [(320, 0.875, 366), (224, 0.875, 256), (300, 0.6, 500), (64, 1.0, 64)]
)
def test_photo_evaluation(picture, size, crop_pct, shorter):
    transform, finish = photo_evaluation(size, crop_pct)
    resized = picture.resize((round(80 * shorter / 60 - 0.5), shorter), Image.Resampling.BICUBIC)
    left, top = round((resized.width - size) / 2), round((shorter - size) / 2)
    by_hand = transforms.functional.pil_to_tensor(resized.crop((left, top, left + size, top + size)))
    assert torch.equal(transform(picture), by_hand)
    expected = (by_hand / 255 - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    torch.testing.assert_close(finish(by_hand), expected)


def test_mild_motion_keeps_digits_readable():
    torch.manual_seed(0)
    image = torch.zeros(1, 16, 16)
    image[:, 6:10, 6:10] = 1
    moved = torch.stack([mild_motion(16)(image) for _ in range(200)])
    assert len({one.numpy().tobytes() for one in moved}) > 100
    assert float(moved.sum((1, 2, 3)).min()) > 12
    assert float(moved.mean(0)[0, 7:9, 7:9].min()) > 0.9
    assert isinstance(mild_motion(16), v2.RandomAffine)


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "RGBA")])
def test_all_kinds_of_photos_become_rgb(tmp_path, kind, mode):
    """ImageNet has files of four colours, grey ones, and a PNG that is called JPEG."""
    (tmp_path / "a.JPEG").write_bytes(photo(0, kind=kind, mode=mode))
    assert open_photo(str(tmp_path / "a.JPEG")).mode == "RGB"


def test_damaged_photos_are_errors_that_name_the_file(tmp_path):
    whole = photo(0)
    for content in (whole[: len(whole) // 2], b"", b"no image"):
        (tmp_path / "broken.JPEG").write_bytes(content)
        with pytest.raises(ValueError, match=r"image file '.*broken.JPEG' cannot be read: .+; put a whole copy"):
            open_photo(str(tmp_path / "broken.JPEG"))
    with pytest.raises(ValueError, match=r"none\.JPEG' cannot be read"):
        open_photo(str(tmp_path / "none.JPEG"))
