"""Drawn pictures of three kinds of scenes, as stand-ins for photographs: ``python draw_photos.py FOLDER``.

No photograph may be shipped with cnnkit. The pictures have light, texture, blur and noise of their own, so no two are alike.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 256, 192  # px
IMAGES = 60  # of each class
WATER_SHARE = 0.5  # of the pictures of every class, so that the ground does not give the class away


Colour = tuple[int, int, int]
SKY, GROUND, LEAVES = (135, 185, 225), (120, 140, 80), (50, 110, 45)
WATER, WOOD, SAIL, WALL, ROOF, GLASS = (60, 100, 140), (105, 75, 50), (235, 230, 220), (215, 200, 175), (150, 70, 55), (90, 110, 130)


def draw_boat(draw: ImageDraw.ImageDraw, random: np.random.Generator) -> None:
    """Draw a hull with a mast and a sail at a random position and size."""
    x, y, size = _position(random)
    draw.line([(x, y), (x, y - 1.5 * size)], fill=_near(WOOD, random), width=3)
    draw.polygon([(x + 3, y - 1.4 * size), (x + 3, y - 0.2 * size), (x + 0.9 * size, y - 0.2 * size)], fill=_near(SAIL, random))
    hull = [(x - size, y), (x + size, y), (x + 0.6 * size, y + 0.4 * size), (x - 0.6 * size, y + 0.4 * size)]
    draw.polygon(hull, fill=_near(WOOD, random))


def draw_house(draw: ImageDraw.ImageDraw, random: np.random.Generator) -> None:
    """Draw walls with a roof, a door and a window at a random position and size."""
    x, y, size = _position(random)
    draw.rectangle([x - size, y - 0.8 * size, x + size, y + 0.4 * size], fill=_near(WALL, random))
    draw.polygon([(x - 1.2 * size, y - 0.8 * size), (x + 1.2 * size, y - 0.8 * size), (x, y - 1.7 * size)], fill=_near(ROOF, random))
    draw.rectangle([x - 0.2 * size, y - 0.2 * size, x + 0.2 * size, y + 0.4 * size], fill=_near(WOOD, random))
    draw.rectangle([x + 0.45 * size, y - 0.5 * size, x + 0.8 * size, y - 0.15 * size], fill=_near(GLASS, random))


def draw_tree(draw: ImageDraw.ImageDraw, random: np.random.Generator) -> None:
    """Draw a trunk and a crown of several discs at a random position and size."""
    x, y, size = _position(random)
    draw.rectangle([x - 0.15 * size, y - 0.5 * size, x + 0.15 * size, y + 0.5 * size], fill=_near(WOOD, random))
    for _ in range(20):
        right, down = random.normal(0, 0.4 * size), random.normal(-1.0 * size, 0.3 * size)
        radius = random.uniform(0.2, 0.4) * size
        draw.ellipse([x + right - radius, y + down - radius, x + right + radius, y + down + radius], fill=_near(LEAVES, random))


CLASSES: dict[str, Callable[[ImageDraw.ImageDraw, np.random.Generator], None]] = {
    "boats": draw_boat,
    "houses": draw_house,
    "trees": draw_tree,
}


def draw_photo(name: str, random: np.random.Generator) -> Image.Image:
    """Return a picture of the class `name`: the object before sky and ground or water, with uneven light, blur and noise."""
    horizon = int(random.uniform(0.35, 0.6) * HEIGHT)
    picture = Image.new("RGB", (WIDTH, HEIGHT), _near(SKY, random))
    draw = ImageDraw.Draw(picture)
    ground = WATER if random.random() < WATER_SHARE else GROUND
    draw.rectangle([0, horizon, WIDTH, HEIGHT], fill=_near(ground, random))
    for _ in range(40):
        left, top = random.uniform(0, WIDTH), random.uniform(horizon, HEIGHT)
        draw.ellipse([left, top, left + random.uniform(10, 60), top + random.uniform(2, 6)], fill=_near(ground, random))
    CLASSES[name](draw, random)
    picture = picture.filter(ImageFilter.GaussianBlur(float(random.uniform(0.3, 1.2))))
    patches = Image.fromarray(random.normal(128, 25, (4, 4)).clip(0, 255).astype(np.uint8)).resize(
        (WIDTH, HEIGHT), Image.Resampling.BICUBIC
    )
    light = np.asarray(patches, np.float32)[..., None] - 128
    pixels = np.asarray(picture, np.float32) + light + random.normal(0, 6, (HEIGHT, WIDTH, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def main(folder: Path) -> None:
    """Write `IMAGES` pictures of every class into class folders of `folder`; the same pictures every time."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(IMAGES):
            draw_photo(name, np.random.default_rng((label, number))).save(folder / name / f"{name}-{number:02d}.jpg")


def _position(random: np.random.Generator) -> tuple[float, float, float]:
    """Return the centre x, y and the size of an object in pixels."""
    return random.uniform(0.3, 0.7) * WIDTH, random.uniform(0.5, 0.75) * HEIGHT, random.uniform(25, 50)


def _near(colour: Colour, random: np.random.Generator) -> Colour:
    """Return a colour near `colour`, brighter or darker."""
    red, green, blue = (np.array(colour) * random.uniform(0.75, 1.2) + random.normal(0, 12, 3)).clip(0, 255)
    return int(red), int(green), int(blue)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
