"""The false-positive rates (FPPI) at which the miss rate is sampled, and its average."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FPPI = np.logspace(-2, 1, 61)
"""False positives per image at which the miss-rate curve is sampled: 0.01 … 10."""

REFERENCE_FPPI = np.logspace(-2, 0, 9)
"""Those over which Dollár et al. (2012) average the miss rate, for pedestrians: 0.01 … 1."""


def log_average(miss_rates: NDArray[np.float64]) -> float:
    """Return the geometric mean of miss rates at ``REFERENCE_FPPI`` (at least 1e-10 each)."""
    return float(np.exp(np.log(np.maximum(miss_rates, 1e-10)).mean()))
