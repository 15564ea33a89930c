"""Replicas: copies of a network on one CPU that share its weights and train on one part of the batch each, in parallel.

An operator on two threads makes one thread wait for the other, many times per step; two replicas on one thread each wait
once. Batch normalisation sees one part of the batch at a time (ghost batches: arXiv:1705.08741, section 4.1).
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

    Results are repeatable: sums have a fixed order, and each copy draws dropout from its own generator, which torch's
    generator seeds at every step.
    """

    def __init__(self, model: nn.Module, count: int, threads: int) -> None:
        self._model = model
        self._generators = [torch.Generator() for _ in range(count)]
        self._copies = [_replica(model, generator) for generator in self._generators]
        self._threads = threads
        self._pool = ThreadPoolExecutor(count)

    def gradients(self, images: Tensor, labels: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
        """Add the gradients of a batch to the model; return the sum of the parts' losses and the logits (n, K), both detached.

        ``loss(network, images, labels)`` returns the logits of a part, and its loss as a share of the loss of the batch.
        """
        self._copy_from_model()
        seed = int(torch.randint(_SEEDS, ()))

        def part(index: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            # Set at every step, not once per thread: a thread starts with the number that was set last in any thread. An optimizer may
            # have set another one, and another number of threads would divide sums, and thus round them, in another way.
            torch.set_num_threads(self._threads)
            self._generators[index].manual_seed(seed + index)
            value, logits = loss(self._copies[index], images, labels)
            value.backward()
            return value.detach(), logits.detach()

        count = min(len(self._copies), len(images))
        parts = self._pool.map(part, range(count), images.tensor_split(count), labels.tensor_split(count))
        losses, logits = zip(*parts, strict=True)
        self._add_to_model()
        return torch.stack(losses).sum(), torch.cat(logits)

    def _copy_from_model(self) -> None:
        """Copy train and eval modes, weights, frozen parameters and statistics from the model to the replicas."""
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
    def _add_to_model(self) -> None:
        """Add the gradients of the replicas to the model, and average their statistics of batch normalisation."""
        for parameter, *parts in zip(self._model.parameters(), *(replica.parameters() for replica in self._copies), strict=True):
            for gradient in (part.grad for part in parts if part.grad is not None):
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
        for buffer, *parts in zip(self._model.buffers(), *(replica.buffers() for replica in self._copies), strict=True):
            buffer.copy_(torch.stack(parts).mean(0) if buffer.is_floating_point() else parts[0])


def draws_by_itself(model: nn.Module, images: Tensor) -> bool:
    """Return whether a replica of `model` draws random numbers outside `nn.Dropout`, found by one forward pass of `images`.

    Such replicas would share torch's generator in no fixed order. The state of torch's generator does not change.
    """
    replica = _replica(model, torch.Generator()).train()
    with torch.random.fork_rng([]), torch.no_grad():
        before = torch.get_rng_state()
        replica(images)
        return not torch.equal(before, torch.get_rng_state())


class _Dropout(nn.Module):
    """`nn.Dropout` with its own generator."""

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
            if type(child) is nn.Dropout:  # a subclass may do something else
                setattr(parent, name, _Dropout(child.p, generator))
    return replica
