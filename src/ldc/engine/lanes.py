"""Lanes: parts of a bank that run side by side on a CPU, each in a thread with processor threads of its own.

Small products and what lies between them fill two processors badly, one after another on both: a barrier waits behind
each. The members of a bank need nothing of each other, so each lane takes some of them through the whole model. Which
members share a lane is a matter of speed like the bank itself: their results are their own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import islice
from typing import TypeVar

import torch

T = TypeVar("T")

MOST = 4
"""Lanes at most; with more processors each lane has several threads."""
WORTH = 0.8
"""Lanes are used where the heaviest part leaves them at least this share of the gain that equal parts would give."""

_HERE = threading.local()


def lane() -> int:
    """The number of the lane in which this is called, from 1; 0 outside of lanes."""
    return getattr(_HERE, "number", 0)


def most_lanes(device: torch.device) -> int:
    """How many lanes a device may have, whatever its number of threads: one on a GPU."""
    return MOST if device.type == "cpu" else 1


def lanes_for(device: torch.device) -> int:
    """How many lanes a bank is cut into: as many as there are threads, and the device may have; one within a lane."""
    return 1 if lane() else min(most_lanes(device), torch.get_num_threads())


def parts(costs: Sequence[float], count: int) -> list[range]:
    """Neighbours in at most `count` parts of about equal cost; all in one where the parts would be too unequal.

    Args:
        costs: what each member costs, in the order of rows.
    """
    total, ends, spent = sum(costs), [0], 0.0
    for k, cost in enumerate(costs):
        if spent + cost / 2 > total * len(ends) / count and len(ends) < count and k > ends[-1]:
            ends.append(k)
        spent += cost
    found = [range(a, b) for a, b in zip(ends, [*ends[1:], len(costs)])]
    heaviest = max((sum(costs[k] for k in part) for part in found), default=0.0)
    if count > 1 and total < WORTH * count * heaviest:
        return [range(len(costs))]
    return found


def side_by_side(tasks: Sequence[Callable[[], T]], lanes: int, at_once: bool = True) -> list[T]:
    """What each task returns, in their order; each lane takes the next task when it is free.

    Tasks have the caller's gradient mode. All lanes have ended when this returns or raises; it raises what the first
    failed task raised, and a lane whose task failed takes no further one.

    Args:
        lanes: how many to use; with one, or one task, the caller's own thread does the work.
        at_once: False lets one lane end before the next begins.
    """
    count = min(lanes, len(tasks))
    if count <= 1:
        return [task() for task in tasks]
    wanted, waiting = torch.is_grad_enabled(), iter(enumerate(tasks))
    found: dict[int, T] = {}

    def work() -> None:
        with torch.set_grad_enabled(wanted):
            for place, task in islice(waiting, None if at_once else -(-len(tasks) // count)):
                found[place] = task()

    threads, futures = max(1, torch.get_num_threads() // count), []
    try:
        for number in range(1, count + 1):
            futures.append(_thread(number, threads).submit(work))
            if not at_once:
                wait(futures)
        wait(futures)
    finally:  # where the caller was interrupted, lanes end what they have begun and take nothing more
        deque(waiting, maxlen=0)
        wait(futures)
    for future in futures:
        future.result()
    return [found[place] for place in range(len(tasks))]


@cache
def _thread(number: int, threads: int) -> ThreadPoolExecutor:
    """The lane of a number, kept for the life of the process."""
    everywhere = torch.get_num_threads()

    def begin() -> None:
        _HERE.number = number
        torch.set_num_threads(threads)
        torch.get_num_threads()  # a thread takes the number of the moment when it first asks; let that be now

    executor = ThreadPoolExecutor(1, thread_name_prefix=f"lane-{number}", initializer=begin)
    executor.submit(int).result()
    torch.set_num_threads(everywhere)  # what a lane asked for is also what threads yet unborn would begin with
    return executor
