"""The backend follows the input: torch in, torch out, with the values of numpy."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from neuroalign.errors import SchemaError
from neuroalign.solvers import default_alphas, ridge, ridge_cv, trf_cv

torch = pytest.importorskip("torch")
GRID = np.logspace(-2, 3, 6)


def compare(tensors, arrays, tolerance):
    for name in ("coef", "intercept", "alphas", "scores", "cv_scores"):
        tensor, array = getattr(tensors, name), getattr(arrays, name)
        assert isinstance(tensor, torch.Tensor)
        assert isinstance(array, np.ndarray)
        assert str(tensor.dtype) == f"torch.{array.dtype}"
        np.testing.assert_allclose(tensor.numpy(), array, atol=tolerance, equal_nan=True)
    np.testing.assert_array_equal(tensors.edge, arrays.edge)
    assert tensors.n_unscored == arrays.n_unscored


@pytest.mark.parametrize(("dtype", "tolerance"), [("f8", 1e-10), ("f4", 1e-4)])
@pytest.mark.parametrize("p", [6, 60])
@pytest.mark.parametrize(
    "options", [{}, {"scorer": "r", "fit_intercept": False}, {"alpha_per_target": False, "tile": 2}]
)
def test_ridge_cv(dtype, tolerance, p, options):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, p)).astype(dtype)
    y = (x @ rng.standard_normal((p, 5)) + rng.standard_normal((40, 5))).astype(dtype)
    y[2, 1], y[:, 3] = np.nan, 1.0
    order = rng.permutation(40)
    folds = [(order[10:], order[:10]), (np.arange(10, 40), np.arange(8)), (np.arange(20), np.arange(20, 40))]
    arrays = ridge_cv(x, y, alphas=GRID, folds=folds, **options)
    compare(ridge_cv(torch.from_numpy(x), torch.from_numpy(y), alphas=GRID, folds=folds, **options), arrays, tolerance)


def test_trf_cv():
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((n, 2)) for n in (30, 40, 20)]
    ys = [rng.standard_normal((len(x), 3)) for x in xs]
    options = {"lags": range(-2, 4), "alphas": GRID, "folds": [([0, 1], [2]), ([1, 2], [0])]}
    arrays = trf_cv(xs, ys, **options)
    tensors = [torch.from_numpy(x) for x in xs], [torch.from_numpy(y) for y in ys]
    compare(trf_cv(*tensors, **options), arrays, 1e-10)


def test_numpy_beside_a_tensor():
    """Lists, and arrays that are read-only, backwards or tables, as tensors take no memory from them."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 2))
    coef, _ = ridge(x, y, alpha=1.0)
    fixed = x.copy()
    fixed.flags.writeable = False
    for features in (x.tolist(), pd.DataFrame(x), fixed, x[:, ::-1].copy()[:, ::-1]):
        mixed, _ = ridge(features, torch.from_numpy(y), alpha=1.0)
        np.testing.assert_allclose(mixed.numpy(), coef, atol=1e-12)
    with pytest.raises(SchemaError, match="Masked"):
        ridge(np.ma.masked_greater(x, 1.0), torch.from_numpy(y), alpha=1.0)


def test_mixed_and_half_precision():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((30, 4)), rng.standard_normal((30, 2))
    coef, _ = ridge(x, y, alpha=1.0)
    mixed, _ = ridge(torch.from_numpy(x), y, alpha=1.0)
    np.testing.assert_allclose(mixed.numpy(), coef, atol=1e-12)
    mixed, _ = ridge(x, torch.from_numpy(y), alpha=1.0)
    np.testing.assert_allclose(mixed.numpy(), coef, atol=1e-12)
    half, _ = ridge(torch.from_numpy(x).bfloat16(), torch.from_numpy(y).half(), alpha=1.0)
    assert half.dtype == torch.float32
    np.testing.assert_allclose(half.numpy(), coef, atol=2e-2)
    grad, _ = ridge(torch.from_numpy(x).requires_grad_(), torch.from_numpy(y), alpha=1.0)
    assert not grad.requires_grad
    np.testing.assert_allclose(default_alphas(torch.from_numpy(x)), default_alphas(x))
    with pytest.raises(SchemaError, match="Complex"):
        ridge(torch.from_numpy(x).to(torch.complex64), y, alpha=1.0)
    with pytest.raises(SchemaError, match="NaN or infinity"):
        ridge(torch.full((30, 2), torch.nan), y, alpha=1.0)


def test_numpy_input_never_imports_torch():
    code = (
        "import sys, numpy as np\n"
        "from neuroalign.solvers import ridge_cv\n"
        "x = np.random.default_rng(0).standard_normal((20, 3))\n"
        "ridge_cv(x, x, alphas=[1.0], folds=[(np.arange(10), np.arange(10, 20))])\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
