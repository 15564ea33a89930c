"""Classify photographs with an exported file in OpenCV. Without a photograph, check the golden images.

pip install opencv-python-headless numpy
python predict.py runs/001-custom-cnn/export [PHOTO ...]

OpenCV 5 takes images of any size. OpenCV 4 needs a file of fixed size: cnnkit export --onnx --input canvas
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

folder, photos = Path(sys.argv[1] if len(sys.argv) > 1 else "."), sys.argv[2:]
model = json.loads((folder / "model.json").read_text("utf-8"))
kind, output = model["input"]["kind"], model["outputs"][0]["name"]
size, channels = model["preprocessing"]["image_size"], model["preprocessing"]["channels"]
if kind not in {"images", "canvas"} or output != "probabilities":
    sys.exit(f"{model['file']} takes {kind} and returns {output}; export with --input images or canvas, --output probabilities")
any_size = hasattr(cv2.dnn, "ENGINE_NEW")  # since OpenCV 5
if kind == "images" and not any_size:
    sys.exit(f"OpenCV {cv2.__version__} cannot run a file for images of any size; take OpenCV 5, or export with --input canvas")
if kind == "canvas" and photos:
    sys.exit("a canvas is a photograph after the resize and the crop, which infer.py shows; export with --input images")
engine = [cv2.dnn.ENGINE_NEW] if any_size else []
network = cv2.dnn.readNetFromONNX(str(folder / model["file"]), *engine)


def classify(image: np.ndarray) -> np.ndarray:
    """Return the probabilities of one image, uint8 RGB (H, W, 3) of any size, or of one canvas (S, S, C)."""
    network.setInput(np.ascontiguousarray(image)[None], kind)
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
        shape = (entry["height"], entry["width"], 3) if kind == "images" else (size, size, channels)
        name = entry["pixels"] if kind == "images" else entry["canvas"]
        found = classify(np.fromfile(folder / "golden" / name, np.uint8).reshape(shape))
        show(entry["file"], found)
        largest = max(largest, float(abs(found - entry["probabilities"]).max()))
    print(f"largest difference from golden.json: {largest:.1e}")
    sys.exit(not largest <= golden["tolerance"])
