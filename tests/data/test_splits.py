import json

import pytest
import torch

from vkdnw_pl.data.base import check_cover, hold_out, read_splits


def write(tmp_path, content):
    (tmp_path / "splits.txt").write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path / "splits.txt"


def test_the_published_format(tmp_path):
    path = write(tmp_path, '{\n  "train" : ["int"   , ["0", "2", "4"]],\n  "valid" : ["int"   , ["1", "3", "5"]]\n}')
    source, train, valid = read_splits(path)
    assert (source, train.tolist(), valid.tolist()) == ("train", [0, 2, 4], [1, 3, 5])
    check_cover(train, valid, 6, path)


def test_plain_lists_and_the_other_names(tmp_path):
    source, valid, test = read_splits(write(tmp_path, {"xtest": [3, 0], "xvalid": ["1", "2"]}))
    assert (source, valid.tolist(), test.tolist()) == ("eval", [1, 2], [3, 0])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is damaged: it is not JSON"),
        ([1], "holds list; needed: train and valid, or xvalid and xtest"),
        ({}, "holds nothing"),
        ({"train": [1], "test": [2]}, "holds train, test"),
        ({"train": [1], "valid": [2], "more": [3]}, "holds train, valid, more"),
        ({"train": [1, 2], "valid": [2, 3]}, "train and valid share 1, one is 2"),
        ({"train": [1, 1], "valid": [2]}, "train must be a list of places.*repeated"),
        ({"train": [1], "valid": [-2]}, "valid must be a list of places.*negative"),
        ({"train": [1.5], "valid": [2]}, "train must be"),
        ({"train": ["x"], "valid": [2]}, "train must be"),
        ({"train": ["int", "0"], "valid": [2]}, "train must be"),
        ({"train": [], "valid": [2]}, "train must be"),
    ],
)
def test_other_files(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        read_splits(write(tmp_path, content))


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"none.txt' cannot be read: No such file.*; the files are in github.com"):
        read_splits(tmp_path / "none.txt")


@pytest.mark.parametrize("count", [3, 5, 6])
def test_halves_must_be_all_images(count):
    with pytest.raises(ValueError, match=f"here are {count}, from 0"):
        check_cover(torch.tensor([0, 1]), torch.tensor([2, 3]), count, "x")
    with pytest.raises(ValueError, match="the last of them 4; here are 4"):
        check_cover(torch.tensor([0, 1]), torch.tensor([2, 4]), 4, "x")


def test_hold_out():
    before = torch.get_rng_state()
    rest, held = hold_out(100, 30)
    assert sorted([*rest.tolist(), *held.tolist()]) == list(range(100))
    assert len(held) == 30
    assert held.tolist() != list(range(70, 100))
    assert torch.equal(held, hold_out(100, 30)[1])
    assert torch.equal(torch.get_rng_state(), before)
    assert hold_out(4, 0)[0].tolist() == [0, 1, 2, 3]
    for wrong in (-1, 100, True, 2.0):
        with pytest.raises(ValueError, match="val_size="):
            hold_out(100, wrong)
