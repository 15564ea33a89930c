"""The registry of entry points, which are found in package metadata and imported only when their name is asked for.

One code path serves every group (`cnnkit.architectures`, `cnnkit.exporters`, ...). So a broken package, or a name of two packages, is
an error only for a user who asks for that name. The code of a package runs only inside the `fence`.
"""

from cnnkit.registry.blame import blame
from cnnkit.registry.entries import ARCHITECTURES, EXPORTERS, GROUPS, SOURCES, TRACKERS, Entry, Standing, choose, find, standing
from cnnkit.registry.fence import fence, fenced, reason
from cnnkit.registry.loading import load, load_architecture, load_problem
from cnnkit.registry.peek import Peek, peek

__all__ = [
    "ARCHITECTURES",
    "EXPORTERS",
    "GROUPS",
    "SOURCES",
    "TRACKERS",
    "Entry",
    "Peek",
    "Standing",
    "blame",
    "choose",
    "fence",
    "fenced",
    "find",
    "load",
    "load_architecture",
    "load_problem",
    "peek",
    "reason",
    "standing",
]
