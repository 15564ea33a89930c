"""Picture of a report for the README: the first screen of the page on a CNN that learned drawn pictures, as docs/images/report.png.

python docs/images/report.py [OUT.png]

Commands run in a temporary folder. The pictures are those of `make demo-photos`; here a small network learns them from scratch, so
that the page has mistakes to show. The screenshot needs Chromium.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageOps

WIDTH, HEIGHT = 1280, 800  # px of the window
BORDER = (208, 215, 222)  # of the picture, because page and README are both white
COLOURS = 256  # a quarter of the bytes of all colours
DRAW_PHOTOS = Path(__file__).parents[2] / "plugins/cnnkit-lite/draw_photos.py"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars")


def make_report(folder: Path) -> Path:
    """Draw the photos, train, evaluate and write the report in `folder`; return the page."""
    cnnkit = [sys.executable, "-m", "cnnkit"]
    for command in (
        [sys.executable, str(DRAW_PHOTOS), "photos"],
        [*cnnkit, "train", "--data", "photos", "--split", "0.5/0.15/0.35", "--image-size", "64", "--epochs", "12"],
        [*cnnkit, "eval"],  # so that the page has no note on it
        [*cnnkit, "report", "--out", "report.html"],
    ):
        subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)
    return folder / "report.html"


def photograph(page: Path) -> Image.Image:
    """Return the first screen of `page` in Chromium."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise SystemExit(f"no browser: expected one of {', '.join(BROWSERS)} on the PATH; install chromium")
    shot, profile = page.with_name("shot.png"), page.with_name("profile")
    flags = (*FLAGS, f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}")
    subprocess.run([browser, *flags, page.as_uri()], check=True, stderr=subprocess.DEVNULL)
    return Image.open(io.BytesIO(shot.read_bytes())).convert("RGB")


def main() -> None:
    """Write the picture."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("report.png"))
    with tempfile.TemporaryDirectory() as folder:
        picture = photograph(make_report(Path(folder)))
    framed = ImageOps.expand(picture, border=1, fill=BORDER)
    framed.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.FLOYDSTEINBERG).save(out, optimize=True)


if __name__ == "__main__":
    main()
