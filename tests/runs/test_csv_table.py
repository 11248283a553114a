"""One reader for all tables: what has one reading is read, all else is an error that says where."""

import gzip
import time

import pytest

from vkdnw_pl.oracles.csv_file import load_csv
from vkdnw_pl.runs.csv_table import CsvTable, read_csv, read_grown
from vkdnw_pl.runs.files import MAX_BYTES, read_text
from vkdnw_pl.runs.table import read_table
from vkdnw_pl.scoring.archs import resolve_archs
from vkdnw_pl.search.history import AFTER, BEFORE, read_history
from vkdnw_pl.spaces import NB201

ARCHS = [NB201().format(genotype) for genotype in [(3, 0, 0, 0, 0, 1), (4, 3, 2, 1, 0, 1), (1, 1, 1, 1, 1, 1)]]
PLAIN = "arch,p\n" + "".join(f"{arch},{10.5 + i}\n" for i, arch in enumerate(ARCHS))
HISTORY = ",".join([*BEFORE, "p", *AFTER]) + "\n"
HISTORY += "".join(f"{i},{arch},,random,5,6,,,,{10.5 + i},ok,,0.5\n" for i, arch in enumerate(ARCHS))


def numbered(text):
    """With a first column without name, as pandas writes it."""
    first, *lines = text.splitlines()
    return "\n".join([f",{first}", *(f"{7 * i},{line}" for i, line in enumerate(lines))]) + "\n"


SPELLINGS = {
    "plain": lambda text: text,
    "BOM": lambda text: "\ufeff" + text,
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "CR": lambda text: text.replace("\n", "\r"),
    "semicolons": lambda text: text.replace(",", ";"),
    "tabs": lambda text: text.replace(",", "\t"),
    "blanks": lambda text: "\n".join(" , ".join(line.split(",")) for line in text.splitlines()) + "\n",
    "quotes": lambda text: "\n".join(", ".join(f'"{c}"' for c in line.split(",")) for line in text.splitlines()) + "\n",
    "index": numbered,
    "index read twice": lambda text: "Unnamed: 0" + numbered(text),
    "empty lines": lambda text: "\n" + text.replace("\n", "\n\n  \n"),
    "all of it": lambda text: "\ufeff" + numbered(text).replace(",", " ; ").replace("\n", "\r"),
}


def read(kind, path):
    """(architecture, value) of each row, as the reader of each kind of file gives them."""
    if kind == "score table":
        return [(row.arch, row.values["p"]) for row in read_table(path).rows]
    if kind == "accuracies":
        return list(load_csv(path, NB201()).accuracies("p").items())
    if kind == "history":
        return [(row.arch, row.values["p"]) for row in read_history(path)]
    return [(arch, 10.5 + i) for i, arch in enumerate(resolve_archs(str(path), NB201(), lambda which: []).archs)]


@pytest.mark.parametrize("kind", ["score table", "accuracies", "history", "architectures"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_what_has_one_reading_is_read(tmp_path, kind, spelling):
    path = tmp_path / "t.csv"
    path.write_bytes(SPELLINGS[spelling](HISTORY if kind == "history" else PLAIN).encode())
    assert read(kind, path) == [(arch, 10.5 + i) for i, arch in enumerate(ARCHS)]


FAULTS = {
    "no text": (b"\xff\xfea\x00", "holds a zero byte"),
    "not UTF-8": (PLAIN.encode() + b"\xe9", "line 5 is damaged: it is not UTF-8 text"),
    "zero byte": (PLAIN.encode().replace(b"10.5", b"1\0"), "line 2 holds a zero byte"),
    "open quote": (PLAIN.encode().replace(b",11.5", b',"11.5'), "line 3 is damaged: a quotation mark is not closed"),
    "text behind a quote": (PLAIN.encode().replace(b",11.5", b',"1"1.5'), "line 3 is damaged: ',' expected after '\"'"),
    "a cell more": (PLAIN.encode().replace(b",11.5", b",11.5,2"), "line 3 has 3 cells, the first line has 2"),
    "a cell less": (PLAIN.encode().replace(b",11.5", b""), "line 3 has 1 cells, the first line has 2"),
    "twice": (PLAIN.encode().replace(b"arch,p", b"arch,arch"), "line 1: a column repeats: 'arch'"),
    "no name": (PLAIN.encode().replace(b"arch,p", b"arch,"), "line 1: column 2 has no name"),
    "a text": (PLAIN.encode().replace(b"11.5", b"eleven"), "line 3, column 'p': 'eleven' is not a number"),
    "a comma": (PLAIN.encode().replace(b",", b";").replace(b"11.5", b"11,5"), "line 3, column 'p': '11,5' is not a number"),
    "underscore": (PLAIN.encode().replace(b"11.5", b"1_1"), "line 3, column 'p': '1_1' is not a number"),
    "a huge cell": (PLAIN.encode().replace(b"11.5", b"x" * 200_000), "line 3, column 'p': 'xxxx"),
    "a huge name": (PLAIN.encode().replace(b"arch,", b"x" * 200_000 + b","), "line 1: there is no column 'arch'"),
    "empty": (b"", "is empty"),
    "only blank": (b"\n \n\n", "is empty|there is no column"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_damaged_is_said_in_one_line(tmp_path, fault):
    content, text = FAULTS[fault]
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    for kind in ("score table", "accuracies"):
        with pytest.raises(ValueError, match=text) as error:
            read(kind, path)
        assert str(error.value).startswith(str(path))
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 400 + len(str(path))


def test_a_numbered_column_with_other_content_needs_a_name(tmp_path):
    with pytest.raises(ValueError, match="t.csv, line 1: column 1 has no name"):
        CsvTable(",arch\nx,y\n", "t.csv", ["arch"])


def test_line_numbers_are_those_of_an_editor():
    table = CsvTable('arch,p\n\n"a\nb",1\n\nc,x\n', "t.csv", ["arch"])
    assert table.lines == [3, 6]
    with pytest.raises(ValueError, match="line 6, column 'p': 'x'"):
        table.numbers("p")


@pytest.mark.parametrize("damage", ["cut off", "flipped", "not compressed"])
def test_damaged_archives(tmp_path, damage):
    whole = gzip.compress(PLAIN.encode() * 100)
    content = {"cut off": whole[:-20], "not compressed": PLAIN.encode()}.get(damage, whole[:30] + b"\x55" + whole[31:])
    path = tmp_path / "t.csv.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"t.csv.gz is damaged: "):
        read_table(path)


@pytest.mark.parametrize("letter", [b"\0", b"1"])
def test_an_archive_of_two_gigabytes_is_refused_early(tmp_path, letter, monkeypatch):
    import vkdnw_pl.runs.files as files

    monkeypatch.setattr(files, "MAX_BYTES", 1 << 24)  # the same with less to unpack
    one = gzip.compress(letter * (1 << 26))
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(one * 32)  # members behind each other are one file of 2 GiB
    began_at = time.perf_counter()
    with pytest.raises(ValueError, match=r"bomb.csv.gz(, line 1 holds a zero byte| is too large: .* may have 16 MiB)"):
        read_text(path)
    assert time.perf_counter() - began_at < 2
    assert MAX_BYTES < 1 << 30


def test_a_file_that_grows_may_end_anywhere(tmp_path):
    path = tmp_path / "t.csv"
    for end in range(len(PLAIN) + 1):
        path.write_text(PLAIN[:end])
        assert len(read_grown(path, "arch,p\n")) == max(PLAIN[:end].count("\n") - 1, 0)
    assert read_csv(path, ["arch"]).texts("arch") == ARCHS
