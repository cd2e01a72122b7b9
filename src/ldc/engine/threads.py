"""Parts of a bank side by side in threads, on a CPU.

Small matrix products and what lies between them fill two processors badly: every product ends with a barrier at which
one processor waits for the other. The members of a bank need nothing of each other. So each thread takes some of them
through the whole model, with processor threads of its own. Which members share a part changes their speed and not their
results.
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
"""The most parts side by side; with more processors, each part has several."""
WORTH = 0.8
"""A bank is split if the gain is at least this share of what equal parts would gain."""

_HERE = threading.local()


def within_part() -> bool:
    """Whether this is called in a thread of `side_by_side`."""
    return getattr(_HERE, "within", False)


def most_parts(device: torch.device) -> int:
    """The most parts that may run side by side on a device, however many processors there are: one on a GPU."""
    return MOST if device.type == "cpu" else 1


def parts_for(device: torch.device) -> int:
    """Into how many parts a bank is split here: one for each processor; one where the caller itself runs in a part."""
    return 1 if within_part() else min(most_parts(device), torch.get_num_threads())


def split(costs: Sequence[float], count: int) -> list[range]:
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


def side_by_side(tasks: Sequence[Callable[[], T]], count: int, at_once: bool = True) -> list[T]:
    """What each task returns, in their order; each thread takes the next task when it is free.

    Tasks have the caller's gradient mode. All threads are idle again when this returns or raises. It raises what the
    first failed task raised; a thread whose task failed takes no further one.

    Args:
        count: how many threads to use; with one, or one task, the caller's own thread does the work.
        at_once: False lets one thread end before the next begins.
    """
    count = min(count, len(tasks))
    if count <= 1:
        return [task() for task in tasks]
    wanted, waiting = torch.is_grad_enabled(), iter(enumerate(tasks))
    found: dict[int, T] = {}

    def work() -> None:
        with torch.set_grad_enabled(wanted):
            for place, task in islice(waiting, None if at_once else -(-len(tasks) // count)):
                found[place] = task()

    processors, futures = max(1, torch.get_num_threads() // count), []
    try:
        for number in range(1, count + 1):
            futures.append(_thread(number, processors).submit(work))
            if not at_once:
                wait(futures)
        wait(futures)
    finally:  # an interrupted caller: threads end the task they are at and take no other
        deque(waiting, maxlen=0)
        wait(futures)
    for future in futures:
        future.result()
    return [found[place] for place in range(len(tasks))]


@cache
def _thread(number: int, processors: int) -> ThreadPoolExecutor:
    """The thread of a number, kept for the life of the process."""
    everywhere = torch.get_num_threads()

    def begin() -> None:
        _HERE.within = True
        torch.set_num_threads(processors)
        torch.get_num_threads()  # a thread takes the number of the moment when it first asks; let that be now

    executor = ThreadPoolExecutor(1, thread_name_prefix=f"part-{number}", initializer=begin)
    executor.submit(int).result()
    torch.set_num_threads(everywhere)  # later threads begin with the number that was set last
    return executor
