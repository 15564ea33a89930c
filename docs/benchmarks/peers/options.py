"""The command line of the comparison."""

from __future__ import annotations

import argparse
import sys
import urllib.request
from pathlib import Path

from environments import REQUIREMENTS, TIMM

PEERS = ("cnnkit", *REQUIREMENTS)
TIMM_SCRIPT = f"https://raw.githubusercontent.com/huggingface/pytorch-image-models/v{TIMM}/train.py"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="cnnkit and its peers on the same images, cores and minutes.")
    data = "a folder of class folders, that of dataset-fashion-mnist, or the word digits; may be repeated"
    parser.add_argument("--data", action="append", required=True, metavar="NAME=FOLDER", help=data)
    weights = "weights of timm/tf_efficientnet_lite0 to fine-tune on the data set NAME; may be repeated"
    parser.add_argument("--weights", action="append", default=[], metavar="NAME=FILE", help=weights)
    parser.add_argument("--budget", type=float, default=120.0, metavar="SECONDS", help="time to train, evaluation included (default 120)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="seeds 0 to N - 1 (default 3)")
    parser.add_argument("--peers", default=",".join(PEERS), metavar="A,B", help=f"who takes part (default {','.join(PEERS)})")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="where everything is kept")
    parser.add_argument("--cores", type=int, default=2, metavar="N", help="cores that may be used (default 2)")
    parser.add_argument("--timm-script", type=Path, metavar="FILE", help=f"train.py of timm {TIMM}")
    parser.add_argument("--fetch", action="store_true", help=f"download it: {TIMM_SCRIPT}")
    parser.add_argument("--plan", action="store_true", help="say what would be done and stop")
    return parser.parse_args()


def pairs(given: list[str]) -> dict[str, Path | None]:
    """Split ``NAME=PATH``; a NAME alone has no path."""
    split = [text.partition("=") for text in given]
    return {name: Path(path).expanduser().resolve() if equals else None for name, equals, path in split}


def timm_script(given: Path | None, work: Path, *, fetch: bool) -> Path:
    """Return timm's training script, downloaded only if `fetch`; exits with what to type if there is none."""
    path = given.resolve() if given else work / f"timm-train-{TIMM}.py"
    if not path.is_file():
        if given or not fetch:
            sys.exit(f"{path}: no such file; train.py is no part of timm's package: give --timm-script FILE (of timm {TIMM}), or --fetch")
        with urllib.request.urlopen(TIMM_SCRIPT) as answer:
            path.write_bytes(answer.read())
    return path
