"""Work that is done in a thread before its result is needed."""

import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

T = TypeVar("T")


def ahead(items: Iterator[T], count: int) -> Iterator[T]:
    """The items of an iterator, of which a thread makes the next `count` in the meantime.

    An error of the iterator is raised where its item would have come.

    >>> list(ahead(iter("abc"), count=2))
    ['a', 'b', 'c']
    """
    end = object()
    # This thread must not take the cores of the arithmetic. torch sets the number of threads of the
    # calling thread and of all that have not asked for theirs, as the one that waits does here.
    torch.get_num_threads()
    pool = ThreadPoolExecutor(1, initializer=partial(torch.set_num_threads, 1))
    is_finalizing = sys.is_finalizing  # a local name outlives its module
    waiting: deque[Future[T | object]] = deque()
    try:
        waiting.extend(pool.submit(next, items, end) for _ in range(count))
        while True:
            item = waiting.popleft().result()
            if item is end:
                return
            waiting.append(pool.submit(next, items, end))
            yield item  # type: ignore[misc]  # no end
    finally:
        if not is_finalizing():  # else Python has ended the thread, and the pool's module is gone
            pool.shutdown(cancel_futures=True)
