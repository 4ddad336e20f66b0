"""Batch normalisation for any number of axes, over the whole batch of all processes."""

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from biopart.nn.processes import counts, several, summed


class BatchNorm(_BatchNorm):
    """Normalise channels of (B, C) or (B, C, *S) by the statistics of the whole batch.

    torch's own, which normalises a process's part of a batch, and whose ``SyncBatchNorm`` needs a
    GPU. Names of the state are torch's.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of axes."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; ValueError in training where a channel has one value in all."""
        own = input.numel() // max(input.shape[1], 1)
        if self.training and several():
            return self._shared(input, own)
        if self.training and own < 2:
            raise ValueError(
                "batch normalisation needs two items per step or more, but a batch has one; choose "
                "a batch size that leaves more than one item for the last batch of an epoch"
            )
        normed: Tensor = super().forward(input)
        return normed

    def _shared(self, values: Tensor, own: int) -> Tensor:
        """Normalise by the mean and variance over all processes."""
        axes = [axis for axis in range(values.dim()) if axis != 1]
        shape = (1, -1, *[1] * (values.dim() - 2))
        floats, share = values.float(), float(counts())
        count = summed(floats.new_tensor(own * share))
        mean = summed(share * floats.sum(axes)) / count
        centred = floats - mean.view(shape)
        variance = summed(share * centred.square().sum(axes)) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            pace = self.momentum if self.momentum is not None else 0.1
            self.running_mean.lerp_(mean, pace)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), pace)
        normed = centred * (variance + self.eps).rsqrt().view(shape)
        return (normed * self.weight.view(shape) + self.bias.view(shape)).to(values.dtype)
