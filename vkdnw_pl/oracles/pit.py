"""Accuracies of the space ``pit``: 100 networks of ViT-Bench-101 (Wei et al., AAAI 2024, Auto-Prox); see `autoformer`."""

from __future__ import annotations

from pathlib import Path

from vkdnw_pl.oracles.autoformer import BASE_URL, SINGLE, read_records, vit_oracle
from vkdnw_pl.oracles.base import Oracle, TableFile, public_files
from vkdnw_pl.spaces import PiT

__all__ = ["BASE_URL", "CONTENTS", "FILES", "SPACE", "load_pit"]

SPACE = PiT.name
FILES: dict[str, TableFile] = {
    "1": TableFile("gt_pit.pth", "bdda89841d4105f99ab759e3243e7a2402929ba7a8430dac12a50256aa533bb2")
}
"""The only sample -> its file."""

CONTENTS = "a table of ViT-Bench-101, 12 kB, with accuracies of 100 PiT networks on three data sets"


def load_pit(folder: Path | None) -> Oracle:
    """Load test accuracies; of ``folder`` see `public_files`."""
    space = PiT()
    (path,) = public_files("pit", FILES, folder).values()
    tables = read_records(path, lambda a: space.format((a["base_dim"], a["mlp_ratio"], a["depth"], a["num_heads"])))
    return vit_oracle("pit", SPACE, tables, dict.fromkeys(tables, SINGLE), path.parent)
