"""Grad-CAM beside captum's LayerGradCam, and the cost of an explanation.

    python docs/benchmarks/explain.py [ARCH...] [--size PX] [--images N]

Builds each architecture with random weights for 10 classes, explains N images of noise by cnnkit and by captum
(pip install 'cnnkit[explain]') at the same layer, and prints the largest difference of the maps, as a share of the largest value,
and the time of both beside that of the answers alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from captum.attr import LayerGradCam
from document import add_option, save
from torch import Tensor, nn

from cnnkit.architecture import parse_options
from cnnkit.explain.gradcam import GradCam
from cnnkit.model.file import Model, ModelHeader
from cnnkit.model.preprocess import Preprocess
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.model.torch_classifier import TorchClassifier
from cnnkit.registry import load_architecture

CLASSES = 10
ARCHS = ("custom-cnn", "residual-cnn", "fast-cnn", "timm/resnet18", "timm/convnext_atto", "timm/vit_tiny_patch16_224")


def build(name: str, size: int) -> Model:
    """Return `name` with random weights, fresh zero layers and scales of residual branches drawn anew: zeros would compare nothing."""
    torch.manual_seed(0)
    architecture, _ = load_architecture(name)
    options = parse_options(architecture, name, ())
    if "image_size" in options:
        options["image_size"] = size
    module = architecture.build(CLASSES, 3, **options)
    for key, parameter in module.named_parameters():
        if parameter.ndim == 1 and key.endswith(("weight", "gamma")):
            nn.init.ones_(parameter)
        elif parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    preprocessing = Preprocessing(image_size=size, mean=(0.5,) * 3, std=(0.25,) * 3)
    classes = tuple(str(label) for label in range(CLASSES))
    return Model(module.eval(), ModelHeader(arch=name, options=options, classes=classes, preprocessing=preprocessing), Path("random"))


def timed(work: Callable[[], Tensor]) -> tuple[Tensor, float]:
    """Return what `work` returns and the milliseconds of its best of three runs."""
    results: list[tuple[float, Tensor]] = []
    for _ in range(3):
        start = time.perf_counter()
        found = work()
        results.append((time.perf_counter() - start, found))
    seconds, found = min(results, key=lambda result: result[0])
    return found, 1000 * seconds


def compare(name: str, size: int, images: int) -> tuple[str, ...]:
    """Print the row of one architecture and return it."""
    model = build(name, size)
    canvases = torch.randint(256, (images, 3, size, size), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    labels = torch.arange(images) % CLASSES
    cam = GradCam(model)
    layer = model.module.get_submodule(cam.layer.name)
    inputs = Preprocess(model.header.preprocessing).normalise(canvases)

    def captum() -> Tensor:
        # captum weighs by the mean over all places after the first two sizes: its maps are (N, C, ...), so tokens are not for it.
        return LayerGradCam(model.module, layer).attribute(inputs, target=labels, relu_attributions=True).detach()[:, 0]

    ours, own_ms = timed(lambda: cam.maps(canvases, labels))
    _, answer_ms = timed(lambda: torch.from_numpy(TorchClassifier(model).canvas_probabilities(canvases)))
    cells = (name, cam.layer.name, str(cam.layer.grid.size), f"{own_ms / images:.1f}", f"{answer_ms / images:.1f}")
    row = f"{name:28} {cam.layer.name:18} {cam.layer.grid.size:>3} {own_ms / images:9.1f} {answer_ms / images:9.1f}"
    if cam.layer.grid.layout != "maps":
        print(f"{row}  no maps (N, C, h, w)")
        return (*cells, "", "no maps (N, C, h, w)")
    theirs, their_ms = timed(captum)
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    print(f"{row} {their_ms / images:9.1f} {difference:12.1e}")
    return (*cells, f"{their_ms / images:.1f}", f"{difference:.1e}")


def main() -> None:
    """Compare the architectures that are named."""
    parser = argparse.ArgumentParser(description="Grad-CAM beside captum's.")
    parser.add_argument("archs", nargs="*", default=ARCHS)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=8)
    add_option(parser)
    given = parser.parse_args()
    print(f"{'architecture':28} {'layer':18} {'h=w':>3} {'cnnkit ms':>9} {'answer ms':>9} {'captum ms':>9} {'difference':>12}")
    rows = [compare(name, given.size, given.images) for name in given.archs]
    claim = "The table has the largest difference of cnnkit's Grad-CAM and captum's, as a share of the largest value."
    columns = ("architecture", "layer", "cells across", "cnnkit, ms", "prediction, ms", "captum, ms", "difference")
    save(given.json, "Heat maps beside captum", claim, columns, rows, seeds="set by the script")


if __name__ == "__main__":
    main()
