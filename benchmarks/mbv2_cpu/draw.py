"""Random networks of the MobileNetV2 space within the budget of the paper's search, in the order they are drawn.

python benchmarks/mbv2_cpu/draw.py 40 > benchmarks/mbv2_cpu/archs.txt
"""

import random
import sys

from vkdnw_pl.search.constraints import Budget, CostCheck
from vkdnw_pl.spaces import SPACES

BUDGET = Budget(max_macs=450_000_000, max_layers=14, counting="reference")  # configs/mbv2_search.yaml

space, rng = SPACES["mbv2"], random.Random(0)
within = CostCheck(BUDGET, space, {})
archs: dict[str, None] = {}
while len(archs) < int(sys.argv[1]):
    arch = space.sample(rng)
    if not isinstance(within(arch), str):
        archs[arch] = None
print("\n".join(archs))
