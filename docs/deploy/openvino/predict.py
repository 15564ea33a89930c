"""Classify photographs with an exported file in OpenVINO. Without a photograph, check the golden images.

pip install openvino numpy Pillow
python predict.py runs/001-custom-cnn/export [PHOTO ...]
"""

import json
import sys
from pathlib import Path

import numpy as np
import openvino
from PIL import Image, ImageOps

folder, photos = Path(sys.argv[1] if len(sys.argv) > 1 else "."), sys.argv[2:]
model = json.loads((folder / "model.json").read_text("utf-8"))
kind, output = model["input"]["kind"], model["outputs"][0]["name"]
if (kind, output) != ("images", "probabilities"):
    sys.exit(f"{model['file']} takes {kind} and returns {output}; export with --input images --output probabilities")
# CPUs with bfloat16 or float16 would compute in 16 bits by default.
settings = {"INFERENCE_PRECISION_HINT": "f32"}
compiled = openvino.Core().compile_model(folder / model["file"], "CPU", settings)


def classify(image: np.ndarray) -> np.ndarray:
    """Return the probabilities of one image, uint8 RGB (H, W, 3) of any size."""
    return compiled({"images": image[None]})["probabilities"][0]


def show(name: str, probabilities: np.ndarray) -> None:
    """Print a row: the image, its class, all probabilities."""
    print(name, model["classes"][int(probabilities.argmax())], *(f"{value:.8f}" for value in probabilities))


for photo in photos:
    opened = Image.open(photo)
    if side := model["preprocessing"]["draft_side"]:
        opened.draft("RGB", (side, side))  # a large JPEG at a fraction of its size, as in the training
    show(photo, classify(np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))))

if not photos:
    golden = json.loads((folder / "golden" / "golden.json").read_text("utf-8"))
    largest = 0.0
    for entry in golden["images"]:
        pixels = np.fromfile(folder / "golden" / entry["pixels"], np.uint8).reshape(entry["height"], entry["width"], 3)
        found = classify(pixels)
        show(entry["file"], found)
        largest = max(largest, float(abs(found - entry["probabilities"]).max()))
    print(f"largest difference from golden.json: {largest:.1e}")
    sys.exit(not largest <= golden["tolerance"])
