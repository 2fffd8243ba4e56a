"""A network whose weights are divided between processes: --strategy fsdp."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from cli.component import build
from model.checks import built_loss
from model.deferred import initial_tensors
from training.fast import FastClassifier, compile_layers


class ShardedClassifier(FastClassifier):
    """A FastClassifier of which each process holds a share of every weight (FSDP2).

    The network is built on the meta device, without memory. When processes and devices are known
    each draws one tensor after the other as one process would, and keeps its share: the initial
    weights are those of one process, bit for bit, and no process holds more than a tensor.

    Args:
        *args: Arguments of FastClassifier.
        **kwargs: Arguments of FastClassifier.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.random_state = torch.get_rng_state()
        with torch.device("meta"):
            super().__init__(*args, **kwargs)
        self.loss = built_loss(build("loss", self.hparams["loss"]))  # with its classes' weights

    def configure_model(self) -> None:
        if isinstance(self.network, FSDPModule):  # the test comes after the fit
            return
        if self.compiles:
            compile_layers(units(self.network))
        mesh = init_device_mesh(self.trainer.strategy.root_device.type, (self.trainer.world_size,))
        for module in [*units(self.network), self.network]:
            module.register_forward_hook(without_view)
            sharded: FSDPModule = fully_shard(module, mesh=mesh)
            if mesh.device_type == "cpu":
                sharded.set_force_sum_reduction_for_comms(True)  # gloo cannot average
        self.network.to_empty(device=self.trainer.strategy.root_device)
        self.draw_weights()

    def weight_sum(self) -> Tensor:
        total: Any = super().weight_sum()
        whole: Tensor = total.full_tensor()  # of a tensor whose shares are at the processes
        return whole

    @torch.no_grad()
    def draw_weights(self) -> None:
        """Draw the initial weights, and keep this process's share of each."""
        tensors = dict(self.network.named_parameters()) | dict(self.network.named_buffers())
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self.random_state)
            for name, whole in initial_tensors(self.make_network):
                mine = tensors[name]
                if isinstance(mine, DTensor):
                    whole = whole.to(mine.device)
                    whole = distribute_tensor(
                        whole, mine.device_mesh, mine.placements, src_data_rank=None
                    )
                mine.copy_(whole)


def without_view(module: nn.Module, inputs: Any, output: Any) -> Any:
    """A copy of an output that is a view, such as a transposed one.

    FSDP waits for the gradient of a module's output, and would lose its hook if a view is changed
    in place.
    """
    if isinstance(output, Tensor) and output._is_view():  # as torch asks; there is no public way
        return output.clone()
    return output


def units(network: nn.Module) -> Iterator[nn.Module]:
    """The modules whose weights are gathered together: the layers or blocks of a network."""
    for module in network.children():
        if isinstance(module, nn.ModuleList | nn.ModuleDict):
            yield from units(module)
        elif any(True for _ in module.parameters()):
            yield module
