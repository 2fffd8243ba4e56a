"""Work ahead in a thread leaves the caller as it is."""

from threading import Thread

import torch

from data.ahead import ahead


def test_the_thread_takes_one_core_and_leaves_the_caller_its_own():
    """A thread of its own stands for a process that has not computed anything yet."""
    threads = {}

    def call():
        torch.set_num_threads(3)
        threads["ahead"] = next(ahead(iter(torch.get_num_threads, None), 1))
        threads["caller"] = torch.get_num_threads()

    before = torch.get_num_threads()
    thread = Thread(target=call)
    thread.start()
    thread.join()
    torch.set_num_threads(before)
    assert threads == {"ahead": 1, "caller": 3}
