"""The augmentations of other packages that ``--augment-with`` names: loaded first, tried, and checked after the fence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cnnkit.data.augment.extra import ExtraAugmentation
from cnnkit.errors import ConfigError
from cnnkit.extension.values import Augmentation
from cnnkit.registry import AUGMENTATION_KIND, Extension, load_extension

MAX_LEVEL = 255.0
ROUNDING = 1e-2  # beyond the range of levels, which a sum of many products may pass
TRIAL_SIZE = 16  # px


def load_augmentations(texts: Sequence[str]) -> tuple[Extension[Augmentation], ...]:
    """Return the augmentations that `texts` name; raises `ConfigError` if two have one name, else the errors of `load_extension`."""
    found = tuple(load_extension(AUGMENTATION_KIND, text) for text in texts)
    names = [each.entry.full_name for each in found]
    if twice := next((each.text for each in found if names.count(each.entry.full_name) > 1), None):
        raise ConfigError(f"--augment-with {twice}: {twice.partition(':')[0]} is given twice, with the same random numbers; leave one out")
    return found


def extra_augmentations(chosen: Sequence[Extension[Augmentation]], channels: int) -> tuple[ExtraAugmentation, ...]:
    """Return the augmentations for the batches, inside the fence, each tried on made-up images of `channels` channels.

    Raises `PluginError` for a result that has another shape or levels outside 0 to 255.
    """
    made = tuple(ExtraAugmentation(each.entry.full_name, each.value.num_draws, _Checked(each)) for each in chosen)
    random = torch.Generator().manual_seed(0)
    images = (torch.rand(2, channels, TRIAL_SIZE, TRIAL_SIZE, generator=random) * MAX_LEVEL).round()
    for each in made:
        each.apply(images.clone(), torch.rand(2, each.num_draws, generator=random))
    return made


class _Checked:
    """The function of an augmentation inside the fence, with a check of every result.

    On a GPU the levels of the first batch alone are checked, because a check waits for the device.
    """

    def __init__(self, augmentation: Extension[Augmentation]) -> None:
        self._augmentation = augmentation
        self._is_checked_on_device = False

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        """Return the changed `images` (n, C, S, S); raises `PluginError` for a wrong result."""
        augmentation, expected = self._augmentation, tuple(images.shape)
        with torch.no_grad():
            found = augmentation.call(images, draws)
        if not isinstance(found, Tensor) or found.shape != expected or found.dtype not in {torch.float32, torch.uint8}:
            given = f"{found.dtype} of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise augmentation.refuse(f"it returns {given.removeprefix('torch.')}; expected float32 of shape {expected}")
        if found.device.type == "cpu" or not self._is_checked_on_device:
            low, high = (float(level) for level in found.aminmax())
            if not (low >= -ROUNDING and high <= MAX_LEVEL + ROUNDING):  # also true for NaN
                raise augmentation.refuse(f"it returns levels from {low:g} to {high:g}; expected levels from 0 to 255, without NaN")
            self._is_checked_on_device = found.device.type != "cpu"
        return found
