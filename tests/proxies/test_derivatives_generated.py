"""Every engine against plain autograd, on generated networks."""

import os
import warnings

import torch
from generated_networks import NETWORKS
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from proxy_reference import all_scalars, images, lend, plain_jacobian
from torch.utils.checkpoint import CheckpointError

from vkdnw_pl.proxies.functional.jacobian import jacobian

EXAMPLES = int(os.environ.get("VKDNW_PL_EXAMPLES", "40"))
"""How many networks; the long run has 1,000."""


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(network=NETWORKS, batchnorm=st.sampled_from(["sample", "running", "batch"]))
def test_engines_give_what_autograd_gives(network, batchnorm):
    network, inputs = network.double(), images(2, 3, 6, 6)
    scalars = all_scalars(network, "all")
    scalars = scalars[:: max(len(scalars) // 16, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected, logits = plain_jacobian(network, inputs, scalars, batchnorm)
        except (RuntimeError, CheckpointError):  # a block writes over what autograd needs
            reject()
        for engine in ("auto", "forward", "reverse", "generic"):
            if engine == "reverse" and batchnorm == "batch":
                continue
            result = jacobian(lend(network, torch.float64), inputs, scalars, batchnorm, engine)
            torch.testing.assert_close(result.logits_BC, logits, rtol=1e-9, atol=1e-9, equal_nan=True)
            if torch.isfinite(expected).all():
                scale = max(float(expected.abs().max()), 1e-3)
                assert float((result.jac_BCP - expected).abs().max()) <= 1e-9 * scale, (engine, result.engine)
            else:
                assert not torch.isfinite(result.jac_BCP).all(), (engine, result.engine)
