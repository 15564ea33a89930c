from __future__ import annotations

import os
import platform

import pytest

from cnnkit.engine.rank_environment import RankEnvironment, rank_count, rank_environment
from cnnkit.errors import ConfigError

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "29500"}
SLURM = {
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_ID": "0",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_STEP_TASKS_PER_NODE": "4,2",
    "SLURM_STEP_NODELIST": "gpu[003-004,9],login",
}


def test_a_process_alone_has_no_place_among_ranks():
    assert rank_environment({}) is None
    assert rank_count({}) == 1


def test_torchrun_tells_rank_machine_and_launch():
    found = rank_environment({**TORCHRUN, "TORCHELASTIC_RUN_ID": "job7", "TORCHELASTIC_RESTART_COUNT": "2"})
    assert found == RankEnvironment(3, 4, 1, 2, "a", 29500, "torchelastic:job7", 2)


def test_a_launch_without_an_id_is_named_by_its_agent():
    found = rank_environment({**TORCHRUN, "TORCHELASTIC_RUN_ID": "none"})
    assert found is not None
    assert found.launch == f"torchelastic:none-{platform.node()}-{os.getppid()}"


def test_a_pod_of_pytorchjob_has_one_rank():
    found = rank_environment({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456"})
    assert found == RankEnvironment(1, 2, 0, 1, "job-master-0", 23456)


def test_srun_tells_rank_machine_and_the_address_of_rank_0():
    assert rank_environment(SLURM) == RankEnvironment(5, 6, 1, 2, "gpu003", 15_000 + 123_456 % 20_000, "slurm:123456.0", 0)
    restarted = rank_environment({**SLURM, "SLURM_RESTART_COUNT": "1"})
    assert restarted is not None
    assert restarted.restarts == 1


def test_a_batch_script_of_slurm_is_one_process():
    """sbatch --ntasks=6 sets SLURM_NTASKS and SLURM_PROCID, but runs its script once."""
    assert rank_count({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "6", "SLURM_PROCID": "0"}) == 1


@pytest.mark.parametrize(("nodes", "host"), [("n1", "n1"), ("n[7,9]", "n7"), ("a-[01-20]-x,b", "a-01-x"), ("one,two", "one")])
def test_the_first_host_of_a_list_is_that_of_rank_0(nodes, host):
    found = rank_environment({**SLURM, "SLURM_STEP_NODELIST": nodes})
    assert found is not None
    assert found.address == host


def test_repeated_tasks_of_nodes_are_counted():
    found = rank_environment({**SLURM, "SLURM_STEP_TASKS_PER_NODE": "2(x2),1"})
    assert found is not None
    assert found.local_world == 2


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {**TORCHRUN, "RANK": "x"},
            r"a variable of the ranks is no number \(invalid literal.*'x'\); start the ranks with",
        ),
        ({**TORCHRUN, "RANK": "4"}, r"the environment names rank 4 of 4 .*; start the ranks with torchrun or srun"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, r"WORLD_SIZE \(=2\) needs MASTER_ADDR and MASTER_PORT"),
    ],
)
def test_variables_that_contradict_each_other_are_refused(variables, message):
    with pytest.raises(ConfigError, match=message):
        rank_environment(variables)
