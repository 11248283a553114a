"""Image files of every kind as what the networks see."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from vkdnw_pl.data.photos import open_photo
from vkdnw_pl.data.transforms import needed_side, photo_evaluation

GREY = np.array([[0, 16640, 33280, 49920]], np.uint16)


@pytest.mark.parametrize(
    ("pixels", "name", "expected"),
    [
        (GREY, "grey.png", [0, 65, 130, 195]),  # the upper 8 of 16 bits, as those of colours of 16 bits
        (GREY, "grey.tif", [0, 65, 130, 195]),
        (GREY.astype(">u2"), "big_endian.tif", [0, 65, 130, 195]),
        (np.array([[0, 0.25, 0.5, 1]], np.float32), "float.tif", [0, 64, 128, 255]),
        (np.array([[0, 64, 128, 255]], np.uint8), "usual.png", [0, 64, 128, 255]),
    ],
)
def test_grey_images_of_any_depth(pixels, name, expected, tmp_path):
    Image.fromarray(pixels).save(tmp_path / name)
    image = open_photo(str(tmp_path / name))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), np.repeat(np.array([expected])[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("pixels", "text"),
    [
        (np.array([[0, 200.5]], np.float32), "floating-point numbers from 0 to 200.5, and only for those from 0 to 1"),
        (np.array([[-0.5, 1]], np.float32), "floating-point numbers from -0.5 to 1"),
        (np.array([[0, np.nan]], np.float32), "floating-point numbers from nan to nan"),
        (np.array([[0, 70000]], np.int32), "whole numbers of 32 bits, whose white is not known"),
    ],
)
def test_numbers_that_do_not_say_what_white_is(pixels, text, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "odd.tif")
    with pytest.raises(ValueError, match=rf"image file '{tmp_path}/odd.tif' cannot be read: its values are {text}"):
        open_photo(str(tmp_path / "odd.tif"))


@pytest.mark.parametrize("mode", ["1", "LA", "P", "RGBA", "CMYK", "transparent"])
def test_other_kinds_of_images(mode, tmp_path):
    colour = (0, 0, 0) if mode == "1" else (102, 102, 102) if mode == "LA" else (102, 51, 204)
    image = Image.new("RGB", (4, 4), colour)
    if mode == "transparent":
        image.convert("P").save(tmp_path / "image.png", transparency=0)
    else:
        image.convert(mode).save(tmp_path / f"image.{'tif' if mode == 'CMYK' else 'png'}")
    file = str(next(tmp_path.iterdir()))
    assert open_photo(file, as_seen=False).getpixel((0, 0)) == colour
    assert open_photo(file).getpixel((0, 0)) == colour


def test_transparent_pixels_are_seen_on_white(tmp_path):
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [0, 100, 0, 51]]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = [[200, 0, 0], [255, 255, 255], [204, 224, 204]]
    assert np.asarray(open_photo(str(tmp_path / "a.png"))).tolist() == [expected]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_seen_upright(orientation, tmp_path):
    """Every orientation of the camera against Pillow's own."""
    picture = Image.fromarray(np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    path = str(tmp_path / "a.png")
    with Image.open(path) as image:
        assert open_photo(path).tobytes() == ImageOps.exif_transpose(image).tobytes()
    assert open_photo(path, as_seen=False).tobytes() == picture.tobytes()


def test_large_jpeg_files_are_decoded_smaller(tmp_path):
    """To what keeps the least side, seen the same at the size of the network."""
    coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    whole = Image.fromarray(coarse).resize((700, 500), Image.Resampling.BICUBIC)
    whole.save(tmp_path / "a.jpg", quality=95)
    whole.save(tmp_path / "a.png")
    transform, _ = photo_evaluation(32, 0.8)
    assert needed_side(32, 0.8) == 80
    assert needed_side(32, crop_scale=0.25) == 128
    for least_side, size in ((None, (700, 500)), (300, (700, 500)), (250, (350, 250)), (80, (175, 125))):
        image = open_photo(str(tmp_path / "a.jpg"), least_side=least_side)
        assert image.size == size
        assert (transform(image).float() - transform(whole).float()).abs().mean() < 2
    assert open_photo(str(tmp_path / "a.png"), least_side=80).size == (700, 500)


def test_damaged_camera_data_does_not_matter(tmp_path):
    Image.new("RGB", (3, 2), (9, 9, 9)).save(tmp_path / "a.png", exif=b"Exif\x00\x00MM\x00*\xff\xff")
    assert open_photo(str(tmp_path / "a.png")).size == (3, 2)


def test_damaged_images_are_one_line(tmp_path):
    whole = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(whole, "PNG")
    path = tmp_path / "damaged.png"
    for raw in (b"", b"no image", whole.getvalue()[:60], whole.getvalue()[:20]):
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=f"image file '{path}' cannot be read: ") as caught:
            open_photo(str(path))
        assert "\n" not in str(caught.value)
