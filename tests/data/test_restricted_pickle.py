import hashlib
import os
import pickle
import pickletools

import numpy as np
import pytest
from image_files import pixels, python2_batch

from vkdnw_pl.data.restricted_pickle import read_batch

DATA, LABELS = pixels(5, 4), [3, 1, 4, 1, 5]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("labels", [LABELS, np.array(LABELS), [np.int64(label) for label in LABELS]])
def test_batches_of_every_protocol(tmp_path, protocol, labels):
    file = tmp_path / "batch"
    file.write_bytes(
        pickle.dumps({"data": DATA, "labels": labels, "note": b"\xff\x00", "mean": DATA.mean(0)}, protocol)
    )
    batch = read_batch(file)
    assert np.array_equal(batch["data"], DATA)
    assert batch["data"].dtype == np.uint8
    assert list(batch["labels"]) == LABELS
    assert batch["note"] == b"\xff\x00"
    assert np.array_equal(batch["mean"], DATA.mean(0))


def test_other_orders_of_numbers(tmp_path):
    odd = {"fortran": np.asfortranarray(DATA), "big": DATA.astype(">i4"), "empty_text": b"", "transposed": DATA.T}
    for protocol in (2, 5):
        (tmp_path / "batch").write_bytes(pickle.dumps(odd, protocol))
        batch = read_batch(tmp_path / "batch")
        for name in ("fortran", "big", "transposed"):
            assert np.array_equal(batch[name], odd[name])


def test_batches_of_python_2(tmp_path):
    raw = python2_batch(DATA, LABELS)
    assert pickle.loads(raw, encoding="latin1")["labels"] == LABELS  # the test's own format is right
    (tmp_path / "batch").write_bytes(raw)
    batch = read_batch(tmp_path / "batch", hashlib.md5(raw).hexdigest())
    assert np.array_equal(batch["data"], DATA)
    assert batch["labels"] == LABELS


class Calls:
    """Pickled as a call."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


HOSTILE = {
    "posix.system": lambda mark: Calls(os.system, f"touch {mark}"),
    "builtin.*eval": lambda mark: Calls(eval, f"open({str(mark)!r}, 'w')"),
    "builtin.*getattr": lambda mark: Calls(getattr, str(mark), "title"),
    "io.open": lambda mark: Calls(open, str(mark), "w"),
    "numpy.load": lambda mark: Calls(np.load, str(mark), None, True),
    "numpy.savetxt": lambda mark: Calls(np.savetxt, str(mark), [1]),
    "numpy.memmap": lambda mark: Calls(np.memmap, str(mark), "uint8", "w+", 0, (9,)),
    "runstring": lambda mark: Calls(np.testing._private.utils.runstring, f"open({str(mark)!r}, 'w')", {}),
    "in a way of its own": lambda mark: Calls(np.ndarray, (2**40,), np.dtype("u1")),
    "not numbers": lambda mark: np.array([Calls(os.system, f"touch {mark}")], dtype=object),
    "makes bytes": lambda mark: Calls(bytes, 2**40),
    "encodes a text": lambda mark: Calls(__import__("_codecs").encode, "a", "rot13"),
}


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_pickles_run_nothing(tmp_path, words):
    mark = tmp_path / "mark"
    for protocol in (2, 4):
        (tmp_path / "batch").write_bytes(pickle.dumps({"data": HOSTILE[words](mark), "labels": LABELS}, protocol))
        with pytest.raises(ValueError, match=rf"batch' is refused.*{words}"):
            read_batch(tmp_path / "batch")
        assert not mark.exists()


@pytest.mark.parametrize(
    "code",
    [
        b"c_codecs\nencode\n}(U\x0c__defaults__K\x01\x85ub.",  # the attributes of a function
        b"c_codecs\nencode\nN}(U\x0c__defaults__K\x01\x85u\x86b.",
        b"cnumpy\ndtype\n}(U\x04nameU\x01Oub.",
    ],
)
def test_functions_cannot_be_changed(tmp_path, code):
    (tmp_path / "batch").write_bytes(b"\x80\x02" + code)
    with pytest.raises(ValueError, match="tries to change a function"):
        read_batch(tmp_path / "batch")


def test_damaged_pickles_are_errors_that_name_the_file(tmp_path):
    """Cut at every place, and with any byte changed, a file either still is a dict or is refused."""
    raw = pickletools.optimize(pickle.dumps({"data": pixels(2, 2), "labels": [1, 2]}, 4))
    damaged = [raw[:end] for end in range(len(raw))]
    rng = np.random.default_rng(0)
    for _ in range(1500):
        place = int(rng.integers(len(raw)))
        damaged.append(raw[:place] + bytes([rng.integers(256)]) + raw[place + 1 :])
    refused = 0
    for content in damaged:
        (tmp_path / "batch").write_bytes(content)
        try:
            assert isinstance(read_batch(tmp_path / "batch"), dict)
        except ValueError as error:
            refused += "batch'" in str(error)
    assert refused > len(raw)


def test_other_files(tmp_path):
    with pytest.raises(ValueError, match="none' cannot be read: No such file"):
        read_batch(tmp_path / "none")
    (tmp_path / "list").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match="list' holds a list; needed: a dict"):
        read_batch(tmp_path / "list")
    with pytest.raises(ValueError, match=r"list' is damaged or another file: its MD5 is \w+, not 0"):
        read_batch(tmp_path / "list", "0")
