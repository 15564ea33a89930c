"""Picture of a terminal for the README: a training on the digits and its evaluation, as docs/images/terminal.png.

python docs/images/terminal.py [OUT.png]

Commands run in a temporary folder. The tables of classes and of abstention are left out of the picture.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from rich.color import Color
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

COLUMNS = 96
FONT_SIZE = 15  # px
MARGIN = 18  # px
THEME = TerminalTheme(
    (24, 24, 28), (229, 229, 229),
    [(60, 60, 60), (220, 90, 90), (95, 190, 95), (210, 180, 90), (100, 150, 230), (190, 120, 200), (90, 190, 190), (229, 229, 229)],
)  # fmt: skip
# Rich reads these: full colour, and no moving cursor.
TERMINAL = {"TTY_COMPATIBLE": "1", "TTY_INTERACTIVE": "0", "COLORTERM": "truecolor", "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
HEAD, TAIL = 1, 2  # blocks of eval's output that are shown: its scores; the confusion matrix and the end


def run(folder: str, *command: str) -> list[str]:
    """Return the prompt and the coloured output of a cnnkit `command` in `folder`."""
    found = subprocess.run(
        [sys.executable, "-m", "cnnkit", *command], cwd=folder, env=os.environ | TERMINAL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", check=True,
    )  # fmt: skip
    hidden = found.stdout.replace("\x1b[?25l", "").replace("\x1b[?25h", "")
    return [f"\x1b[1m$ cnnkit {' '.join(command)}\x1b[0m", *(line.rstrip() for line in hidden.strip("\n").split("\n"))]


def shortened(lines: list[str]) -> list[str]:
    """Return `lines` without the blocks, parted by empty lines, between the first `HEAD` and the last `TAIL`."""
    blocks = [block.split("\n") for block in "\n".join(lines).split("\n\n")]
    return [line for block in [*blocks[:HEAD], ["\x1b[2m…\x1b[0m"], *blocks[-TAIL:]] for line in ["", *block]][1:]


def draw(lines: list[str]) -> Image.Image:
    """Draw `lines` with their ANSI colours."""
    fonts = [ImageFont.truetype(font_manager.findfont(f"DejaVu Sans Mono:weight={weight}"), FONT_SIZE) for weight in ("normal", "bold")]
    wide, high = round(fonts[0].getlength("0")), FONT_SIZE + 5
    console = Console(width=COLUMNS, force_terminal=True, color_system="truecolor", legacy_windows=False)
    rows: list[list[Segment]] = [row for line in lines for row in console.render_lines(Text.from_ansi(line), pad=False)]
    picture = Image.new("RGB", (2 * MARGIN + COLUMNS * wide, 2 * MARGIN + len(rows) * high), THEME.background_color)
    pen = ImageDraw.Draw(picture)
    for number, row in enumerate(rows):
        column = 0
        for segment in row:
            style = segment.style or Style()
            for letter in segment.text:
                corner = (MARGIN + column * wide, MARGIN + number * high)
                if style.bgcolor and not style.bgcolor.is_default:
                    pen.rectangle((*corner, corner[0] + wide - 1, corner[1] + high - 1), rgb(style.bgcolor, foreground=False))
                pen.text((corner[0], corner[1] + 1), letter, ink(style), fonts[bool(style.bold)])
                column += 1
    return picture.quantize(128, Image.Quantize.FASTOCTREE)


def ink(style: Style) -> tuple[int, int, int]:
    """Return the colour of a letter; a dim one lies half-way to the background."""
    red, green, blue = rgb(style.color or Color.default(), foreground=True)
    if not style.dim:
        return red, green, blue
    behind = THEME.background_color
    return (red + behind[0]) // 2, (green + behind[1]) // 2, (blue + behind[2]) // 2


def rgb(color: Color, *, foreground: bool) -> tuple[int, int, int]:
    """Return `color` in the theme."""
    found = color.get_truecolor(THEME, foreground=foreground)
    return found.red, found.green, found.blue


def main() -> None:
    """Run both commands and write the picture."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_name("terminal.png"))
    with tempfile.TemporaryDirectory() as folder:
        training = run(folder, "train", "--data", "digits", "--epochs", "10")
        evaluation = run(folder, "eval", "--confusion")
    draw([*training, "", *shortened(evaluation)]).save(out, optimize=True)


if __name__ == "__main__":
    main()
