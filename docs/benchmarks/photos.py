"""Fine-tuning on photographs beside its peers: test accuracy at equal CPU-seconds, on the same files, from the same weights.

    python docs/benchmarks/photos.py --work WORK --weights lite0.safetensors --data flowers=FOLDER --cpu 60,180 --seeds 3

Each FOLDER has train, val and test folders of class folders. The network is timm's `tf_efficientnet_lite0` at 224 px. The CPU-seconds
are those of the whole process, from its start to its kept model, evaluation on test excluded. Every contender chooses its model by val.
WORK/photos.jsonl gets a line per training; a second call runs only what is missing. The contender `fastai` needs that package,
`timm` the training script of its repository (``--timm-script``).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import document

NETWORK, SIZE, SCALED = "tf_efficientnet_lite0", 224, 256  # px; the crop of the weights is 0.875
LEVELS = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
CORES = 2
START_CPU = {"cnnkit": 14.0}  # seconds of CPU outside the budget of the command: start, scan and the end
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 10.0)  # C of scikit-learn's LogisticRegression
EVALUATED = 64  # images at a time without gradients


def main() -> int:
    """Run what is missing, or one training in this process (``--job``)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="safetensors file of the network")
    parser.add_argument("--data", action="append", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--cpu", default="60,180", help="CPU-seconds of a training, separated by commas")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--contenders", default=",".join(CONTENDERS))
    parser.add_argument("--timm-script", type=Path)
    parser.add_argument("--job", nargs=4, metavar=("CONTENDER", "NAME", "CPU", "SEED"), help=argparse.SUPPRESS)
    document.add_option(parser)
    given = parser.parse_args()
    folders = {name: Path(folder) for name, _, folder in (text.partition("=") for text in given.data)}
    if given.job:
        name, data, cpu, seed = given.job
        print(json.dumps(CONTENDERS[name](Job(folders[data], given.weights, float(cpu), int(seed), given.timm_script, given.work))))
        return 0
    lines = given.work / "photos.jsonl"
    given.work.mkdir(parents=True, exist_ok=True)
    known = [json.loads(line) for line in lines.read_text("utf-8").splitlines()] if lines.is_file() else []
    done = {_key(row) for row in known}
    budgets = [float(part) for part in given.cpu.split(",")]
    wanted = [
        {"data": data, "cpu": cpu, "seed": seed, "contender": contender}
        for seed in range(given.seeds)
        for cpu in budgets
        for data in folders
        for contender in given.contenders.split(",")
    ]
    for row in wanted:
        if contender_ignores_budget(row["contender"]) and row["cpu"] != budgets[0]:
            continue
        if _key(row) in done:
            continue
        found = {**row, **run(row)}
        known.append(found)
        with lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
        print(f"{row['data']:10} {row['cpu']:5g} s seed {row['seed']} {row['contender']:10} "
              f"test {100 * found['test']:.1f} % after {found['used']:.0f} CPU-s", flush=True)  # fmt: skip
    table(given, known, budgets)
    return 0


def run(row: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a training in a process of its own; a contender that had to time its epochs is started again."""
    job = ["--job", row["contender"], row["data"], str(row["cpu"]), str(row["seed"])]
    while True:
        before, began = _children(), time.perf_counter()
        ended = subprocess.run([sys.executable, *sys.argv, *job], stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(ended.stdout.splitlines()[-1])
        if "again" not in found:
            return {**found, "process": {"cpu": _children() - before, "wall": time.perf_counter() - began}}


def contender_ignores_budget(name: str) -> bool:
    """Tell whether a contender takes the time it takes."""
    return name == "regression"


def table(given: argparse.Namespace, known: list[dict[str, Any]], budgets: list[float]) -> None:
    """Print a row for each data set and budget, and save it as a document."""
    names = given.contenders.split(",")
    rows: list[list[str]] = []
    for data in dict.fromkeys(row["data"] for row in known):
        for cpu in budgets:
            cells = [data, f"{cpu:g}"]
            for name in names:
                same = cpu if not contender_ignores_budget(name) else budgets[0]
                found = [row for row in known if (row["data"], row["contender"], row["cpu"]) == (data, name, same)]
                cells.append(_cell(found))
            rows.append(cells)
    columns = ["images", "CPU-s", *names]
    print("\n".join(" | ".join(row) for row in [columns, *rows]))
    claim = "Test accuracy of fine-tuning `tf_efficientnet_lite0` at 224 px after equal CPU-seconds, with the CPU-seconds in fact used."
    document.save(given.json, "Photographs beside the peers", claim, columns, rows, seeds=list(range(given.seeds)))


def _cell(found: list[dict[str, Any]]) -> str:
    if not found:
        return "–"
    values = [100 * row["test"] for row in found]
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread} % ({mean(row['used'] for row in found):.0f} s)"


def _key(row: dict[str, Any]) -> str:
    return json.dumps([row["data"], row["cpu"], row["seed"], row["contender"]])


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Job:
    """One training: the folder of images, the weights, the CPU-seconds and the seed."""

    def __init__(self, folder: Path, weights: Path, cpu: float, seed: int, timm_script: Path | None, work: Path) -> None:
        self.folder, self.weights, self.cpu, self.seed, self.timm_script = folder, weights, cpu, seed, timm_script
        self.work = work
        self.classes = sorted(path.name for path in (folder / "train").iterdir())

    def files(self, split: str) -> list[tuple[Path, int]]:
        """Return the files of a split with their classes."""
        return [(file, label) for label, name in enumerate(self.classes) for file in sorted((self.folder / split / name).iterdir())]

    def network(self) -> Any:
        """Return the network with its weights and a new last layer."""
        import timm
        import torch
        from safetensors.torch import load_file

        torch.manual_seed(self.seed)
        torch.set_num_threads(CORES)
        network = timm.create_model(NETWORK, num_classes=len(self.classes))
        kept = {name: value for name, value in load_file(self.weights).items() if not name.startswith("classifier")}
        network.load_state_dict(kept, strict=False)
        return network.to(memory_format=torch.channels_last)


def regression(job: Job) -> dict[str, Any]:
    """Logistic regression on the features of the frozen network, its strength chosen by the accuracy on val."""
    import numpy as np

    network = job.network()
    views = {split: _features(network, job.files(split)) for split in ("train", "val")}
    scale = views["train"][0].std(0) + 1e-6
    fits = [_fit(views["train"][0] / scale, views["train"][1], strength) for strength in STRENGTHS]
    model = max(fits, key=lambda fit: fit.score(views["val"][0] / scale, views["val"][1]))
    used = time.process_time()
    inputs, labels = _features(network, job.files("test"))
    return {"test": float(np.mean(model.predict(inputs / scale) == labels)), "used": used}


def hand_written(job: Job) -> dict[str, Any]:
    """Start from that regression, then release the network: AdamW, random resized crops and flips, cosine to the end of the budget."""
    import torch
    from torch.nn import functional
    from torchvision.transforms import v2

    network = job.network()
    train, val = (_features(network, job.files(split)) for split in ("train", "val"))
    scale = train[0].std(0) + 1e-6
    fits = [_fit(train[0] / scale, train[1], strength) for strength in STRENGTHS]
    best = max(fits, key=lambda fit: fit.score(val[0] / scale, val[1]))
    rows = torch.tensor(best.coef_ / scale, dtype=torch.float32)
    bias = torch.tensor(best.intercept_, dtype=torch.float32)
    if len(rows) == 1:  # scikit-learn has one row for two classes
        rows, bias = torch.cat([-rows / 2, rows / 2]), torch.cat([-bias / 2, bias / 2])
    with torch.no_grad():
        network.classifier.weight.copy_(rows)
        network.classifier.bias.copy_(bias)
    files = job.files("train")
    images = [_open(file) for file, _ in files]
    crop = v2.Compose([v2.RandomResizedCrop(SIZE, (0.35, 1.0), antialias=True), v2.RandomHorizontalFlip()])
    head = list(network.classifier.parameters())
    rest = [value for name, value in network.named_parameters() if not name.startswith("classifier")]
    optimizer = torch.optim.AdamW([{"params": rest, "lr": 1e-4}, {"params": head, "lr": 1e-3}], weight_decay=0.05)
    peaks = [group["lr"] for group in optimizer.param_groups]
    score, state, start = _accuracy(network, job.files("val")), _copy(network), time.process_time()
    evaluation = 0.03 * len(job.files("val")) * CORES / 2  # CPU-seconds of the last evaluation, kept in reserve
    generator = torch.Generator().manual_seed(job.seed)
    while time.process_time() < job.cpu - evaluation:
        network.train()
        for part in torch.randperm(len(files), generator=generator).split(32):
            done = (time.process_time() - start) / max(1e-9, job.cpu - evaluation - start)
            if done >= 1:
                break
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * 0.5 * (1 + float(torch.cos(torch.tensor(done * torch.pi))))
            batch = _normalised(torch.stack([crop(images[index]) for index in part.tolist()]))
            loss = functional.cross_entropy(network(batch), torch.tensor([files[index][1] for index in part.tolist()]), label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if (found := _accuracy(network, job.files("val"))) >= score:
            score, state = found, _copy(network)
    used = time.process_time()
    network.load_state_dict(state)
    return {"test": _accuracy(network, job.files("test")), "val": score, "used": used}


def fastai(job: Job) -> dict[str, Any]:
    """Run the `fine_tune` of fastai with its transforms for vision, as many epochs as fit."""
    import fastai.callback.progress
    import fastai.callback.schedule  # noqa: F401
    import timm
    import torch
    from fastai.data.block import CategoryBlock, DataBlock
    from fastai.data.transforms import GrandparentSplitter, Normalize, get_image_files, parent_label
    from fastai.vision.augment import Resize, aug_transforms
    from fastai.vision.data import ImageBlock
    from fastai.vision.learner import vision_learner

    block = DataBlock(
        (ImageBlock, CategoryBlock),
        get_items=lambda folder: get_image_files(folder, folders=["train", "val"]),
        splitter=GrandparentSplitter("train", "val"),
        get_y=parent_label,
        item_tfms=Resize(SCALED),
        batch_tfms=[*aug_transforms(size=SIZE), Normalize.from_stats(*LEVELS.values())],
    )
    torch.manual_seed(job.seed)
    torch.set_num_threads(CORES)
    loaders = block.dataloaders(job.folder, bs=32, num_workers=0, device=torch.device("cpu"))
    original = timm.create_model
    timm.create_model = lambda *names, **options: _loaded(original(*names, **options), job.weights)
    learner = vision_learner(loaders, NETWORK, metrics=[], pretrained=False, normalize=False)
    learner.freeze()  # pretrained=False leaves all layers free; the weights are those of the file
    start, memory = time.process_time(), job.work / f"fastai-{job.folder.name}.json"
    per_epoch = json.loads(memory.read_text("utf-8")) if memory.is_file() else None
    epochs = 1 if per_epoch is None else max(1, round((job.cpu - start - per_epoch[0]) / per_epoch[1]))
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
    used = time.process_time()
    if per_epoch is None:  # a frozen epoch costs about half of a free one
        memory.write_text(json.dumps([(used - start) / 3, (used - start) * 2 / 3]), "utf-8")
        return {"again": True}
    test = learner.dls.test_dl([file for file, _ in job.files("test")])
    with learner.no_bar():
        predictions, _ = learner.get_preds(dl=test)
    names = [loaders.vocab[index] for index in predictions.argmax(1).tolist()]
    right = [name == job.classes[label] for name, (_, label) in zip(names, job.files("test"), strict=True)]
    return {"test": mean(right), "used": used, "epochs": epochs}


def timm_script(job: Job) -> dict[str, Any]:
    """Run the training script of timm with AdamW and layer decay, as many epochs as fit; its checkpoint is the best on val."""
    memory = job.work / f"timm-{job.folder.name}.json"
    costs = json.loads(memory.read_text("utf-8")) if memory.is_file() else {}
    for epochs in (1, 3):
        if str(epochs) not in costs:
            costs[str(epochs)] = _timm(job, epochs)[0]
            memory.write_text(json.dumps(costs), "utf-8")
    each = (costs["3"] - costs["1"]) / 2
    epochs = max(1, round(1 + (job.cpu - costs["1"]) / each))
    used, folder = _timm(job, epochs)
    import torch

    network = job.network()
    checkpoint = torch.load(folder / "model_best.pth.tar", map_location="cpu", weights_only=False)
    network.load_state_dict(checkpoint["state_dict"])
    return {"test": _accuracy(network, job.files("test")), "used": used, "epochs": epochs}


def _timm(job: Job, epochs: int) -> tuple[float, Path]:
    out, before = job.work / "timm-run", _children()
    shutil.rmtree(out, ignore_errors=True)
    command = [
        sys.executable, str(job.timm_script), str(job.folder), "--model", NETWORK, "--val-split", "val",
        "--num-classes", str(len(job.classes)),
        "--pretrained", "--pretrained-path", str(job.weights), "--img-size", str(SIZE), "--opt", "adamw", "--lr", "1e-3", "--weight-decay",
        "0.05", "--layer-decay", "0.75", "--batch-size", "32", "--epochs", str(epochs), "--warmup-epochs", "0", "--seed", str(job.seed),
        "--device", "cpu", "--channels-last", "-j", "1", "--output", str(out), "--experiment", "train", "--checkpoint-hist", "1",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    return _children() - before, out / "train"


def command_line(job: Job) -> dict[str, Any]:
    """Run the command of cnnkit with the recipe of weights, told the budget in seconds of both cores."""
    out = job.work / "cnnkit-run"
    shutil.rmtree(out, ignore_errors=True)
    environment = {**os.environ, "CNNKIT_CACHE": str(out / "cache")}
    seconds = (job.cpu - START_CPU["cnnkit"]) / CORES
    command = [
        sys.executable,
        "-m",
        "cnnkit",
        "train",
        "--data",
        str(job.folder),
        "--arch",
        f"timm/{NETWORK}",
        "--weights",
        str(job.weights),
    ]
    before = _children()
    trained = subprocess.run(
        [*command, "--image-size", str(SIZE), "--budget", f"{seconds:g}s", "--seed", str(job.seed), "--out", str(out / "runs")],
        check=True, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    used = _children() - before
    ended = subprocess.run(
        [sys.executable, "-m", "cnnkit", "eval", "--json", "--model", str(next((out / "runs").iterdir()))],
        check=True, capture_output=True, text=True, env=environment,
    )  # fmt: skip
    notes = [line for line in trained.stderr.splitlines() if "last layer" in line]
    return {"test": json.loads(ended.stdout)["accuracy"]["value"], "used": used, "notes": notes}


CONTENDERS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "cnnkit": command_line,
    "regression": regression,
    "hand": hand_written,
    "fastai": fastai,
    "timm": timm_script,
}


def _loaded(network: Any, weights: Path) -> Any:
    """Return `network` with the weights of the file for all but the last layer, which fastai cuts off."""
    from safetensors.torch import load_file

    network.load_state_dict({name: value for name, value in load_file(weights).items() if not name.startswith("classifier")}, strict=False)
    return network


def _fit(inputs: Any, labels: Any, strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=300).fit(inputs, labels)


def _open(file: Path) -> Any:
    """Return a photograph, uint8 (3, H, W), its shorter edge `SCALED` px."""
    import numpy as np
    import torch
    from PIL import Image

    with Image.open(file) as opened:
        image = opened.convert("RGB")
    factor = SCALED / min(image.size)
    image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


def _normalised(images: Any) -> Any:
    import torch

    return ((images.float() / 255 - 0.5) / 0.5).contiguous(memory_format=torch.channels_last)


def _batches(files: list[tuple[Path, int]]) -> Iterator[tuple[Any, list[int]]]:
    """Yield the centre crops of files, normalised, with their classes."""
    import torch
    from torchvision.transforms.v2.functional import center_crop

    for start in range(0, len(files), EVALUATED):
        part = files[start : start + EVALUATED]
        yield _normalised(torch.stack([center_crop(_open(file), [SIZE, SIZE]) for file, _ in part])), [label for _, label in part]


def _features(network: Any, files: list[tuple[Path, int]]) -> tuple[Any, Any]:
    import numpy as np
    import torch

    network.eval()
    with torch.inference_mode():
        parts = [
            (network.forward_head(network.forward_features(batch), pre_logits=True).numpy(), labels) for batch, labels in _batches(files)
        ]
    return np.concatenate([values for values, _ in parts]), np.concatenate([labels for _, labels in parts])


def _accuracy(network: Any, files: list[tuple[Path, int]]) -> float:
    import torch

    network.eval()
    with torch.inference_mode():
        return mean(right for batch, labels in _batches(files) for right in (network(batch).argmax(1) == torch.tensor(labels)).tolist())


def _copy(network: Any) -> dict[str, Any]:
    return {name: value.clone() for name, value in network.state_dict().items()}


if __name__ == "__main__":
    sys.exit(main())
