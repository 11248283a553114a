"""The figures that `fit` leaves in its run folder."""

from run_samples import fit_run

from vkdnw_pl.report.figures.style import to_svg
from vkdnw_pl.report.figures.trainings import Curve, curve_panels
from vkdnw_pl.report.run_curves import write_curves

LINE = {"color": "#1769aa"}


def test_curves_and_drift(tmp_path):
    folder = fit_run(tmp_path / "fit")
    assert [path.name for path in write_curves(folder)] == ["curves.png"]
    (folder / "proxy_drift.csv").write_text("epoch,step,vkdnw,vkdnw_decile_1,macs\n0,0,1.5,1,9\n1,10,1.75,2,9\n")
    paths = write_curves(folder)
    assert [path.relative_to(folder).as_posix() for path in paths] == ["figures/curves.png", "figures/proxy_drift.png"]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in paths)
    (folder / "proxy_drift.csv").write_text("epoch,step,macs\n0,0,9\n1,10,9\n")  # nothing moves
    assert len(write_curves(folder)) == 1


def test_a_panel_for_each_value_with_its_outlier():
    curves = [
        Curve("validation", LINE, range(1, 9), [2e6, *[1.0] * 7]),
        Curve("training", LINE, range(1, 9), [1.0] * 8),
    ]
    svg = to_svg(curve_panels({"loss": curves, "lr": [Curve("rate", LINE, [1], [0.1])]}), "t")
    assert "1 value above" in svg
    assert "2e+06" in svg
    assert svg.count(">training<") == svg.count(">validation<") == 2  # hover text and legend
