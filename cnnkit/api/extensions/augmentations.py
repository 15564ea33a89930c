"""The augmentations of other packages that ``--augment-with`` names: loaded first, tried, and checked after the fence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cnnkit.data.augment.extra import ExtraAugmentation
from cnnkit.errors import ConfigError
from cnnkit.extension.results import MAX_LEVEL, are_images, shown, wrong_levels
from cnnkit.extension.values import Augmentation
from cnnkit.registry import AUGMENTATION_KIND, Extension, load_extension

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
        augmentation = self._augmentation
        with torch.no_grad():
            found = augmentation.call(images, draws)
        if not are_images(found, images.shape):
            raise augmentation.refuse(f"it returns {shown(found)}; expected float32 of shape {tuple(images.shape)}")
        if found.device.type == "cpu" or not self._is_checked_on_device:
            if levels := wrong_levels(found):
                raise augmentation.refuse(f"it returns {levels}; expected levels from 0 to 255, without NaN")
            self._is_checked_on_device = found.device.type != "cpu"
        return found
