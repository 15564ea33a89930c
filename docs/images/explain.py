"""Pictures of an explanation and of feature maps, as docs/images/explain.png and docs/images/features.png.

    python docs/images/explain.py [FOLDER]

EfficientNet-Lite0 with its ImageNet weights predicts the photograph china.jpg of scikit-learn. It needs the plugin cnnkit-lite:
pip install ./plugins/cnnkit-lite
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_image
from timm.data.imagenet_info import ImageNetInfo

from cnnkit.architecture import parse_options
from cnnkit.model.file import save_model
from cnnkit.model.header import ModelHeader
from cnnkit.model.preprocessing import Preprocessing
from cnnkit.registry import load_architecture

ARCHITECTURE = "lite/0"
WIDTH = {"explain.png": 800, "features.png": 1404}  # px
COLOURS = 256


def write_model(path: Path) -> None:
    """Write the network with the 1,000 classes of ImageNet as a model file."""
    architecture, _ = load_architecture(ARCHITECTURE)
    weights = architecture.pretrained
    assert weights is not None  # noqa: S101 (every member of the plugin has weights)
    names = ImageNetInfo()
    words = [str(names.index_to_description(index)) for index in range(names.num_classes())]
    classes = [word if words.count(word) == 1 else f"{word} ({names.index_to_label_name(index)})" for index, word in enumerate(words)]
    options = parse_options(architecture, ARCHITECTURE, ())
    module = architecture.build(len(classes), 3, **options)
    module.load_state_dict(dict(weights.fetch()))
    preprocessing = Preprocessing(
        image_size=weights.image_size, mean=weights.mean, std=weights.std, interpolation=weights.interpolation, crop=weights.crop
    )
    header = ModelHeader(arch=ARCHITECTURE, options=options, classes=tuple(classes), preprocessing=preprocessing)
    save_model(path, module.eval(), header)


def main() -> None:
    """Explain the photograph in a temporary folder and write both pictures."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        write_model(base / "model.safetensors")
        (base / "images").mkdir()
        Image.fromarray(load_sample_image("china.jpg")).save(base / "images/china.jpg", quality=95)
        command = [sys.executable, "-m", "cnnkit", "explain", "images/china.jpg", "--model", "model.safetensors", "--out", "explained"]
        subprocess.run(command, cwd=base, check=True)
        for path in (base / "explained").glob("*china*.png"):
            name = "features.png" if path.stem.endswith("-features") else "explain.png"
            with Image.open(path) as picture:
                small = picture.convert("RGB")
                small.thumbnail((WIDTH[name], picture.height), Image.Resampling.LANCZOS)
                small.quantize(COLOURS).save(out / name, optimize=True)


if __name__ == "__main__":
    main()
