"""What is said of an accuracy table: intervals that scipy gives, and whether the search wins."""

import numpy as np
import pytest
from scipy import stats

from vkdnw_pl.report.labels import group_results, read_labels, verdict

HEADER = "arch,seed,group,macs,params,val,test,epochs,status,reason,seconds"


def table(path, groups, column="test"):
    """``groups``: group -> accuracies, a row for each network and a column for each seed."""
    lines = [HEADER]
    for group, accuracies in groups.items():
        for i, of_seeds in enumerate(accuracies):
            for seed, value in enumerate(of_seeds, 1):
                cells = f",{value}" if column == "test" else f"{value},"
                lines.append(f"{group}{i},{seed},{group},{(i + 1) * 1_000_000},2000,{cells},3,ok,,1.0")
    path.write_text("\n".join(lines) + "\n")
    return read_labels(path)


def test_intervals_are_over_networks_or_over_the_seeds_of_one(tmp_path):
    random = [[70.0, 72.0], [74.0, 71.0], [69.5, 73.5]]
    found, others = group_results(table(tmp_path / "labels.csv", {"found": [[75.0, 73.0, 74.5]], "random": random}))
    for result, sample, over in ((found, [75.0, 73.0, 74.5], "3 seeds"), (others, np.mean(random, 1), "3 networks")):
        low, high = stats.t.interval(0.95, len(sample) - 1, np.mean(sample), stats.sem(sample))
        assert result.accuracy.over == over
        assert result.accuracy.mean == pytest.approx(np.mean(sample))
        assert result.accuracy.half_width == pytest.approx((high - low) / 2)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([81.0, 80.5, 81.5], "the search wins here"),
        ([73.5, 71.0, 74.5], "the search is ahead, but it may be chance"),
        ([60.0, 61.0, 59.0], "the search does not win here"),
    ],
)
def test_whether_the_search_wins(tmp_path, found, said):
    random = [[70.0, 72.0], [74.0, 71.0], [69.5, 73.5], [72.0, 73.0]]
    text = verdict(table(tmp_path / "labels.csv", {"found": [found], "random": random}))
    assert said in text
    interval = stats.ttest_ind(found, np.mean(random, 1), equal_var=False).confidence_interval(0.95)
    assert f"95 % interval {interval.low:+.1f} to {interval.high:+.1f}" in text
    assert f"better than {sum(np.mean(found) > np.mean(random, 1))} of 4 random networks" in text


def test_nothing_is_claimed_without_random_networks(tmp_path):
    networks = table(tmp_path / "labels.csv", {"found": [[70.0]], "timm": [[60.0], [65.0]]})
    assert "it is not known what the search is worth" in verdict(networks)
    assert [result.name for result in group_results(networks)] == ["found", "timm0", "timm1"]
    assert verdict(table(tmp_path / "labels.csv", {"given": [[70.0]]})) == ""


def test_validation_accuracies_where_there_are_no_others(tmp_path):
    networks = table(tmp_path / "labels.csv", {"given": [[70.0, 71.0]]}, column="val")
    assert networks[0].accuracies == {1: 70.0, 2: 71.0}
