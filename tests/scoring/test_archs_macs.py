import pytest

from vkdnw_pl.scoring import archs as module
from vkdnw_pl.scoring.archs import MacsLimit
from vkdnw_pl.spaces import MBV2, NB201, TimmZoo

SPACE = NB201()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VKDNW_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_is_counted_at_the_usual_size_of_images():
    macs = MBV2().cost("mbv2_480m").macs
    small = {"image_size": 32}
    assert MacsLimit(macs, MBV2(), small)("mbv2_480m")
    assert not MacsLimit(macs - 1, MBV2(), small)("mbv2_480m")
    assert MacsLimit(macs - 1, MBV2(), {**small, "num_classes": 10})("mbv2_480m"), "other options count"


def test_what_cannot_be_counted_is_out_and_said():
    limit = MacsLimit(1e12, TimmZoo(), {})
    assert limit("test_resnet")
    assert not limit("crossvit_9_240")
    assert "cannot take images" in limit.uncounted["crossvit_9_240"]


def test_counts_that_took_long_are_kept(cache, monkeypatch):
    quick = MacsLimit(1e12, TimmZoo(), {})
    assert quick("test_resnet")
    quick.keep()
    assert not cache.exists()
    monkeypatch.setattr(module, "_KEEP_AFTER_S", 0.0)
    slow = MacsLimit(1e12, TimmZoo(), {"image_size": 64})
    assert slow("test_resnet")
    assert not slow("crossvit_9_240")
    slow.keep()
    monkeypatch.setattr(TimmZoo, "cost", None)  # is not asked again
    again = MacsLimit(1e12, TimmZoo(), {"image_size": 96})
    assert again("test_resnet")
    assert not again("crossvit_9_240")
    assert again.uncounted
    assert not MacsLimit(1.0, TimmZoo(), {})("test_resnet"), "the limit itself is not kept"
    with pytest.raises(TypeError):
        MacsLimit(1e12, TimmZoo(), {"num_classes": 10})("test_resnet")


def test_a_damaged_file_is_made_anew(cache, monkeypatch):
    monkeypatch.setattr(module, "_KEEP_AFTER_S", 0.0)
    limit = MacsLimit(1e12, TimmZoo(), {})
    limit._file.parent.mkdir(parents=True)
    limit._file.write_text("{")
    limit = MacsLimit(1e12, TimmZoo(), {})
    assert limit("test_resnet")
    limit.keep()
    monkeypatch.setattr(TimmZoo, "cost", None)
    assert MacsLimit(1e12, TimmZoo(), {})("test_resnet")
