"""Initial weights one tensor at a time, for a network that no process holds as a whole."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

# A call of an operation: its function, arguments, keyword arguments and result.
Call = tuple[Any, Any, dict[str, Any], Any]


class Recorder(TorchDispatchMode):
    """Records every operation on tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result


def initial_tensors(make_network: Callable[[], nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Yield a network's parameters and buffers by name, bit for bit as `make_network` draws them.

    The network is built of fake tensors, which have shapes and no memory. What its constructor does
    with them is recorded, and done again with real ones; a tensor is forgotten when nothing more
    happens to it. The random numbers drawn are those that `make_network` draws.

    A constructor that asks for the value of a tensor, as nn.init.trunc_normal_ does, cannot be
    recorded: then the whole network is built.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> tensors = dict(initial_tensors(lambda: nn.Linear(2, 3)))
    >>> _ = torch.manual_seed(0)
    >>> torch.equal(tensors["weight"], nn.Linear(2, 3).weight)
    True

    """
    recorder = Recorder()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), recorder:
            network = make_network()
    except RuntimeError:  # among them all of FakeTensorMode's own
        network = make_network()
        yield from network.named_parameters()
        yield from network.named_buffers()
        return
    named = [*network.named_parameters(), *network.named_buffers()]
    names: dict[int, list[tuple[str, Tensor]]] = {}
    for name, tensor in named:
        names.setdefault(storage_of(tensor), []).append((name, tensor))
    last_use = {}
    for index, call in enumerate(recorder.calls):
        for tensor in tensors_of(call):
            last_use[storage_of(tensor)] = index

    storages: dict[int, Tensor] = {}  # the real tensor of each fake storage, flat
    for index, call in enumerate(recorder.calls):
        run_again(call, storages)
        for tensor in tensors_of(call):
            storage = storage_of(tensor)
            if last_use[storage] == index and storage in storages:
                for name, fake in names.get(storage, ()):
                    yield name, real_tensor(fake, storages)
                del storages[storage]


def run_again(call: Call, storages: dict[int, Tensor]) -> None:
    """Do with real tensors what was done with fake ones."""
    func, args, kwargs, fake_result = call

    def real(fake: FakeTensor) -> Tensor:
        return real_tensor(fake, storages)

    args, kwargs = tree_map_only(FakeTensor, real, (args, kwargs))
    result = func(*args, **kwargs)
    for fake, tensor in zip(tree_leaves(fake_result), tree_leaves(result), strict=True):
        if isinstance(fake, FakeTensor):
            storages.setdefault(storage_of(fake), tensor)


def real_tensor(fake: Tensor, storages: dict[int, Tensor]) -> Tensor:
    """The real tensor in the place of a fake one, which may be a view of another."""
    whole = storages[storage_of(fake)]
    return whole.as_strided(fake.shape, fake.stride(), fake.storage_offset())


def tensors_of(call: Call) -> list[FakeTensor]:
    """The fake tensors that a call reads or makes."""
    return [leaf for leaf in tree_leaves(call) if isinstance(leaf, FakeTensor)]


def storage_of(tensor: Tensor) -> int:
    """What tells the memory of a tensor, which its views share."""
    address: int = tensor.untyped_storage()._cdata
    return address
