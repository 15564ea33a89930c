"""Predict with what timm's train.py left in a folder: ``python timm_predict.py FOLDER RUN --split test`` writes RUN/predictions.csv."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import timm
import torch
import yaml
from timm.data.config import resolve_data_config
from timm.data.dataset_factory import create_dataset
from timm.data.loader import create_loader


def predict(folder: Path, run: Path, split: str) -> None:
    """Predict as train.py evaluates: the same size, crop and normalisation, with the weights that were best on val."""
    trained = next(run.glob("*/model_best.pth.tar"))
    settings: dict[str, Any] = yaml.safe_load((trained.parent / "args.yaml").read_text("utf-8"))
    dataset: Any = create_dataset("", root=str(folder), split=split)
    classes = {index: name for name, index in dataset.reader.class_to_idx.items()}
    model = timm.create_model(settings["model"], num_classes=len(classes), checkpoint_path=str(trained)).eval()
    config = resolve_data_config(settings, model=model)
    names = ("input_size", "interpolation", "mean", "std", "crop_pct")
    loader = create_loader(
        dataset, batch_size=256, use_prefetcher=False, num_workers=2, device=torch.device("cpu"), **{name: config[name] for name in names}
    )
    with torch.inference_mode():
        answers = torch.cat([model(images).argmax(1) for images, _ in loader]).tolist()
    with (run / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("path", "predicted"))
        for path, answer in zip(dataset.filenames(), answers, strict=True):
            writer.writerow(((Path(split) / path).as_posix(), classes[answer]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--split", required=True)
    given = parser.parse_args()
    predict(given.folder, given.run, given.split)
