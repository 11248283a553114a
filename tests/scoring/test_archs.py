import random

import pytest

from vkdnw_pl.scoring.archs import resolve_archs
from vkdnw_pl.spaces import NB201

SPACE = NB201()
A, B = SPACE.format((3, 3, 3, 1, 2, 2)), SPACE.format((0, 0, 0, 3, 0, 0))


def resolve(archs, **options):
    return resolve_archs(archs, SPACE, lambda which: [which], **options)


def test_keywords():
    assert resolve("all") == list(SPACE.enumerate())
    assert resolve("unique") == list(SPACE.enumerate(unique=True))
    assert resolve("digits") == ["digits"]
    assert resolve("oracle") == ["oracle"]


def test_sample_is_a_seeded_draw_without_repeats_from_the_unique():
    unique = list(SPACE.enumerate(unique=True))
    assert resolve("sample:100") == random.Random(0).sample(unique, 100)
    assert resolve("sample:100", archs_seed=3) == random.Random(3).sample(unique, 100)
    assert sorted(resolve("sample:9445")) == sorted(unique)


@pytest.mark.parametrize("archs", ["sample:0", "sample:9446", "sample:", "sample:-1", "sample:1e3"])
def test_sample_of_an_impossible_size(archs):
    with pytest.raises(ValueError, match=rf"archs='{archs}' is not allowed: give sample:N with N from 1 to 9445"):
        resolve(archs)


def test_list_takes_any_spelling_and_drops_repeats():
    assert resolve(["3,3,3,1,2,2", B, A]) == [A, B]
    with pytest.raises(ValueError, match=r"archs\[1\]: nb201 architecture"):
        resolve([A, "|none~0|"])
    with pytest.raises(ValueError, match="archs is an empty list"):
        resolve([])


def test_file_with_one_architecture_per_line(tmp_path):
    path = tmp_path / "archs.txt"
    path.write_text(f"# mine\n\n {A}\n(0, 0, 0, 3, 0, 0)\r\n{A}\n")
    assert resolve(str(path)) == [A, B]


def test_csv_file_with_a_column_arch(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(f'seed,arch,macs\n1,{B},3\n2,{B},4\n\n1,"3,3,3,1,2,2",3\n')
    assert resolve(str(path)) == [B, A]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (f"{A}\n\n|nor~0|\n", r"archs.txt, line 3: nb201 architecture '\|nor~0\|'"),
        (f"seed,arch\n1,{A}\n2\n", r"archs.txt, line 3: the column 'arch' is missing"),
        (f"seed,arch\n1,{A}\n2,x\n", r"archs.txt, line 3: nb201 architecture 'x'"),
        ("# nothing\n", "the file holds no architecture"),
        ("", "the file holds no architecture"),
        (b"\xff\xfe\x00", "is not a text file"),
    ],
)
def test_files_that_are_refused(tmp_path, content, text):
    path = tmp_path / "archs.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=text):
        resolve(str(path))


def test_no_such_file():
    with pytest.raises(
        ValueError, match=r"archs='uniqe' is not allowed: give all, unique, digits, oracle, sample:N, or"
    ):
        resolve("uniqe")
