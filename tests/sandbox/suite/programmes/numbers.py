"""Counting and calculating."""

from __future__ import annotations

from tests.sandbox.suite.programmes.programme import programme

PROGRAMMES = (
    programme("numpy", "import numpy as np\nfloat((np.eye(50) @ np.ones((50, 50))).sum())", "2500.0"),
    programme(
        "linear algebra", "import numpy as np\nround(float(np.linalg.det(np.diag([2.0, 3.0]))), 6)", "6.0"
    ),
    programme(
        "a least squares fit",
        "import numpy as np\nx = np.arange(10.0)\n[round(float(c), 6) for c in np.polyfit(x, 3 * x + 1, 1)]",
        "[3.0, 1.0]",
    ),
    programme(
        "a Fourier transform",
        "import numpy as np\nint(np.abs(np.fft.rfft(np.sin(np.arange(64) * 2 * np.pi * 5 / 64))).argmax())",
        "5",
    ),
    programme(
        "scipy",
        "from scipy import optimize\nround(float(optimize.brentq(lambda x: x * x - 2, 0, 2)), 6)",
        "1.414214",
        "scipy",
    ),
    programme(
        "statistics",
        "import statistics\nstatistics.median([3, 1, 2]), statistics.stdev([1, 2, 3])",
        "(2, 1.0)",
    ),
    programme(
        "decimals",
        "from decimal import ROUND_HALF_UP, Decimal\n"
        "str((Decimal('19.99') * Decimal('0.19')).quantize(Decimal('0.01'), ROUND_HALF_UP))",
        "'3.80'",
    ),
    programme(
        "fractions",
        "from fractions import Fraction\nstr(sum(Fraction(1, n) for n in range(1, 5)))",
        "'25/12'",
    ),
    programme(
        "large integers",
        "len(str(3 ** 20000 % 10 ** 400)) <= 400, 2 ** 100",
        "(True, 1267650600228229401496703205376)",
    ),
    programme(
        "formats without a locale",
        "f'{1234567.891:,.2f}'.translate(str.maketrans(',.', '.,'))",
        "'1.234.567,89'",
    ),
)
