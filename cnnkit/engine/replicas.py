"""Several copies of a network on one CPU, each on a thread of its own with a part of the batch, all with the same weights.

One operator on two threads ends with one waiting for the other, many times a step; two copies on one thread each wait once.
Batch normalisation then sees a part of the batch at a time (ghost batches: arXiv:1705.08741, section 4.1).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

Loss = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]
_SEEDS = 2**62


class Replicas:
    """`count` copies of `model` that share its parameters, with `threads` threads each.

    The same numbers come out at every repetition: sums have a fixed order, and every copy draws its dropout from a generator
    of its own that is seeded, at every step, from torch's.
    """

    def __init__(self, model: nn.Module, count: int, threads: int) -> None:
        self._model = model
        self._generators = [torch.Generator() for _ in range(count)]
        self._copies = [_replica(model, generator) for generator in self._generators]
        self._threads = threads
        self._pool = ThreadPoolExecutor(count)

    def gradients(self, images: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Add the gradients of a batch to those of the model; returns the sum of the parts' losses, and logits (n, K), both detached.

        ``loss(network, images, labels)`` gives the loss of a part, as its share of the batch's, and the part's logits.
        """
        self._follow()
        seed = int(torch.randint(_SEEDS, ()))

        def part(index: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            # At every step, not once a thread: at its first operation a thread takes the number that was last set anywhere, and an
            # optimizer may have set another meanwhile. Then sums would be divided in another way, and rounded.
            torch.set_num_threads(self._threads)
            self._generators[index].manual_seed(seed + index)
            value, logits = loss(self._copies[index], images, labels)
            value.backward()
            return value.detach(), logits.detach()

        count = min(len(self._copies), len(images))
        parts = self._pool.map(part, range(count), images.tensor_split(count), labels.tensor_split(count))
        losses, logits = zip(*parts, strict=True)
        self._gather()
        return torch.stack(losses).sum(), torch.cat(logits)

    def _follow(self) -> None:
        """Give the copies the model's modes, its statistics, and which of its parameters learn."""
        for replica in self._copies:
            for ours, theirs in zip(replica.modules(), self._model.modules(), strict=True):
                ours.training = theirs.training
            for ours, theirs in zip(replica.parameters(), self._model.parameters(), strict=True):
                ours.requires_grad_(theirs.requires_grad)
                ours.data = theirs.data
                ours.grad = None
            for ours, theirs in zip(replica.buffers(), self._model.buffers(), strict=True):
                ours.copy_(theirs)

    @torch.no_grad()
    def _gather(self) -> None:
        """Sum up the gradients, and average the statistics of batch normalisation."""
        for parameter, *parts in zip(self._model.parameters(), *(replica.parameters() for replica in self._copies), strict=True):
            for gradient in (part.grad for part in parts if part.grad is not None):
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        for buffer, *parts in zip(self._model.buffers(), *(replica.buffers() for replica in self._copies), strict=True):
            buffer.copy_(torch.stack(parts).mean(0) if buffer.is_floating_point() else parts[0])


def draws_by_itself(model: nn.Module, images: Tensor) -> bool:
    """Whether a replica of `model` draws random numbers other than by `nn.Dropout`: from torch's one generator, in no fixed order.

    Found by letting one see `images`; torch's generator is left as it was.
    """
    replica = _replica(model, torch.Generator()).train()
    with torch.random.fork_rng([]), torch.no_grad():
        before = torch.get_rng_state()
        replica(images)
        return not torch.equal(before, torch.get_rng_state())


class _Dropout(nn.Module):
    """`nn.Dropout` from a generator of its own."""

    def __init__(self, share: float, generator: torch.Generator) -> None:
        super().__init__()
        self._kept = 1 - share
        self._generator = generator

    def forward(self, values: Tensor) -> Tensor:
        if not self.training or self._kept == 1:
            return values
        return values * torch.empty_like(values).bernoulli_(self._kept, generator=self._generator).div_(self._kept)


def _replica(model: nn.Module, generator: torch.Generator) -> nn.Module:
    replica = copy.deepcopy(model)
    for parent in list(replica.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:  # and no subclass, which may do something else
                setattr(parent, name, _Dropout(child.p, generator))
    return replica
