"""Weights divided among processes: torch's fully sharded data parallel (FSDP2), and back."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor, distributed, nn

if TYPE_CHECKING:  # importing it takes a second, which a training on one device saves
    from torch.distributed.device_mesh import DeviceMesh


def shard(module: nn.Module, mesh: "DeviceMesh") -> nn.Module:
    """Divide the weights of a module among the processes of a mesh, in place.

    Each block of a list of blocks (``nn.ModuleList``), such as a transformer's, is gathered while
    it computes and divided again; what lies outside of them is gathered for the whole step.

    Parameters
    ----------
    module : nn.Module
        Equal on all processes.
    mesh : DeviceMesh
        Of one dimension.
    """
    from torch.distributed.fsdp import fully_shard

    for part in list(module.modules()):
        if isinstance(part, nn.ModuleList):
            for block in part:
                if next(block.parameters(), None) is not None:
                    fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


def complete(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by name with those in shards whole; called by all processes together."""
    if not distributed.is_initialized():
        return dict(state)
    from torch.distributed.tensor import DTensor

    return {k: v.full_tensor() if isinstance(v, DTensor) else v for k, v in state.items()}


def divided(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return whole tensors by name, in shards where ``like`` has such of the same name and shape.

    Every process gives the whole tensors; nothing is sent.
    """
    if not distributed.is_initialized():
        return dict(state)
    from torch.distributed.tensor import DTensor, distribute_tensor

    result = {}
    for name, value in state.items():
        model = like.get(name)
        if isinstance(model, DTensor) and model.shape == value.shape:
            on_device = value.to(model.device, model.dtype)
            value = distribute_tensor(
                on_device, model.device_mesh, model.placements, src_data_rank=None
            )
        result[name] = value
    return result
