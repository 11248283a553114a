"""The Fisher matrix and its roots; why a root and not the matrix (saturated softmax)."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy_reference import images, reference_fisher, relative_error

from vkdnw_pl.proxies.functional.fisher import (
    eigenvalues_of_root,
    fisher_root,
    lower_root,
    sketch_cotangents,
    smoothed_probabilities,
)


def fisher_matrix(root):
    return root.T @ root


def covariance(p):
    return torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)


@pytest.mark.parametrize("alpha", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("num_classes", [2, 10, 120])
def test_root_gives_the_matrix_of_the_definition(num_classes, alpha):
    jac, logits = images(5, num_classes, 7), 3 * images(5, num_classes, seed=1)
    root = fisher_root(jac, smoothed_probabilities(logits, alpha))
    assert root.shape == (5 * num_classes, 7)
    assert relative_error(fisher_matrix(root), reference_fisher(jac, logits, alpha)) < 1e-13


def test_matrix_is_the_mean_over_the_samples():
    jac, p = images(4, 3, 5), smoothed_probabilities(images(4, 3, seed=1), 0.05)
    single = torch.stack([fisher_matrix(fisher_root(jac[i : i + 1], p[i : i + 1])) for i in range(4)])
    assert relative_error(fisher_matrix(fisher_root(jac, p)), single.mean(0)) < 1e-14
    twice = fisher_matrix(fisher_root(torch.cat([jac, jac]), torch.cat([p, p])))
    assert relative_error(twice, fisher_matrix(fisher_root(jac, p))) < 1e-14


def test_matrix_depends_on_neither_order_of_classes_nor_a_common_shift_of_the_logits():
    jac, logits = images(4, 6, 5), images(4, 6, seed=1)
    expected = fisher_matrix(fisher_root(jac, smoothed_probabilities(logits, 0.05)))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    permuted = fisher_matrix(fisher_root(jac[:, order], smoothed_probabilities(logits[:, order], 0.05)))
    assert relative_error(permuted, expected) < 1e-14
    shifted = fisher_matrix(fisher_root(jac + images(4, 1, 5, seed=2), smoothed_probabilities(logits + 100, 0.05)))
    assert relative_error(shifted, expected) < 1e-12


def test_single_precision_input_is_taken_to_double():
    jac, logits = images(2, 3, 4).float(), images(2, 3).float()
    p = smoothed_probabilities(logits, 0.0)
    assert p.dtype == fisher_root(jac, p).dtype == torch.float64
    assert torch.allclose(p.sum(-1), torch.ones(2, dtype=torch.float64), atol=1e-15, rtol=0)
    assert torch.equal(fisher_root(jac, p), fisher_root(jac.double(), p))


@pytest.mark.parametrize("alpha", [0.0, 0.05])
@pytest.mark.parametrize("num_classes", [2, 10, 120])
def test_sketch_of_all_classes_but_one_is_the_matrix(num_classes, alpha):
    p = smoothed_probabilities(10 * images(5, num_classes, seed=1), alpha)
    factors = sketch_cotangents(p, images(5, num_classes, num_classes - 1, seed=2))
    assert factors.shape == (5, num_classes - 1, num_classes)
    assert relative_error(factors.mT @ factors, covariance(p)) < 1e-13


@pytest.mark.parametrize("count", [1, 3])
def test_mean_of_sketches_is_the_matrix(count):
    """The error of the mean falls with the root of the number of draws."""
    p = smoothed_probabilities(3 * images(6, seed=1), 0.05)
    factors = sketch_cotangents(p.expand(40_000, -1), images(40_000, 6, count, seed=2))
    products = factors.mT @ factors
    assert relative_error(products[:10].mean(0), covariance(p)) > 0.05
    assert relative_error(products.mean(0), covariance(p)) < 0.02


@pytest.mark.parametrize("num_classes", [1, 2, 10, 120])
def test_lower_root(num_classes):
    p = torch.softmax(2 * images(6, num_classes), -1)
    root = lower_root(p)
    assert torch.equal(root, root.tril())
    assert not root[..., -1].any()
    assert float((root @ root.mT - covariance(p)).abs().max()) < 1e-15


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=12))
def test_lower_root_against_rational_arithmetic(counts):
    total = sum(counts)
    exact = [Fraction(c, total) for c in counts]
    root = lower_root(torch.tensor([float(p) for p in exact], dtype=torch.float64))
    product = root @ root.T
    for i, p in enumerate(exact):
        for j, q in enumerate(exact):
            assert abs(float(product[i, j]) - float((p if i == j else 0) - p * q)) < 1e-14


def test_smoothed_probabilities():
    logits = images(4, 5)
    assert torch.equal(smoothed_probabilities(logits, 0.0), torch.softmax(logits, -1))
    assert torch.allclose(smoothed_probabilities(logits, 1.0), torch.full((4, 5), 0.2, dtype=torch.float64))
    # Never saturated: at least alpha / C, at most 1 - alpha + alpha / C, whatever the logits.
    for scale in (1e2, 1e4, 1e30):
        p = smoothed_probabilities(scale * logits.float(), 0.05)
        assert p.min() >= 0.05 / 5 * (1 - 1e-12)
        assert p.max() <= (0.95 + 0.01) * (1 + 1e-12)
        assert torch.allclose(p.sum(-1), torch.ones(4, dtype=torch.float64), atol=1e-14, rtol=0)


SATURATED = torch.tensor([[60.0, 0.0, 0.0, -3.0, 2.0]])
"""The softmax of these in single precision: one, and four numbers that one minus them does not see."""


def exact_matrix(jac, logits):
    """diag(p) - p pᵀ from exact formulas: p_i (1 - p_i) = p_i Σ_{k≠i} p_k, every term positive, in rational numbers."""
    powers = [Fraction(math.exp(float(z) - float(logits.max()))) for z in logits]
    p = [x / sum(powers) for x in powers]
    n = len(p)
    matrix = [
        [sum(p[i] * p[k] for k in range(n) if k != i) if i == j else -p[i] * p[j] for j in range(n)] for i in range(n)
    ]
    jac = [[Fraction(float(x)) for x in row] for row in jac]
    columns = range(len(jac[0]))
    return torch.tensor(
        [
            [float(sum(jac[i][a] * matrix[i][j] * jac[j][b] for i in range(n) for j in range(n))) for b in columns]
            for a in columns
        ],
        dtype=torch.float64,
    )  # fmt: skip


@pytest.mark.parametrize("top", [20.0, 60.0, 200.0])
def test_saturated_softmax_with_single_precision_networks(top):
    """The matrix formed in single precision loses everything; the root keeps it, from the same logits and derivatives."""
    logits = SATURATED.clone()
    logits[0, 0] = top
    jac = images(1, 5, 4).float()
    expected = exact_matrix(jac[0], logits[0])

    p = torch.softmax(logits, -1)
    formed = torch.einsum("bcp,bcd,bdq->pq", jac, covariance(p), jac)
    assert relative_error(formed, expected) > 0.05

    root = fisher_root(jac, smoothed_probabilities(logits, 0.0))
    assert relative_error(fisher_matrix(root), expected) < 1e-5
    assert relative_error(fisher_matrix(root), expected) < 1e-10 or top > 30


def test_saturated_softmax_in_double_precision():
    """With the other classes beyond 1e-16, double precision loses the matrix as well, and its spectrum with it."""
    jac = images(1, 5, 4)
    expected = exact_matrix(jac[0], SATURATED[0])
    p = torch.softmax(SATURATED.double(), -1)
    formed = torch.einsum("bcp,bcd,bdq->pq", jac, covariance(p), jac)
    root = fisher_root(jac, smoothed_probabilities(SATURATED, 0.0))
    largest = torch.linalg.eigvalsh(expected)[-1]
    assert relative_error(fisher_matrix(root), expected) < 1e-5
    assert float(eigenvalues_of_root(root)[0] / largest) == pytest.approx(1, abs=1e-5)
    assert float(torch.linalg.eigvalsh((formed + formed.T) / 2)[-1] / largest) != pytest.approx(1, abs=0.01)


def test_one_class_and_certainty_give_zero():
    assert not fisher_matrix(fisher_root(images(2, 1, 3), torch.ones(2, 1))).any()
    certain = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    assert not fisher_matrix(fisher_root(images(1, 3, 4), certain)).any()
