"""Picture of the first screen of a report, as docs/images/report.png.

    python docs/images/report.py RUN [OUT.png] [--width PX] [--height PX]

RUN is a finished run whose images are where they were. The browser Chromium, which must be installed, draws the page.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# No window, no GPU, no network, and a profile of its own.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars",
)  # fmt: skip


def draw(page: Path, out: Path, size: tuple[int, int]) -> None:
    """Write a picture of the top of an HTML `page`, (width, height) = `size` in pixels, with 256 colours."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"none of the programs {', '.join(BROWSERS)} is installed; install Chromium")
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        window = [f"--window-size={size[0]},{size[1]}", f"--user-data-dir={folder}/profile", f"--screenshot={picture}"]
        subprocess.run([browser, *FLAGS, *window, page.resolve().as_uri()], capture_output=True, check=True)
        with Image.open(picture) as drawn:
            drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)


def main() -> None:
    """Write the report of the run into a temporary file, and the picture of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", metavar="RUN", help="run directory of a finished training")
    parser.add_argument("out", metavar="OUT.png", nargs="?", type=Path, default=Path(__file__).with_name("report.png"))
    parser.add_argument("--width", metavar="PX", type=int, default=1280, help="width of the window (default: 1280)")
    parser.add_argument("--height", metavar="PX", type=int, default=900, help="height of the window (default: 900)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        subprocess.run([sys.executable, "-m", "cnnkit", "report", given.run, "--out", str(page)], check=True)
        draw(page, given.out, (given.width, given.height))


if __name__ == "__main__":
    main()
