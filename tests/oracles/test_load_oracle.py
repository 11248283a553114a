import hashlib
import json

import pytest

from vkdnw_pl.oracles import find_oracle, load_oracle, nb201_tables
from vkdnw_pl.oracles.base import TableFile
from vkdnw_pl.oracles.nb201_tables import FILES
from vkdnw_pl.spaces import NB201

A = "|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("VKDNW_CACHE", str(folder))
    return folder


@pytest.fixture
def embedded(tmp_path, monkeypatch):
    """A small table in place of the embedded one."""
    path = tmp_path / "nb201_digits.csv"
    path.write_text(f"arch,digits,digits_std,digits_seed0,digits_seed1,digits_seed2\n{A},70.5,0.5,70,70.5,71\n")
    monkeypatch.setattr(nb201_tables, "DIGITS", path)
    return path


@pytest.fixture
def public(tmp_path, monkeypatch):
    """Makes a function that puts small files that pass for the public ones into a folder."""
    contents = {
        file.name: json.dumps({A: {"val_acc_200": 1.0, "test_acc_200": 60.0 + number, "rank": 1}}).encode()
        for number, file in enumerate(FILES.values())
    }
    patched = {
        dataset: TableFile(file.name, hashlib.sha256(contents[file.name]).hexdigest())
        for dataset, file in FILES.items()
    }
    monkeypatch.setattr(nb201_tables, "FILES", patched)

    def put(folder, but=()):
        folder.mkdir(parents=True)
        for name, data in contents.items():
            if name not in but:
                (folder / name).write_bytes(data)
        return folder

    return put


class TestDigits:
    def test_small(self, embedded):
        oracle = load_oracle("digits")
        assert oracle.name == "digits"
        assert oracle.datasets == ("digits",)
        assert oracle.split == {"digits": "test"}
        assert oracle.accuracies("digits") == {A: 70.5}
        assert "python -m vkdnw_pl download nb201" in oracle.description
        assert "\n" not in oracle.description

    def test_the_table_of_the_package(self):
        oracle = load_oracle("digits")
        unique = set(NB201().enumerate(unique=True))
        assert oracle.datasets == ("digits",)
        assert len(oracle.archs) >= 300
        assert unique.issuperset(oracle.archs)

    def test_missing_table(self, embedded):
        embedded.unlink()
        with pytest.raises(ValueError, match=r"installation is incomplete.*nb201_digits\.csv is missing"):
            load_oracle("digits")

    def test_a_path_is_not_ignored(self, tmp_path):
        with pytest.raises(ValueError, match=r"oracle_path='.*' has no use with oracle='digits'"):
            load_oracle("digits", tmp_path)


class TestAuto:
    def test_nothing_in_the_cache(self, embedded):
        oracle = load_oracle("auto")
        assert oracle.name == "digits"
        assert "incomplete" not in oracle.description

    def test_public_tables_in_the_cache(self, embedded, public, cache):
        folder = public(cache / "nb201")
        oracle = load_oracle("auto")
        assert oracle.name == "nb201"
        assert str(folder) in oracle.description
        assert "oracle=digits" in oracle.description

    def test_incomplete_tables_in_the_cache_are_mentioned(self, embedded, public, cache):
        public(cache / "nb201", but=["nasbench201_cifar100.json"])
        oracle = load_oracle("auto")
        assert oracle.name == "digits"
        assert "incomplete, missing: nasbench201_cifar100.json" in oracle.description

    def test_damaged_tables_in_the_cache_are_an_error(self, embedded, public, cache):
        (public(cache / "nb201") / "nasbench201_cifar10.json").write_text("{}")
        with pytest.raises(ValueError, match="is damaged"):
            load_oracle("auto")

    def test_the_path_wins_over_the_cache(self, embedded, public, cache, tmp_path):
        public(cache / "nb201")
        folder = public(tmp_path / "own")
        assert str(folder) in load_oracle("auto", folder).description

    @pytest.mark.parametrize("but", [[], ["nasbench201_cifar10.json"]])
    def test_a_path_without_tables_is_not_ignored(self, embedded, public, cache, tmp_path, but):
        public(cache / "nb201")
        folder = public(tmp_path / "own", but=but) if but else tmp_path
        with pytest.raises(ValueError, match=r"oracle_path='.*missing: nasbench201_cifar10\.json"):
            load_oracle("auto", folder)


class TestNb201:
    def test_cache(self, public, cache):
        public(cache / "nb201")
        assert load_oracle("nb201").accuracies("cifar100") == {A: 61.0}

    @pytest.mark.parametrize("below", ["", "nb201"])
    def test_path_or_its_subfolder(self, public, tmp_path, below):
        public(tmp_path / "own" / below)
        assert load_oracle("nb201", str(tmp_path / "own")).name == "nb201"

    def test_home_in_the_path(self, public, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        public(tmp_path / "own")
        assert load_oracle("nb201", "~/own").name == "nb201"

    def test_the_cache_does_not_stand_in_for_a_wrong_path(self, public, cache, tmp_path):
        public(cache / "nb201")
        with pytest.raises(ValueError, match=r"in the folder .*nowhere; missing"):
            load_oracle("nb201", tmp_path / "nowhere")


class TestOthers:
    def test_csv(self, tmp_path):
        path = tmp_path / "mine.csv"
        path.write_text(f"arch,x\n{A},50\n")
        assert load_oracle(str(path)).accuracies("x") == {A: 50.0}

    def test_csv_with_a_path(self, tmp_path):
        with pytest.raises(ValueError, match=r"oracle_path=.* has no use with oracle='mine\.csv'"):
            load_oracle("mine.csv", tmp_path)

    def test_unknown_name(self):
        with pytest.raises(ValueError, match=r"oracle='nb102' is not known; did you mean 'nb201'\? \(allowed: auto, d"):
            load_oracle("nb102")
        with pytest.raises(ValueError, match=r"oracle='table\.json' is not known.*ends in \.csv"):
            load_oracle("table.json")


class TestSpaces:
    @pytest.mark.parametrize("space", ["mbv2", "timm_zoo"])
    def test_accuracies_of_another_space_are_never_taken(self, space, embedded, public, cache):
        public(cache / "nb201")
        assert find_oracle("auto", space=space) is None
        with pytest.raises(ValueError, match=rf"oracle='auto' finds no known accuracies of {space}; for {space} give"):
            load_oracle("auto", space=space)
        for name in ("digits", "nb201", "nats"):
            with pytest.raises(
                ValueError, match=rf"oracle='{name}' holds accuracies of nb201, which say nothing about"
            ):
                load_oracle(name, space=space)

    def test_timm_is_not_for_nb201(self):
        with pytest.raises(
            ValueError, match=r"of timm_zoo, which say nothing about nb201; for nb201 give digits or nb201"
        ):
            load_oracle("timm")

    def test_a_csv_file_is_of_the_space_that_is_scored(self, tmp_path):
        path = tmp_path / "mine.csv"
        path.write_text("arch,x\nmbv2_480m,50\n")
        oracle = load_oracle(str(path), space="mbv2")
        (arch,) = oracle.archs
        assert oracle.space == "mbv2"
        assert arch.startswith("SuperConvK3BNRELU(3,48")
        with pytest.raises(ValueError, match="line 2, column 'arch': nb201 architecture 'mbv2_480m'"):
            load_oracle(str(path))

    def test_tags_of_weights_do_not_count(self, tmp_path):
        path = tmp_path / "mine.csv"
        path.write_text("arch,x\nmobilenetv2_100.ra_in1k,72\n")
        assert load_oracle(str(path), space="timm_zoo").accuracies("x") == {"mobilenetv2_100": 72.0}
        path.write_text("arch,x\nregnetx_008.tv2_in1k,77\nregnetx_008.pycls_in1k,75\n")
        with pytest.raises(ValueError, match="'regnetx_008' stands in line 2 already"):
            load_oracle(str(path), space="timm_zoo")

    def test_a_path_without_use(self, tmp_path):
        with pytest.raises(ValueError, match=r"oracle_path=.* has no use with oracle='auto' and mbv2"):
            find_oracle("auto", tmp_path, "mbv2")

    def test_oracles_say_which_space_they_are_of(self, embedded):
        assert load_oracle("digits").space == "nb201"
