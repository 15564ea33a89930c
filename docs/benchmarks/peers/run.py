"""cnnkit and its peers on the same images, the same cores and the same minutes; README.md says how it is made fair.

    python docs/benchmarks/peers/run.py --data cifar10=FOLDER --data digits --budget 120 --seeds 3 --work FOLDER

Makes what is missing under --work (environments, divided images), runs every training that is not yet in WORK/results.jsonl, says
beforehand how long that takes, and writes WORK/table.md and WORK/table.json. Broken off, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import table
from contenders import Task, taking_part
from division import Division, divide
from environments import NEEDED, environment, is_ready, prepare
from measure import TrainerError
from options import PEERS, pairs, parse, timm_script
from training import Job, measure

OVERHEAD = 40.0  # seconds of a training besides its budget: start, reading, prediction; measured on 2 cores: 15 to 60
INSTALLING = 240.0  # seconds for an environment; measured: 100 to 300


def jobs(divisions: list[Division], peers: tuple[str, ...], given: argparse.Namespace, script: Path | None) -> list[Job]:
    """Return every training asked for; contenders take turns, so that a machine that gets slower slows all of them."""
    found: list[Job] = []
    for division in divisions:
        for seed in range(given.seeds):
            for contender in taking_part(division, peers):
                folder = given.work / "runs" / division.name / f"{contender.name.replace(' ', '-')}-{given.budget:g}s-seed{seed}"
                found.append(Job(contender, Task(division, given.budget, seed, folder, given.work, script)))
    return found


def plan(todo: list[Job], missing: list[str], budget: float) -> None:
    """Say what is going to happen and how long it takes."""
    timed = {(job.task.division.name, job.contender.name) for job in todo if job.contender.needs_epochs}
    seconds = len(todo) * (budget + OVERHEAD) + len(timed) * (budget / 2 + OVERHEAD)
    for job in todo:
        print(f"  {job.task.division.name}: {job.contender.name}, seed {job.task.seed}")
    print(f"{len(todo)} trainings of {budget:g} s, and {len(timed)} short ones to time an epoch: about {seconds / 60:.0f} min", flush=True)
    if missing:
        size = sum(NEEDED[peer] for peer in missing)
        print(f"before that pip installs {', '.join(missing)}: about {size:.0f} GB, {len(missing) * INSTALLING / 60:.0f} min", flush=True)


def run(todo: list[Job], peers: tuple[str, ...], given: argparse.Namespace) -> int:
    """Do every training; returns how many failed."""
    failed, started, warm = 0, time.perf_counter(), ""
    for number, job in enumerate(todo, 1):
        if job.task.division.name != warm:
            job.task.division.warm()
            warm = job.task.division.name
        print(f"[{number}/{len(todo)}] {warm}: {job.contender.name}, seed {job.task.seed}: ", end="", flush=True)
        try:
            result = measure(job, peers, given.cores)
        except TrainerError as error:
            failed += 1
            print(f"FAILED: {error}", flush=True)
            continue
        with (given.work / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        left = (time.perf_counter() - started) / number * (len(todo) - number)
        print(
            f"{100 * result['accuracy']:.1f} %, trained {result['trained']:.0f} s, {result['cpu']:.0f} CPU-s "
            f"(others {result['others']:.0f}), {result['memory'] / 1e9:.2f} GB; {left / 60:.0f} min to go",
            flush=True,
        )
    return failed


def main() -> int:
    """Do what the command line asks for."""
    given = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ended from outside, it ends the trainer too, as Ctrl-C does
    given.work = given.work.expanduser().resolve()
    given.work.mkdir(parents=True, exist_ok=True)
    peers = tuple(given.peers.split(","))
    if unknown := sorted(set(peers) - set(PEERS)):
        sys.exit(f"--peers {given.peers}: there is no {', '.join(unknown)}; known: {', '.join(PEERS)}")
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        if len(allowed) < given.cores:
            sys.exit(f"--cores {given.cores}: only {len(allowed)} may be used here; lower it")
        os.sched_setaffinity(0, allowed[: given.cores])  # the trainers inherit it
    script = timm_script(given.timm_script, given.work, fetch=given.fetch) if "timm" in peers else None
    weights = pairs(given.weights)
    try:
        divisions = [divide(name, source, weights.get(name), given.work) for name, source in pairs(given.data).items()]
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        sys.exit(str(error))
    for division in divisions:
        print(division.describe())
    done = {json.dumps([run["data"], run["contender"], run["budget"], run["seed"]]) for run in table.read(given.work)}
    todo = [job for job in jobs(divisions, peers, given, script) if job.key not in done]
    missing = [peer for peer in peers if not is_ready(peer, given.work)]
    plan(todo, missing, given.budget)
    if given.plan:
        return 0
    for peer in missing:
        print(f"installing {peer} in {environment(peer, given.work)}", flush=True)
        prepare(peer, given.work)
    failed = run(todo, peers, given)
    print("\n" + table.write(given.work), end="")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
