"""Eigenvalues from the root, deciles, entropy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy_reference import images

from vkdnw_pl.proxies.functional.fisher import DECILES, eigenvalues_of_root, entropy, quantiles


@pytest.mark.parametrize("shape", [(30, 7), (8, 7), (7, 7), (200, 20)])
def test_equal_to_the_eigenvalues_of_the_square_where_that_is_well_conditioned(shape):
    root = images(*shape)
    expected = torch.linalg.eigvalsh(root.T @ root).flip(0)
    got = eigenvalues_of_root(root)
    assert got.shape == (shape[1],)
    assert torch.all(got[:-1] >= got[1:])
    assert torch.allclose(got, expected, rtol=1e-11, atol=1e-12 * float(expected[0]))


def rotation(n, seed):
    return torch.linalg.qr(images(n, n, seed=seed)).Q


@pytest.mark.parametrize("rows", [11, 40])
def test_small_eigenvalues_keep_their_digits(rows):
    """Known eigenvalues 1, 1e-2, ..., 1e-20: the root has them to 1e-4 at least, the square only the first eight."""
    known = torch.tensor([10.0 ** (-2 * k) for k in range(11)], dtype=torch.float64)
    basis = torch.linalg.qr(images(rows, 11, seed=1)).Q
    root = basis @ torch.diag(known.sqrt()) @ rotation(11, 2).T
    error = (eigenvalues_of_root(root) / known - 1).abs()
    assert error.max() < 1e-4
    assert error[:8].max() < 1e-6
    square = (torch.linalg.eigvalsh(root.T @ root).flip(0) / known - 1).abs()
    assert square[:7].max() < 1e-2
    assert square[9:].min() > 1


def test_graded_columns():
    """Scalars of very different influence: every column has its own scale."""
    scales = torch.tensor([10.0**-k for k in range(8)], dtype=torch.float64)
    root = torch.linalg.qr(images(30, 8)).Q * scales
    assert torch.allclose(eigenvalues_of_root(root), scales.square(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("rows", [1, 3, 6])
def test_fewer_rows_than_scalars(rows):
    root = images(rows, 7)
    got = eigenvalues_of_root(root)
    assert got.shape == (7,)
    assert not got[rows:].any()
    assert torch.allclose(got[:rows], torch.linalg.eigvalsh(root @ root.T).flip(0), rtol=1e-12)


def test_rank_deficient_and_zero_roots():
    root = images(20, 3) @ images(3, 6, seed=1)
    got = eigenvalues_of_root(root)
    assert got[3:].max() < 1e-28 * got[0]
    assert (got >= 0).all()
    assert torch.equal(eigenvalues_of_root(torch.zeros(5, 3)), torch.zeros(3))


def test_scaling():
    root = images(12, 6)
    assert torch.allclose(eigenvalues_of_root(3 * root), 9 * eigenvalues_of_root(root), rtol=1e-13)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=40))
def test_deciles_equal_numpy(values):
    got = quantiles(torch.tensor(values, dtype=torch.float64))
    assert tuple(k / 10 for k in range(1, 10)) == DECILES
    np.testing.assert_allclose(
        got.numpy(), np.quantile(values, np.arange(1, 10) / 10), rtol=1e-12, atol=1e-12 * max(values)
    )
    assert (got.diff() >= 0).all()


def test_other_quantiles():
    values = images(17).abs()
    np.testing.assert_allclose(quantiles(values, (0.0, 0.25, 1.0)), np.quantile(values, (0, 0.25, 1)), rtol=1e-14)


def test_entropy_of_known_distributions():
    assert float(entropy(torch.ones(9, dtype=torch.float64))) == pytest.approx(math.log(9), rel=1e-15)
    for k in range(9):
        assert float(entropy(torch.eye(9, dtype=torch.float64)[k])) == 0.0
    halves = torch.tensor([0.0, 3.0, 3.0], dtype=torch.float64)
    assert float(entropy(halves)) == pytest.approx(math.log(2))
    quarter = torch.tensor([1.0, 3.0], dtype=torch.float64)
    assert float(entropy(quarter)) == pytest.approx(-0.25 * math.log(0.25) - 0.75 * math.log(0.75))
    assert entropy(torch.zeros(9)).isnan()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(1e-6, 1e6), min_size=9, max_size=9), st.floats(1e-20, 1e20))
def test_entropy_is_scale_invariant_symmetric_and_bounded(values, factor):
    weights = torch.tensor(values, dtype=torch.float64)
    score = float(entropy(weights))
    assert 0 <= score <= math.log(9) + 1e-12
    assert float(entropy(weights * factor)) == pytest.approx(score, rel=1e-9, abs=1e-12)
    assert float(entropy(weights.flip(0))) == pytest.approx(score, rel=1e-12)
