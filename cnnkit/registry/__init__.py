"""The registry of entry points, which are found in package metadata and imported only when their name is asked for.

One code path serves every group (`cnnkit.architectures`, `cnnkit.exporters`, ...). So a broken package, or a name of two packages, is
an error only for a user who asks for that name. The code of a package runs only inside the `fence`.
"""

from cnnkit.registry.blame import blame
from cnnkit.registry.entries import (
    ARCHITECTURES,
    AUGMENTATIONS,
    EXPORTERS,
    GROUPS,
    LOSSES,
    METRICS,
    OPTIMIZERS,
    SOURCES,
    TRACKERS,
    Entry,
    Standing,
    choose,
    find,
    find_all,
    list_command,
    noun,
    short_name,
    standing,
)
from cnnkit.registry.extensions import AUGMENTATION_KIND, LOSS_KIND, METRIC_KIND, OPTIMIZER_KIND, Extension, load_extension
from cnnkit.registry.fence import fence, fenced, reason
from cnnkit.registry.loading import load, load_architecture, load_problem
from cnnkit.registry.peek import Peek, peek

__all__ = [
    "ARCHITECTURES",
    "AUGMENTATIONS",
    "AUGMENTATION_KIND",
    "EXPORTERS",
    "GROUPS",
    "LOSSES",
    "LOSS_KIND",
    "METRICS",
    "METRIC_KIND",
    "OPTIMIZERS",
    "OPTIMIZER_KIND",
    "SOURCES",
    "TRACKERS",
    "Entry",
    "Extension",
    "Peek",
    "Standing",
    "blame",
    "choose",
    "fence",
    "fenced",
    "find",
    "find_all",
    "list_command",
    "load",
    "load_architecture",
    "load_extension",
    "load_problem",
    "noun",
    "peek",
    "reason",
    "short_name",
    "standing",
]
