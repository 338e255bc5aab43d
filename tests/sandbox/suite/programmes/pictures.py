"""Plots and pictures."""

from __future__ import annotations

from tests.sandbox.suite.programmes.programme import programme

PROGRAMMES = (
    programme(
        "plot with umlauts",
        "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2]); plt.title('Umsätze in € – größer ≥ 5 %')\n"
        "plt.savefig('p.png'); plt.close()\nopen('p.png', 'rb').read(4)",
        "b'\\x89PNG'",
    ),
    programme(
        "plot as PDF and SVG",
        "import matplotlib.pyplot as plt\n"
        "plt.bar(['ä', 'ß'], [1, 2]); plt.savefig('p.pdf'); plt.savefig('p.svg'); plt.close()\n"
        "open('p.pdf', 'rb').read(5), '<svg' in open('p.svg').read()",
        "(b'%PDF-', True)",
    ),
    programme(
        "pages of a PDF",
        "import matplotlib.pyplot as plt\nfrom matplotlib.backends.backend_pdf import PdfPages\n"
        "with PdfPages('r.pdf') as pages:\n"
        "    for n in range(3):\n"
        "        plt.figure(); plt.plot(range(n + 2)); pages.savefig(); plt.close()\n"
        "    r = pages.get_pagecount()\n"
        "r",
        "3",
    ),
    programme(
        "styles and subplots",
        "import matplotlib.pyplot as plt, numpy as np\n"
        "with plt.style.context('seaborn-v0_8-whitegrid'):\n"
        "    f, axes = plt.subplots(2, 2, figsize=(6, 4), layout='constrained')\n"
        "    for a in axes.flat: a.scatter(np.arange(9), np.arange(9) ** 2, c=np.arange(9), cmap='viridis')\n"
        "    f.savefig('s.png', dpi=80)\nplt.close(f)\nplt.imread('s.png').shape",
        "(320, 480, 4)",
    ),
    programme(
        "formulas in plots",
        "import matplotlib.pyplot as plt\nplt.text(0.1, 0.5, r'$\\frac{\\alpha}{\\sqrt{2}} \\cdot 10^{3}$')\n"
        "plt.savefig('f.png'); plt.close()\nlen(open('f.png', 'rb').read()) > 1000",
        "True",
    ),
    programme(
        "dates on an axis",
        "import matplotlib.pyplot as plt, pandas as pd\n"
        "pd.Series(range(400), pd.date_range('2023-01-01', periods=400)).plot(title='Jahr')\n"
        "plt.savefig('d.png'); plt.close()\nopen('d.png', 'rb').read(4)",
        "b'\\x89PNG'",
    ),
    programme(
        "pictures",
        "from PIL import Image, ImageDraw\n"
        "i = Image.new('RGB', (60, 40), 'white'); ImageDraw.Draw(i).ellipse((5, 5, 30, 30), "
        "'red')\n"
        "i.resize((30, 20)).save('i.jpg', quality=90); i.save('i.webp'); j = Image.open('i.jpg')\n"
        "(j.size, j.format, i.getpixel((15, 15)))",
        "((30, 20), 'JPEG', (255, 0, 0))",
        "PIL",
    ),
)
