"""The place of this process among the ranks, as torchrun, SLURM or Kubernetes tell it by environment variables."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cnnkit.errors import ConfigError

FIRST_PORT, PORTS = 15_000, 20_000  # of rank 0 in a SLURM job, by the number of the job: two jobs of one machine rarely meet


@dataclass(frozen=True)
class RankEnvironment:
    """Rank `rank` of `world`, rank `local` of `local_world` on this machine; rank 0 listens at `address` and `port`.

    `launch` names the launch of all ranks, which its later `restarts` share; it is empty without such a name.
    """

    rank: int
    world: int
    local: int
    local_world: int
    address: str
    port: int
    launch: str = ""
    restarts: int = 0


def rank_environment(environ: Mapping[str, str] = os.environ) -> RankEnvironment | None:
    """Return the place of this process among the ranks; None if no program has started several ranks.

    Raises `ConfigError` for variables that contradict each other.
    """
    try:
        if "RANK" in environ and "WORLD_SIZE" in environ:
            found = _of_torch(environ)
        elif "SLURM_PROCID" in environ and "SLURM_STEP_ID" in environ:
            found = _of_slurm(environ)
        else:
            return None
    except ValueError as error:
        raise ConfigError(f"a variable of the ranks is no number ({error}); start the ranks with torchrun or srun") from None
    if not 0 <= found.rank < found.world or not 0 <= found.local < found.local_world:
        raise ConfigError(
            f"the environment names rank {found.rank} of {found.world} (RANK, WORLD_SIZE; SLURM_PROCID, SLURM_NTASKS), "
            f"rank {found.local} of {found.local_world} on this machine; start the ranks with torchrun or srun"
        )
    return found


def rank_count(environ: Mapping[str, str] = os.environ) -> int:
    """Return the number of ranks that this process is one of; 1 for one process."""
    environment = rank_environment(environ)
    return environment.world if environment else 1


def _of_torch(environ: Mapping[str, str]) -> RankEnvironment:
    """Return the place that torchrun or PyTorchJob names; PyTorchJob starts one process per machine and names no local rank."""
    world = int(environ["WORLD_SIZE"])
    if world > 1 and not ("MASTER_ADDR" in environ and "MASTER_PORT" in environ):
        raise ConfigError(f"WORLD_SIZE (={world}) needs MASTER_ADDR and MASTER_PORT, where rank 0 listens; start the ranks with torchrun")
    launch = environ.get("TORCHELASTIC_RUN_ID", "")
    if launch == "none":  # torchrun without --rdzv-id: the agent, the parent of all its ranks, stays the same
        launch = f"none-{platform.node()}-{os.getppid()}"
    return RankEnvironment(
        rank=int(environ["RANK"]),
        world=world,
        local=int(environ.get("LOCAL_RANK", "0")),
        local_world=int(environ.get("LOCAL_WORLD_SIZE", "1")),
        address=environ.get("MASTER_ADDR", ""),
        port=int(environ.get("MASTER_PORT", "0")),
        launch=f"torchelastic:{launch}" if launch else "",
        restarts=int(environ.get("TORCHELASTIC_RESTART_COUNT", "0")),
    )


def _of_slurm(environ: Mapping[str, str]) -> RankEnvironment:
    """Return the place that srun names; a batch script, which runs once, has no step."""
    job = environ.get("SLURM_JOB_ID", "0")
    node = int(environ.get("SLURM_NODEID", "0"))
    tasks = _tasks_of_nodes(environ.get("SLURM_STEP_TASKS_PER_NODE") or environ.get("SLURM_TASKS_PER_NODE") or "1")
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST") or platform.node()
    return RankEnvironment(
        rank=int(environ["SLURM_PROCID"]),
        world=int(environ.get("SLURM_STEP_NUM_TASKS") or environ.get("SLURM_NTASKS") or "1"),
        local=int(environ.get("SLURM_LOCALID", "0")),
        local_world=tasks[node] if node < len(tasks) else 1,
        address=environ.get("MASTER_ADDR") or _first_host(nodes),
        port=int(environ.get("MASTER_PORT") or FIRST_PORT + int(job) % PORTS),
        launch=f"slurm:{job}.{environ['SLURM_STEP_ID']}",
        restarts=int(environ.get("SLURM_RESTART_COUNT", "0")),
    )


def _tasks_of_nodes(text: str) -> list[int]:
    """Return the number of tasks of each node: ``"4(x2),3"`` -> [4, 4, 3]."""
    found: list[int] = []
    for part in text.split(","):
        count, _, repeated = part.partition("(x")
        found += [int(count)] * int(repeated.rstrip(")") or "1")
    return found


def _first_host(nodes: str) -> str:
    """Return the first host of a list of SLURM: ``"gpu[003-007,9],login"`` -> ``"gpu003"``."""
    name, bracket, rest = re.split(r",(?![^\[]*\])", nodes)[0].partition("[")
    inside, _, suffix = rest.partition("]")
    return f"{name}{re.split('[-,]', inside)[0]}{suffix}" if bracket else name
