"""A device that computes on the CPU, but does not mix with it: a GPU's rules without a GPU.

Its tensors say that they live on `pretend:0`. An operation of one of them and a tensor of the CPU
raises an error, as on a GPU, and the number of copies back to the CPU is counted, since a GPU waits
at each. Once imported, the device is there for the whole process: see test_devices.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

from training.event_files import RunLogger


class Backend(_DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self):
        return []


_setup_privateuseone_for_python_backend("pretend", Backend())
DEVICE = torch.device("pretend", 0)

# A GPU takes indices from the CPU too; it copies them to itself.
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")


class PretendTensor(torch.Tensor):
    """A tensor of the pretended device, around one of the CPU."""

    @staticmethod
    def __new__(cls, data):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            data.size(),
            strides=data.stride(),
            storage_offset=data.storage_offset(),
            dtype=data.dtype,
            device=DEVICE,
        )
        tensor.on_cpu = data
        return tensor

    def tolist(self):
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol):  # a checkpoint holds it as a tensor of the CPU
        return self.on_cpu.detach().__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
        return compute(operation, args, kwargs or {})


class Pretending(TorchDispatchMode):
    """While it is entered, `device=DEVICE` makes PretendTensors. `copies` counts those back."""

    copies = 0

    def __enter__(self):
        # torch.tensor(..., device=...) otherwise asks for a kernel of the device.
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error):
        torch._C._set_only_lift_cpu_tensors(False)
        return super().__exit__(*error)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = compute(operation, args, kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        is_here = any(isinstance(leaf, PretendTensor) for leaf in tensors)
        if is_here and not isinstance(result, PretendTensor | list | tuple | None):
            self.copies += 1
        return result


def compute(operation, args, kwargs):
    """The operation's result, on the device where a GPU would leave it.

    Raises:
        RuntimeError: It mixes the two devices.
    """
    name = operation._schema.name
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    is_here = any(isinstance(tensor, PretendTensor) for tensor in tensors)
    result_is_here = is_here
    if kwargs.get("device") is not None:
        result_is_here = torch.device(kwargs["device"]).type == DEVICE.type
        if result_is_here:
            kwargs = kwargs | {"device": "cpu"}
    elif name == "aten::copy_":
        result_is_here = isinstance(args[0], PretendTensor)
    elif is_here and name not in INDEXING:
        for tensor in tensors:
            if tensor.dim() and not isinstance(tensor, PretendTensor):
                raise RuntimeError(f"{name}: a tensor {tuple(tensor.shape)} is on the CPU")

    def unwrapped(leaf):
        return leaf.on_cpu if isinstance(leaf, PretendTensor) else leaf

    def wrapped(leaf):
        return PretendTensor(leaf) if isinstance(leaf, torch.Tensor) else leaf

    result = operation(*tree_map(unwrapped, args), **tree_map(unwrapped, kwargs))
    if not result_is_here:
        return result
    result = tree_map(wrapped, result)
    if not is_here or torch.is_inference_mode_enabled():
        return result
    return return_and_correct_aliasing(operation, args, kwargs, result)


class PretendAccelerator(CPUAccelerator):
    """Lets Lightning train on the pretended device."""

    def setup_device(self, device):
        pass


def pretend_trainer(accelerator, devices, strategy, num_nodes, **arguments):
    """A Trainer on the pretended device, of train.py's and evaluate.py's arguments."""
    return Trainer(
        accelerator=PretendAccelerator(),
        devices=1,
        strategy=SingleDeviceStrategy(device=DEVICE),
        inference_mode=False,  # a wrapper cannot be a view of an inference tensor
        **arguments,
    )


@contextmanager
def pretending(monkeypatch) -> Iterator[Pretending]:
    """In this block train.py and evaluate.py compute on the pretended device."""
    with monkeypatch.context() as patch, Pretending() as mode:
        for command in ("train", "evaluate"):
            patch.setattr(f"{command}.Trainer", pretend_trainer)
        # torch.jit, which draws the graph, does not see through a dispatch mode.
        patch.setattr(RunLogger, "draw_graph", lambda *arguments: None)
        yield mode
