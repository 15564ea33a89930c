"""Classify photographs with an exported file in OpenCV 5. Without a photograph, check the golden images.

pip install opencv-python-headless numpy
python predict.py runs/001-custom-cnn/export [PHOTO ...]
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

folder, photos = Path(sys.argv[1] if len(sys.argv) > 1 else "."), sys.argv[2:]
model = json.loads((folder / "model.json").read_text("utf-8"))
if (model["input"]["kind"], model["outputs"][0]["name"]) != ("images", "probabilities"):
    sys.exit(f"{model['file']} takes {model['input']['kind']}; export with --input images --output probabilities")
if int(cv2.__version__.partition(".")[0]) < 5:
    sys.exit(f"OpenCV {cv2.__version__} cannot run a file for images of any size; pip install 'opencv-python-headless>=5'")
network = cv2.dnn.readNetFromONNX(str(folder / model["file"]), cv2.dnn.ENGINE_NEW)  # the older engine takes one size only


def classify(image: np.ndarray) -> np.ndarray:
    """Return the probabilities of one image, uint8 RGB (H, W, 3) of any size."""
    network.setInput(np.ascontiguousarray(image)[None], "images")
    return network.forward("probabilities")[0]


def show(name: str, probabilities: np.ndarray) -> None:
    """Print a row: the image, its class, all probabilities."""
    print(name, model["classes"][int(probabilities.argmax())], *(f"{value:.8f}" for value in probabilities))


for photo in photos:
    bgr = cv2.imread(photo, cv2.IMREAD_COLOR)  # upright by EXIF
    if bgr is None:
        sys.exit(f"{photo}: OpenCV cannot read it")
    show(photo, classify(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)))

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
