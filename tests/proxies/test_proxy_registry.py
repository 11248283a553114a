"""The registry of proxies, their records, and the errors of ``make_proxies``."""

import inspect
import json
import re

import pytest

from vkdnw_pl.networks.init import INITS
from vkdnw_pl.proxies import PROXIES, Proxy, ProxyInfo, make_proxies
from vkdnw_pl.proxies.functional.batchnorm import BATCH_NORMS

NAMES = (
    *("aleph", "epe_nas", "expressivity", "fisher", "grad_norm", "grad_sign", "grasp", "jacov", "l2_norm"),
    *(
        "layers",
        "linear_regions",
        "log_width",
        "macs",
        "naswot",
        "ntk_condition",
        "params",
        "plain",
        "progressivity",
        "snip",
        "synflow",
    ),
    *("trainability", "vkdnw", "vkdnw_official", "zen", "zico"),
    *("near", "dextr", "dss"),
    *("meco", "swap", "wrcor"),
)


def test_names():
    assert sorted(PROXIES) == sorted(NAMES)


@pytest.mark.parametrize("name", PROXIES)
def test_records(name):
    cls = PROXIES[name]
    info = cls.info
    assert isinstance(info, ProxyInfo)
    assert info.name == name
    assert info.title
    assert info.source
    assert info.higher_is_better is True
    assert isinstance(info.needs_labels, bool)
    assert info.input in ("none", "images", "data")
    assert info.init in INITS
    assert info.batchnorm in (*BATCH_NORMS, "none")
    assert (info.input == "none") == (info.batchnorm == "none")
    assert cls.__doc__
    assert "igher is better" in cls.__doc__
    proxy = cls()
    assert proxy.name == name
    assert proxy.columns[0] == name
    assert len(set(proxy.columns)) == len(proxy.columns)
    assert all(re.fullmatch(rf"{name}(_\w+)?", column) for column in proxy.columns)
    assert getattr(proxy, "batchnorm", info.batchnorm) == info.batchnorm
    assert proxy.graph in (None, info.batchnorm)


@pytest.mark.parametrize("name", PROXIES)
def test_parameters_are_recorded_documented_and_make_the_same_proxy(name):
    (proxy,) = make_proxies([name])
    parameters = proxy.parameters()
    assert list(parameters) == list(inspect.signature(PROXIES[name]).parameters)
    assert json.loads(json.dumps(parameters)) == parameters
    (again,) = make_proxies([{"name": name, **parameters}])
    assert type(again) is type(proxy)
    assert again.parameters() == parameters
    for parameter in parameters:
        assert any(f"{parameter}:" in (cls.__doc__ or "") for cls in PROXIES[name].__mro__)


def test_columns_of_different_proxies_differ():
    columns = [column for proxy in make_proxies(list(PROXIES)) for column in proxy.columns]
    assert len(columns) == len(set(columns)) == 10 + 11 + 3 + len(PROXIES) - 3


def test_order_and_types():
    made = make_proxies(["macs", {"name": "vkdnw", "alpha": 0.1}, "aleph"])
    assert [proxy.name for proxy in made] == ["macs", "vkdnw", "aleph"]
    assert all(isinstance(proxy, Proxy) for proxy in made)
    assert made[1].alpha == 0.1


def test_given_mappings_are_not_changed():
    spec = {"name": "vkdnw", "alpha": 0.1}
    make_proxies([spec])
    assert spec == {"name": "vkdnw", "alpha": 0.1}


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["vkdwn"], r"'vkdwn' is not known; did you mean 'vkdnw'\? \(known: .*aleph.*vkdnw_official"),
        (["naswot9"], r"'naswot9' is not known.*\(known: "),
        ([{"name": "VKDNW"}], r"'VKDNW' is not known.*\(known: "),
        (
            [{"name": "vkdnw", "alhpa": 0.1}],
            r"vkdnw has no parameter 'alhpa'; did you mean 'alpha'\? \(its parameters: alpha, ",
        ),
        ([{"name": "macs", "alpha": 0.1}], r"macs has no parameter 'alpha'.*\(its parameters: init, label\)"),
        ([{"alpha": 0.1}], r"\{'alpha': 0.1\} has no 'name'; write \{name: vkdnw"),
        ([{}], r"has no 'name'"),
        (["macs", "aleph", "macs"], r"'macs' is given twice"),
        ([{"name": "vkdnw"}, {"name": "vkdnw", "alpha": 0.2}], r"'vkdnw' is given twice"),
        ([], r"the list is empty \(known: aleph, "),
        ([{"name": None}], r"None is not known.*\(known: "),
        ([{"name": ["vkdnw"]}], r"\['vkdnw'\] is not known.*\(known: "),
        (["vkdnw", 3], r"3 .*\(known: "),
        ("vkdnw", r"'vkdnw'"),
    ],
)
def test_errors(specs, message):
    with pytest.raises(ValueError, match=message) as error:
        make_proxies(specs)
    assert str(error.value).startswith("proxies: ")
