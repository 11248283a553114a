"""A user's own images in ``score`` and ``search``: the networks get their classes and size, settings their content."""

import pytest
from PIL import Image

from vkdnw_pl.data.batches import image_batch
from vkdnw_pl.scoring.plan import ScoreOptions, plan_scoring
from vkdnw_pl.search.plan import SearchOptions, plan_search


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Folders `pics` of three classes and `two` of two."""
    for folder, names in (("pics", "abc"), ("two", "xy")):
        for k, name in enumerate(names):
            (tmp_path / folder / name).mkdir(parents=True)
            for i in range(8):
                Image.new("RGB", (12, 9), (80 * k, 30 * i, 0)).save(tmp_path / folder / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def score(**options):
    small = {"archs": "sample:2", "proxies": ["jacov"], "batch_size": 4, "progress": False, "workers": 1}
    return plan_scoring(ScoreOptions(**small | options))


def search(**options):
    small = {"ranking": "jacov", "evaluations": 2, "batch_size": 4, "progress": False, "workers": 1, "device": "cpu"}
    return plan_search(SearchOptions(**small | options))


def folder(size, root="pics"):
    return {"class_path": "ImageFolder", "init_args": {"root": root, "image_size": size}}


@pytest.mark.parametrize(
    ("options", "network"),
    [
        ({"data": "pics"}, {"num_classes": 3, "image_size": 64}),
        ({"data": "pics", "network": {"image_size": 16}}, {"image_size": 16, "num_classes": 3}),
        ({"data": folder(24)}, {"num_classes": 3, "image_size": 24}),
        ({"input": "pics"}, {"num_classes": 3, "image_size": 64}),
        ({"data": "pics", "input": folder(8)}, {"num_classes": 3, "image_size": 8}),
    ],
)
@pytest.mark.parametrize("plan", [score, search])
def test_networks_for_the_images(plan, options, network):
    made = plan(**options, **({"proxies": ["jacov", "vkdnw"]} if "input" in options else {}))
    assert dict(made.settings.network) == network
    assert made.resolved["network"] == network
    for option in {"data", "input"} & set(options):
        assert made.resolved[option] == getattr(made.settings, option) == folder(network["image_size"])
    again = plan(**{**made.resolved, "proxies": ["jacov", "vkdnw"] if "input" in options else ["jacov"]})
    assert again.settings.record() == made.settings.record()
    if plan is score and "network" not in options:
        assert made.why_network == "classes and size of the images in pics"


def test_the_record_is_of_the_images_not_of_their_place(here):
    settings = score(data="pics").settings
    assert image_batch(settings.data, 4, (3, 64, 64), 1).images.shape == (4, 3, 64, 64)
    before = settings.record()
    (here / "pics").rename(here / "moved")
    assert score(data="moved").settings.record() == before
    (here / "moved" / "a" / "7.png").unlink()
    assert score(data="moved").settings.record() != before


@pytest.mark.parametrize("plan", [score, search])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"data": "pics", "network": {"num_classes": 10}},
            r"network has num_classes=10, and data='pics' has 3 classes \(a, b, c\); give --network '{num_classes: 3}'",
        ),
        ({"data": folder(16), "network": {"image_size": 32}}, "network has image_size=32, and data has image_size=16"),
        ({"data": "pics", "input": "two"}, r"input='two' has 2 classes \(x, y\) and data='pics' has 3 \(a, b, c\)"),
        ({"data": "pics", "network": {"in_channels": 1}}, "in_channels"),
        ({"data": "pics", "batch_size": 40}, "data='pics' is not allowed: batch_size=40 needs more than the 19 images"),
        ({"data": "pics/a"}, "'pics/a' has 8 images, but no class folders"),
        ({"data": "pcs/"}, "data='pcs/' is not allowed: there is no folder and no file 'pcs/'"),
    ],
)
def test_what_does_not_go_together(plan, options, words):
    with pytest.raises(ValueError, match=words):
        plan(**options)


def test_accuracies_of_other_images_are_called_so():
    assert any("other images than yours" in note for note in score(data="pics").notes)
    assert not any("other images than yours" in note for note in score().notes)
