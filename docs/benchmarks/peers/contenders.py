"""Who takes part, and with which settings: for each contender the commands that train and predict, as a sensible user would type them.

A contender writes everything into the folder of its run, and ``predictions.csv`` (path, predicted) there.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from division import Division
from environments import python_of
from measure import Signs

HERE = Path(__file__).resolve().parent
SIDE = 32  # px, of all that trains from scratch
FINE_TUNED = "tf_efficientnet_lite0"  # the network whose weights --weights gives
FINE_SIDE = 256  # px, a seventh more than its weights were made with: see ../README.md


@dataclass(frozen=True)
class Task:
    """One training: `budget` in seconds; `epochs` fit into it, for a trainer that must be told."""

    division: Division
    budget: float
    seed: int
    folder: Path
    work: Path
    timm_script: Path | None = None
    epochs: int = 0


@dataclass(frozen=True)
class Contender:
    """A trainer with its settings; `fine_tunes` takes part where weights are given, others where none are."""

    name: str
    peer: str
    train: Callable[[Task], list[str]]
    predict: Callable[[Task], list[str]]
    signs: Signs
    fine_tunes: bool = False
    needs_epochs: bool = False


def _cnnkit(*arguments: str) -> Callable[[Task], list[str]]:
    def command(task: Task) -> list[str]:
        weights = ["--weights", str(task.division.weights)] if task.division.weights else []
        side = ["--image-size", str(FINE_SIDE if weights else SIDE)]
        mirror = [] if task.division.mirror else ["--flip", "none"]
        fixed = ["--data", str(task.division.folder), "--budget", f"{task.budget:g}s", "--seed", str(task.seed), "--device", "cpu"]
        return [sys.executable, "-m", "cnnkit", "train", *arguments, *weights, *side, *mirror, *fixed, "--out", str(task.folder / "runs")]

    return command


def _cnnkit_predict(task: Task) -> list[str]:
    run = next((task.folder / "runs").iterdir())
    split = ["--split", task.division.evaluated]
    return [sys.executable, "-m", "cnnkit", "eval", "--model", str(run), *split, "--out", str(task.folder), "--json"]


def _script(peer: str, file: str) -> tuple[Callable[[Task], list[str]], Callable[[Task], list[str]]]:
    """Return the commands of a script of this folder that trains and predicts."""

    def start(task: Task, job: str) -> list[str]:
        return [python_of(peer, task.work), str(HERE / file), job, str(task.division.folder), str(task.folder)]

    def train(task: Task) -> list[str]:
        mirror = [] if task.division.mirror else ["--no-mirror"]
        parameters = ["--parameters", str(_parameters(task.division.classes))] if peer == "keras" else []
        return [*start(task, "train"), "--budget", str(task.budget), "--seed", str(task.seed), *mirror, *parameters]

    def predict(task: Task) -> list[str]:
        return [*start(task, "predict"), "--split", task.division.evaluated]

    return train, predict


@cache
def _parameters(classes: int) -> int:
    """Return how many parameters custom-cnn has, which the case study of the same layers must have too."""
    count = f"sum(parameter.numel() for parameter in build({classes}, 3).parameters())"
    code = f"from cnnkit.architectures.custom_cnn import build\nprint({count})"
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def _timm(*arguments: str) -> Callable[[Task], list[str]]:
    def command(task: Task) -> list[str]:
        warmup = 1 if task.epochs > 2 else 0  # noqa: PLR2004 (timm's 5 epochs would be most of a short training)
        mirror = [] if task.division.mirror else ["--hflip", "0"]
        weights = ["--pretrained", "--pretrained-path", str(task.division.weights)] if task.division.weights else []
        length = ["--epochs", str(task.epochs), "--warmup-epochs", str(warmup), "--sched-on-updates"]
        fixed = ["--num-classes", str(task.division.classes), "--val-split", "val", "--seed", str(task.seed), "--device", "cpu", "-j", "2"]
        out = ["--output", str(task.folder), "--experiment", "train", "--checkpoint-hist", "1"]
        script = [python_of("timm", task.work), str(task.timm_script), str(task.division.folder), "--channels-last"]
        return [*script, *arguments, *weights, *length, *mirror, *fixed, *out]

    return command


def _timm_predict(task: Task) -> list[str]:
    script = [python_of("timm", task.work), str(HERE / "timm_predict.py"), str(task.division.folder), str(task.folder)]
    return [*script, "--split", task.division.evaluated]


_TIMM = Signs(begins="Scheduled epochs:", history="train/summary.csv", column="eval_top1", scale=0.01, size=r"param count:\s*([\d,]+)")
_CNNKIT = Signs(begins="train loss", history="runs/*/history.csv", column="val_accuracy")
# channels-last is no default, but on a CPU it makes timm's steps 1.2 (resnet18) and 1.6 times (lite0) as fast (measured).
# What is left out is timm's default: SGD with momentum, lr 0.1 * batch / 256, cosine, smoothing 0.1. The crop's least
# area of 8 % and the colour jitter are made for photographs of 224 px.
_SMALL = ("--model", "resnet18", "--img-size", str(SIDE), "--crop-pct", "1", "--scale", "0.6", "1", "--color-jitter", "0")
_DECAY = ("--weight-decay", "5e-4", "--batch-size", "128")
_RATES = ("--opt", "adamw", "--lr", "1e-3", "--weight-decay", "0.05", "--layer-decay", "0.75")
_TUNE = ("--model", FINE_TUNED, "--img-size", str(FINE_SIDE), *_RATES, "--batch-size", "32")

_LAST_SIZE = r"Overriding model.yaml nc.*?([\d,]+) parameters"  # before that stands the network of 80 classes

CONTENDERS = (
    Contender("cnnkit fast", "cnnkit", _cnnkit("--recipe", "fast"), _cnnkit_predict, _CNNKIT),
    Contender("cnnkit custom-cnn", "cnnkit", _cnnkit("--arch", "custom-cnn"), _cnnkit_predict, _CNNKIT),
    Contender(
        "keras case study", "keras", *_script("keras", "keras_case_study.py"),
        Signs(begins="training begins", history="history.csv", column="val_accuracy"),
    ),
    Contender("timm resnet18", "timm", _timm(*_SMALL, *_DECAY), _timm_predict, _TIMM, needs_epochs=True),
    Contender(
        "ultralytics yolo26n-cls", "ultralytics", *_script("ultralytics", "ultralytics_classify.py"),
        Signs(begins="Starting training for", history="train/results.csv", column="metrics/accuracy_top1", size=_LAST_SIZE),
    ),
    Contender(
        "cnnkit finetune", "cnnkit", _cnnkit("--arch", f"timm/{FINE_TUNED}"), _cnnkit_predict, _CNNKIT, fine_tunes=True
    ),
    Contender(
        "timm fine-tune", "timm", _timm(*_TUNE), _timm_predict, _TIMM, fine_tunes=True, needs_epochs=True
    ),
)  # fmt: skip


def taking_part(division: Division, peers: tuple[str, ...]) -> list[Contender]:
    """Return who trains on `division`."""
    return [one for one in CONTENDERS if one.peer in peers and one.fine_tunes == (division.weights is not None)]


def absent(division: Division, peers: tuple[str, ...]) -> dict[str, str]:
    """Return peer -> why it cannot take part."""
    present = {one.peer for one in taking_part(division, peers)}
    reasons = {
        "keras": "the case study starts from scratch, and these are a torch network's weights",
        "ultralytics": "it cannot load another network's weights",
    }
    return {peer: reasons[peer] for peer in peers if peer not in present}


def settings(command: list[str], task: Task) -> str:
    """Return `command` as one would type it, without the folders of this machine."""
    names = {str(task.folder): "RUN", str(task.division.folder): "DATA", str(task.division.weights): "WEIGHTS", str(HERE): "."}
    words = ["python", *command[1:]]
    for path, name in names.items():
        words = [word.replace(path, name) for word in words]
    return " ".join("train.py" if word == str(task.timm_script) else word for word in words)
