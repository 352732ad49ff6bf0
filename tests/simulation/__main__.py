"""``python -m tests.simulation``: many seeds on all cores, or one with its trace.

    --seeds A-B   these, both included (1-2000)        --jobs J   processes (the cores)
    --seed N      one; with -v its whole trace         --keep-going   do not end at the first that fails
"""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator

from tests.simulation import seeds
from tests.simulation.seeds import Verdict
from tests.simulation.world import on_stage

BATCH = 20
TAIL = 120
PATIENCE = 60
"""Seconds for one seed, of which most take some hundredths."""
_HASHES = "PYTHONHASHSEED"


def play(first: int, last: int) -> list[Verdict]:
    """A batch, in a worker."""
    with on_stage():
        found = [_watched(seed) for seed in range(first, last + 1)]
    gc.collect()
    return found


class Hangs(BaseException):
    """A step does not end."""


def _on_alarm(*_: object) -> None:
    raise Hangs


def _watched(seed: int) -> Verdict:
    signal.alarm(PATIENCE)
    try:
        return seeds.run(seed)
    except Hangs:
        return Verdict(seed, [f"it does not end:\n{traceback.format_exc()}"])
    finally:
        signal.alarm(0)


def _begin() -> None:
    signal.signal(signal.SIGALRM, _on_alarm)
    logging.getLogger().setLevel(logging.ERROR)
    gc.collect()
    gc.freeze()
    gc.disable()


def _batch(bounds: tuple[int, int]) -> list[Verdict]:
    return play(*bounds)


def batches(first: int, last: int, jobs: int) -> Iterator[Verdict]:
    """Every verdict, in order."""
    pieces = [(start, min(last, start + BATCH - 1)) for start in range(first, last + 1, BATCH)]
    with multiprocessing.get_context("fork").Pool(jobs, _begin) as pool:
        for found in pool.imap(_batch, pieces):
            yield from found


def trace(seed: int) -> Verdict:
    """One seed again, with all its steps."""
    logging.getLogger().setLevel(logging.DEBUG)
    with on_stage():
        return seeds.run(seed, traced=True)


def show(verdict: Verdict, *, whole: bool) -> None:
    """For people."""
    told = [line for line in verdict.trace if whole or not line.endswith(("_on_turn", "_on_due", "_on_ready"))]
    print(*(told if whole else told[-TAIL:]), sep="\n")
    print(f"seed {verdict.seed}: {verdict.steps} steps")
    print(*(f"  {line}" for line in verdict.wrong or ["good"]), sep="\n", flush=True)


def main(argv: list[str]) -> int:
    """0 if all are good."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", default="1-2000")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--keep-going", action="store_true")
    parser.add_argument("-v", "--verbose", action="store_true")
    given = parser.parse_args(argv)
    if given.seed is not None:
        verdict = trace(given.seed)
        show(verdict, whole=given.verbose)
        return 1 if verdict.wrong else 0
    first, _, last = given.seeds.partition("-")
    began, failed, done, steps = time.monotonic(), list[int](), 0, 0
    for verdict in batches(int(first), int(last or first), given.jobs):
        done, steps = done + 1, steps + verdict.steps
        if verdict.wrong:
            failed.append(verdict.seed)
            print(f"seed {verdict.seed}:", *verdict.wrong[:6], sep="\n  ", flush=True)
            if not given.keep_going:
                show(trace(verdict.seed), whole=given.verbose)
                break
        if done % 500 == 0:
            print(f"{done} seeds, {steps} steps, {time.monotonic() - began:.0f} s", flush=True)
    spent = time.monotonic() - began
    print(f"{done} seeds in {spent:.1f} s, {spent / done * 1000:.1f} ms each; failed: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    if os.environ.get(_HASHES) != "0":  # the order of sets is part of a seed's replay
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], {**os.environ, _HASHES: "0"})
    sys.exit(main(sys.argv[1:]))
