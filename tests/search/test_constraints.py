"""Budgets refuse what costs more, or less, than allowed, and name the bound."""

import math

import pytest

from vkdnw_pl.options import parse_amount
from vkdnw_pl.search.constraints import Budget, CostCheck
from vkdnw_pl.spaces import SPACES

MBV2, NB201 = SPACES["mbv2"], SPACES["nb201"]
ARCH = MBV2.validate("mbv2_initial")  # 159,562,440 MACs, 2,824,264 parameters, 6 layers


@pytest.mark.parametrize(
    "amount", [450_000_000, 450e6, "450e6", "450M", "450 M", "0.45G", "450_000_000", "450000k", "4.5e8"]
)
def test_amounts(amount):
    assert parse_amount("max_macs", amount) == 450_000_000


def test_no_amount():
    assert parse_amount("max_macs", None) is None


@pytest.mark.parametrize("amount", [0, -3, True, "450m", "much", "1.5", 0.5, "", math.inf, math.nan, "-4M", "4MM"])
def test_amounts_that_are_refused(amount):
    with pytest.raises(ValueError, match=r"max_macs=.* is not allowed: give a whole number"):
        parse_amount("max_macs", amount)


@pytest.mark.parametrize(
    ("bounds", "refused"),
    [
        ({}, None),
        ({"max_macs": 159_562_440, "min_macs": 159_562_440}, None),
        ({"max_macs": 159_562_439}, "max_macs"),
        ({"min_macs": 159_562_441}, "min_macs"),
        ({"max_params": 2_824_264, "min_params": 2_824_264}, None),
        ({"max_params": 2_824_263}, "max_params"),
        ({"min_params": 2_824_265}, "min_params"),
        ({"max_layers": 6, "min_layers": 6}, None),
        ({"max_layers": 5}, "max_layers"),
        ({"min_layers": 7}, "min_layers"),
        # The published code counts 162,396,776 and 2,813,889.
        ({"max_macs": 162_396_775, "counting": "reference"}, "max_macs"),
        ({"max_macs": 162_396_776, "min_macs": 162_396_776, "counting": "reference"}, None),
        ({"max_params": 2_813_889, "counting": "reference"}, None),
    ],
)
def test_bounds(bounds, refused):
    found = CostCheck(Budget(**bounds), MBV2, {})(ARCH)
    if refused is None:
        assert (found.cost.macs, found.cost.num_params, found.layers) == (159_562_440, 2_824_264, 6)
    else:
        assert found == refused


def test_the_network_options_count():
    assert (
        CostCheck(Budget(max_macs=10_000_000), MBV2, {"image_size": 32, "num_classes": 10})(ARCH).cost.macs < 10_000_000
    )


def test_measured_bounds():
    budget = Budget(max_latency_ms=2.0, max_peak_mb=10.0)
    assert budget.measured
    assert not Budget(max_macs=3).measured
    assert budget.refused_measured(2.0, 10.0) is None
    assert budget.refused_measured(2.1, 1.0) == "max_latency_ms"
    assert budget.refused_measured(None, 10.1) == "max_peak_mb"


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ({"max_macs": 0}, "max_macs=0 is not allowed"),
        ({"max_layers": 2.5}, "max_layers=2.5 is not allowed: give a whole number"),
        ({"max_layers": True}, "max_layers=True is not allowed"),
        ({"max_latency_ms": 0.0}, "max_latency_ms=0.0 is not allowed: give a number above 0"),
        ({"min_macs": 5, "max_macs": 4}, "min_macs=5 is not allowed: it is above max_macs=4"),
        ({"counting": "theirs"}, "counting='theirs' is not known"),
    ],
)
def test_mistakes_are_named(bounds, text):
    with pytest.raises(ValueError, match=text):
        Budget(**bounds)


def test_what_a_space_does_not_know():
    with pytest.raises(ValueError, match="max_layers=3 has no meaning for timm_zoo: it counts no layers"):
        CostCheck(Budget(max_layers=3), SPACES["timm_zoo"], {})
    with pytest.raises(ValueError, match="counting='reference' is not allowed for nb201"):
        CostCheck(Budget(counting="reference"), NB201, {})
