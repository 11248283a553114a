import json
import random

import pytest

from vkdnw_pl.scoring.archs import resolve_archs
from vkdnw_pl.spaces import MBV2, NB201, NASBenchMacro, TimmZoo

SPACE = NB201()
A, B = SPACE.format((3, 3, 3, 1, 2, 2)), SPACE.format((0, 0, 0, 3, 0, 0))


def resolve(archs, space=SPACE, **options):
    return resolve_archs(archs, space, lambda which: [which], **options).archs


def test_keywords():
    assert resolve("all") == list(SPACE.enumerate())
    assert resolve("unique") == list(SPACE.enumerate(unique=True))
    assert resolve("digits") == resolve("auto") == ["digits"]
    assert len(resolve("auto", NASBenchMacro())) == 100
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
    assert resolve(["index:3,3,3,1,2,2", B, A]) == [A, B]
    with pytest.raises(ValueError, match=r"archs\[1\]: nb201 architecture"):
        resolve([A, "|none~0|"])
    with pytest.raises(ValueError, match="archs is an empty list"):
        resolve([])


@pytest.mark.parametrize("archs", ["4,0,3,1,4,3", "(4, 0, 3, 1, 4, 3)", "[4, 0, 3, 1, 4, 3]"])
def test_integers_alone_are_shown_in_both_readings(archs):
    numbers = r"\(4, 0, 3, 1, 4, 3\)"
    with pytest.raises(
        ValueError, match=rf"does not say what .* write index:{numbers} for .* or naslib:{numbers} for "
    ):
        resolve(archs)
    assert resolve("naslib:[2,2,0,2,3,3],index:(0, 0, 0, 3, 0, 0)") == [A, B]


def test_file_with_one_architecture_per_line(tmp_path):
    path = tmp_path / "archs.txt"
    path.write_text(f"# mine\n\n {A}\nindex:(0, 0, 0, 3, 0, 0)\r\n{A}\n")
    assert resolve(str(path)) == [A, B]


def test_csv_file_with_a_column_arch(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(f'seed,arch,macs\n1,{B},3\n2,{B},4\n\n1,"index:3,3,3,1,2,2",3\n')
    assert resolve(str(path)) == [B, A]


def test_a_column_says_how_integers_are_coded(tmp_path):
    path = tmp_path / "theirs.csv"
    naslib = "2,2,0,2,3,3"  # A, by the node that an edge leaves
    path.write_text(f'arch,coding\n"{naslib}",naslib\n{B},\n"(3, 3, 3, 1, 2, 2)", index \n')
    assert resolve(str(path)) == [A, B]
    assert resolve(f"{B},naslib:({naslib})") == [B, A]
    path.write_text(f'arch\n"{naslib}"\n')
    with pytest.raises(
        ValueError, match=r"theirs.csv, line 2, column 'arch': nb201 architecture .* does not say what its integers"
    ):
        resolve(str(path))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (f"{A}\n\n|nor~0|\n", r"archs.txt, line 3: nb201 architecture '\|nor~0\|'"),
        (f"seed,arch\n1,{A}\n2\n", r"archs.txt, line 3 has 1 cells, the first line has 2"),
        (f"seed,arch\n1,{A}\n2,x\n", r"archs.txt, line 3, column 'arch': nb201 architecture 'x'"),
        ("# nothing\n", "the file holds no architecture"),
        ("", "the file holds no architecture"),
        (b"\xff\xfe\x00", "line 1 holds a zero byte"),
        (b"\xff\xfe", "line 1 is damaged: it is not UTF-8 text"),
    ],
)
def test_files_that_are_refused(tmp_path, content, text):
    path = tmp_path / "archs.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=text):
        resolve(str(path))


def test_no_such_file():
    with pytest.raises(
        ValueError,
        match=r"archs='uniqe' is not allowed: give auto, all, unique, digits, oracle, sample:N, a file that exists, or",
    ):
        resolve("uniqe")


class TestOneTextForSeveral:
    def test_one_architecture_in_any_spelling(self):
        assert resolve(A) == [A]
        assert resolve("index:3,3,3,1,2,2") == [A], "these commas belong to the architecture"

    def test_commas_between(self):
        assert resolve(f"{A}, {B},{A}") == [A, B]
        assert resolve("resnet18,mobilenetv2_100", TimmZoo()) == ["resnet18", "mobilenetv2_100"]
        first, second = (MBV2().validate(name) for name in ("mbv2_initial", "mbv2_480m"))
        assert resolve(f"{first},mbv2_480m", MBV2()) == [first, second], "commas in parentheses stay"

    def test_strings_of_digits_are_architectures_of_a_space_that_has_such(self):
        macro = NASBenchMacro()
        assert resolve("00000000,22222222", macro) == ["00000000", "22222222"]
        assert resolve("2222222*", macro) == ["22222220", "22222221", "22222222"]
        with pytest.raises(ValueError, match=r"archs='00000000,22222223': nasbench_macro .*'22222223': layer 7 is '3'"):
            resolve("00000000,22222223", macro)
        with pytest.raises(ValueError, match=r"or architectures: nb201 architecture .*has 3 integers"):
            resolve("3,3,3", SPACE)

    def test_a_wrong_one_among_several(self):
        with pytest.raises(ValueError, match=r"archs='resnet18,resnet1': timm has no model 'resnet1'; did you mean"):
            resolve("resnet18,resnet1", TimmZoo())
        with pytest.raises(ValueError, match="is not allowed"):
            resolve(",", SPACE)

    def test_patterns(self):
        found = resolve("|none~0|+|none~0|none~1|+|none~0|none~1|*")
        assert len(found) == 5
        assert found == [arch for arch in SPACE.enumerate() if arch in set(found)]
        assert resolve("regnetx_00?,resnet18", TimmZoo()) == [
            *("regnetx_002", "regnetx_004", "regnetx_006", "regnetx_008"),
            "resnet18",
        ]
        assert resolve(["resnet1?", "resnet18"], TimmZoo()) == ["resnet18"]
        with pytest.raises(
            ValueError, match="archs='mobilnet\\*': the pattern 'mobilnet\\*' matches no architecture of timm"
        ):
            resolve("mobilnet*", TimmZoo())
        with pytest.raises(ValueError, match="mbv2 is unbounded"):
            resolve("Super*", MBV2())

    def test_a_tag_is_not_a_network_of_its_own(self):
        assert resolve("regnetx_008.tv2_in1k,regnetx_008.pycls_in1k", TimmZoo()) == ["regnetx_008"]


class TestUnbounded:
    def test_sample_is_seeded_and_of_different_ones(self):
        space = MBV2()
        drawn = resolve("sample:40", space)
        assert len(set(drawn)) == 40
        assert [space.validate(arch) for arch in drawn] == drawn
        assert resolve("sample:40", space) == drawn != resolve("sample:40", space, archs_seed=1)
        assert resolve("sample:10", space) == drawn[:10]

    def test_all_are_not_to_be_had(self):
        for archs in ("all", "unique"):
            with pytest.raises(ValueError, match=r"mbv2 is unbounded.*sample some"):
                resolve(archs, MBV2())

    @pytest.mark.parametrize("archs", ["sample:0", "sample:x", "sample:"])
    def test_sample_of_an_impossible_size(self, archs):
        with pytest.raises(
            ValueError, match=rf"archs='{archs}' is not allowed: give sample:N with N a whole number from 1"
        ):
            resolve(archs, MBV2())

    def test_more_than_there_are_within_the_limit_ends(self):
        drawn = []

        def allowed(arch):
            drawn.append(arch)
            return len(drawn) < 4

        with pytest.raises(ValueError, match="brought nothing new after 3 architectures"):
            resolve("sample:5", MBV2(), allowed=allowed)


class TestFoundFile:
    def write(self, path, **more):
        path.write_text(json.dumps({"format": 1, "space": "mbv2", "arch": "mbv2_480m", "rank": 1, **more}))
        return str(path)

    def test_the_best_one_and_the_others(self, tmp_path):
        top = [{"arch": name} for name in ("mbv2_480m", "zico_450m")]
        path = self.write(tmp_path / "found.json", top=top, network={"use_se": True, "image_size": 160})
        chosen = resolve_archs(path, MBV2(), lambda which: [])
        assert chosen.archs == [MBV2().validate(name) for name in ("mbv2_480m", "zico_450m")]
        assert chosen.network == {"use_se": True, "image_size": 160}

    def test_of_another_space(self, tmp_path):
        path = self.write(tmp_path / "found.json")
        with pytest.raises(ValueError, match="holds architectures of mbv2; give --space mbv2"):
            resolve(path)

    def test_not_there(self):
        with pytest.raises(ValueError, match=r"nowhere.json' cannot be read"):
            resolve("nowhere.json")


class TestLimit:
    def allowed(self, arch):
        return arch.count("none") < 2

    def test_leaves_out(self):
        every = resolve("unique")
        assert resolve("unique", allowed=self.allowed) == [arch for arch in every if self.allowed(arch)]
        with pytest.raises(ValueError, match="none of its 1 architectures is within max_macs"):
            resolve([B], allowed=lambda arch: False)

    def test_a_sample_is_as_large_as_asked_for(self):
        drawn = resolve("sample:30", allowed=self.allowed)
        assert len(set(drawn)) == 30
        assert all(map(self.allowed, drawn))
        with pytest.raises(ValueError, match="only 1 architectures of nb201 are within max_macs"):
            resolve("sample:2", allowed=lambda arch: arch == A)
        assert len(resolve("sample:20", MBV2(), allowed=lambda arch: len(arch) > 200)) == 20
