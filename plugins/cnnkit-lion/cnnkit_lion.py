"""Lion (arXiv:2302.06675) for cnnkit, by timm: the sign of a momentum, with decoupled weight decay."""

from __future__ import annotations

from typing import Any

from cnnkit import Optimizer


def build(groups: list[dict[str, Any]], lr: float, *, beta1: float = 0.9, beta2: float = 0.99, cautious: bool = False) -> Any:
    """Return the optimizer for parameter `groups`; a `cautious` one skips the weights whose update goes against their gradient."""
    from timm.optim import Lion  # pyright: ignore[reportPrivateImportUsage]  # timm takes seconds to import

    return Lion(groups, lr=lr, betas=(beta1, beta2), caution=cautious)


lion = Optimizer(build=build, summary="Lion: the sign of a momentum, with decoupled weight decay", reference="arXiv:2302.06675")
