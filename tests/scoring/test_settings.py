import dataclasses

import pytest

from vkdnw_pl.runs.folder import differences
from vkdnw_pl.scoring.settings import ScoreSettings

SETTINGS = ScoreSettings(
    space="nb201",
    network={"image_size": 16},
    archs=("a", "b"),
    proxies=[{"name": "macs"}, {"name": "vkdnw", "alpha": 0.05}],
    seeds=(1, 2),
    batch_size=16,
    input="random",
    data="digits",
    init="kaiming_normal",
    device="cpu",
)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"network": {}}, 'network (there: {"image_size": 16}, now: {})'),
        ({"proxies": [{"name": "macs"}]}, "proxies (there: [macs, vkdnw(alpha=0.05)], now: [macs])"),
        ({"seeds": (2, 1)}, "seeds (there: [1, 2], now: [2, 1])"),
        ({"batch_size": 8}, "batch_size (there: 16, now: 8)"),
        ({"device": "cuda"}, "device (there: cpu, now: cuda)"),
        ({"init": "keep"}, "init (there: kaiming_normal, now: keep)"),
    ],
)
def test_each_setting_counts(change, text):
    other = dataclasses.replace(SETTINGS, **change)
    assert differences(SETTINGS.record(), other.record()) == [text]
    assert other.digest() != SETTINGS.digest()


def test_order_of_architectures_counts():
    other = dataclasses.replace(SETTINGS, archs=("b", "a"))
    (text,) = differences(SETTINGS.record(), other.record())
    assert text.startswith("archs (there: 2 of digest ")


@pytest.mark.parametrize(("now", "count"), [(None, 0), (False, 0), (0, 1), (True, 1)])
def test_an_option_that_came_since_differs_unless_it_is_off(now, count):
    assert len(differences(SETTINGS.record(), {**SETTINGS.record(), "linear_start": now})) == count


def test_equal_settings_have_no_differences():
    other = dataclasses.replace(SETTINGS, archs=["a", "b"], seeds=[1, 2])
    assert differences(SETTINGS.record(), other.record()) == []
    assert other.digest() == SETTINGS.digest()
    assert len(SETTINGS.digest()) == 8


def test_content_of_an_input_file_counts(tmp_path):
    path = tmp_path / "images.npy"
    path.write_bytes(b"one")
    settings = dataclasses.replace(SETTINGS, input=str(path))
    before = settings.record()
    path.write_bytes(b"two")
    (text,) = differences(before, settings.record())
    assert text.startswith("input (there: ")
