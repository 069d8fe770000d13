"""Building blocks of the networks: normalisation (also over several processes), convolutions and CSP block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .distributed import all_reduce_sum, world_size

_MIN_GROUP_CHANNELS = 16  # Wu & He 2018: 16 channels per group are as accurate as 32 groups


class AllReduceBatchNorm(_BatchNorm):
    """Batch normalisation with the statistics of all processes, on CPUs too (torch's SyncBatchNorm needs GPUs).

    In evaluation and with a single process it is ordinary batch normalisation. Parameters and statistics have the
    same names as there, so that checkpoints are interchangeable.

    Shape:
        FloatTensor[N, channels] or [N, channels, H, W] -> the same shape; N may differ between processes.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 4):
            raise ValueError(f"expected [N, C] or [N, C, H, W], got {list(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(input)
        normalised, mean, variance, count = _AllReduceBatchNormFunction.apply(input, self.weight, self.bias, self.eps)
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), self.momentum)
            self.num_batches_tracked += 1
        return torch.as_tensor(normalised)


class _AllReduceBatchNormFunction(torch.autograd.Function):
    """Returns (x - mean) / sqrt(variance + eps) * weight + bias, and mean, variance and count over all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels, count = x.shape[1], x.numel() // x.shape[1]
        variance, mean = torch.var_mean(x.float(), _reduction_dims(x), correction=0)
        if count == 0:
            variance, mean = torch.zeros_like(mean), torch.zeros_like(mean)
        local_sums = torch.cat([mean, variance + mean.double() ** 2]).double() * count
        total = all_reduce_sum(torch.cat([local_sums, local_sums.new_tensor([count])]))
        total_count = total[-1]
        total_mean, square_mean = (total[:-1] / total_count).view(2, channels).unbind()
        mean, variance = total_mean.float(), (square_mean - total_mean**2).clamp(min=0).float()
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps), total_count)
        normalised = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        ctx.mark_non_differentiable(mean, variance, total_count)
        return normalised, mean, variance, total_count.float()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, inv_std, count = ctx.saved_tensors
        dims, per_channel = _reduction_dims(x), (1, -1, *[1] * (x.dim() - 2))
        grad = grad_output.float()
        x_hat = (x.float() - mean.view(per_channel)) * inv_std.view(per_channel)
        grad_bias, grad_weight = grad.sum(dims), (grad * x_hat).sum(dims)
        total = all_reduce_sum(torch.cat([grad_bias, grad_weight]).double()) / count
        mean_grad, mean_grad_x_hat = total.float().view(2, -1).unbind()
        centred_grad = grad - mean_grad.view(per_channel) - x_hat * mean_grad_x_hat.view(per_channel)
        grad_x = centred_grad * (weight * inv_std).view(per_channel)
        return grad_x.to(x.dtype), grad_weight, grad_bias, None


def _reduction_dims(x: Tensor) -> list[int]:
    return [0, *range(2, x.dim())]


def _to_sync_norm(norm: _BatchNorm) -> nn.Module:
    return AllReduceBatchNorm(norm.num_features, eps=norm.eps, momentum=norm.momentum)


def _to_group_norm(norm: _BatchNorm) -> nn.Module:
    channels = norm.num_features
    max_groups = max(channels // _MIN_GROUP_CHANNELS, 1)
    groups = next(count for count in range(max_groups, 0, -1) if channels % count == 0)
    return nn.GroupNorm(groups, channels, eps=norm.eps)


_NORM_CONVERTERS: dict[str, Callable[[_BatchNorm], nn.Module]] = {"sync": _to_sync_norm, "group": _to_group_norm}


def convert_norm(network: nn.Module, norm: Literal["batch", "sync", "group"]) -> None:
    """Replace each batch normalisation by another normalisation with the same weight and bias.

    Args:
        network: changed in place; its running statistics are lost, so it should have random weights.
        norm: "batch" changes nothing; "sync" is ``AllReduceBatchNorm``; "group" normalises each image by itself,
            over groups of at least 16 channels (Wu & He 2018, Group Normalization).
    """
    if norm == "batch":
        return
    for parent in list(network.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, _BatchNorm):
                new_norm = _NORM_CONVERTERS[norm](part)
                new_norm.load_state_dict({"weight": part.weight, "bias": part.bias}, strict=False)
                setattr(parent, name, new_norm)


class ConvNormAct(nn.Sequential):
    """Convolution, batch normalisation, SiLU; FloatTensor[B, in, H, W] -> [B, out, ceil(H/stride), ceil(W/stride)]."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.SiLU(inplace=True),
        )


class SeparableConv(nn.Sequential):
    """Depthwise convolution, then a 1x1 convolution (MobileNets, Howard et al. 2017).

    FloatTensor[B, in, H, W] -> [B, out, H, W], with about 1/9 of the multiplications of a full 3x3 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, *, bias: bool = False) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, out_channels, 1, bias=bias),
        )


class CspBlock(nn.Module):
    """Cross-stage-partial block: half of the channels pass through ``depth`` residual pairs of 3x3 convolutions.

    The outputs of all pairs are concatenated with the other half, so that gradients reach every depth directly
    (CSPNet, Wang et al. 2020; concatenating all outputs follows ELAN, Wang et al. 2022).
    """

    def __init__(self, in_channels: int, out_channels: int, depth: int) -> None:
        super().__init__()
        half = max(out_channels // 2, 1)
        self.enter = ConvNormAct(in_channels, 2 * half, kernel=1)
        self.pairs = nn.ModuleList(
            nn.Sequential(ConvNormAct(half, half), ConvNormAct(half, half)) for _ in range(depth)
        )
        self.leave = ConvNormAct((2 + depth) * half, out_channels, kernel=1)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.enter(x).chunk(2, dim=1))
        for pair in self.pairs:
            parts.append(parts[-1] + pair(parts[-1]))
        return torch.as_tensor(self.leave(torch.cat(parts, dim=1)))
