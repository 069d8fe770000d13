"""Building blocks of the networks: normalisation, convolution, CSP block, weights that agree over processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .distributed import all_reduce_sum, world_size

_MIN_GROUP_CHANNELS = 16  # of a group (Wu & He 2018, who found as many to do as well as 32 groups)


class AllReduceBatchNorm(_BatchNorm):
    """Batch normalisation with the statistics of all processes; alone, or in evaluation, the ordinary one.

    torch's SyncBatchNorm does the same on GPUs alone. Parameters and statistics have the same names, so that a
    checkpoint of the one is one of the other.

    Shape:
        FloatTensor[N, channels] or [N, channels, H, W], N may differ between processes -> the same shape.
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
    """(x - mean) / sqrt(variance + eps) * weight + bias over all processes, and what the running statistics take."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels, count = x.shape[1], x.numel() // x.shape[1]
        variance, mean = torch.var_mean(x.float(), _reduction_dims(x), correction=0)
        if count == 0:
            variance, mean = torch.zeros_like(mean), torch.zeros_like(mean)
        own = torch.cat([mean, variance + mean.double() ** 2]).double() * count
        total = all_reduce_sum(torch.cat([own, own.new_tensor([count])]))
        counted = total[-1]
        over_all, square = (total[:-1] / counted).view(2, channels).unbind()
        mean, variance = over_all.float(), (square - over_all**2).clamp(min=0).float()
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps), counted)
        normalised = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        ctx.mark_non_differentiable(mean, variance, counted)
        return normalised, mean, variance, counted.float()

    @staticmethod
    def backward(ctx: Any, slope: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale, count = ctx.saved_tensors
        over, each = _reduction_dims(x), (1, -1, *[1] * (x.dim() - 2))
        slope_float = slope.float()
        standard = (x.float() - mean.view(each)) * scale.view(each)
        of_bias, of_weight = slope_float.sum(over), (slope_float * standard).sum(over)
        total = all_reduce_sum(torch.cat([of_bias, of_weight]).double()) / count
        mean_slope, along = total.float().view(2, -1).unbind()
        of_x = (slope_float - mean_slope.view(each) - standard * along.view(each)) * (weight * scale).view(each)
        return of_x.to(x.dtype), of_weight, of_bias, None


def _reduction_dims(x: Tensor) -> list[int]:
    return [0, *range(2, x.dim())]


def _to_sync_norm(norm: _BatchNorm) -> nn.Module:
    return AllReduceBatchNorm(norm.num_features, eps=norm.eps, momentum=norm.momentum)


def _to_group_norm(norm: _BatchNorm) -> nn.Module:
    channels = norm.num_features
    most = max(channels // _MIN_GROUP_CHANNELS, 1)
    groups = next(count for count in range(most, 0, -1) if channels % count == 0)
    return nn.GroupNorm(groups, channels, eps=norm.eps)


_NORM_CONVERTERS: dict[str, Callable[[_BatchNorm], nn.Module]] = {"sync": _to_sync_norm, "group": _to_group_norm}


def convert_norm(network: nn.Module, norm: Literal["batch", "sync", "group"]) -> None:
    """Put another normalisation in the place of each batch normalisation; its weight and bias are kept.

    Args:
        network: changed in place; of random weights, as running statistics are lost.
        norm: "batch" leaves all as it is; "sync" is ``AllReduceBatchNorm``; "group" normalises each image by itself,
            over groups of at least 16 channels (Wu & He 2018, Group Normalization).
    """
    if norm == "batch":
        return
    for parent in list(network.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, _BatchNorm):
                other = _NORM_CONVERTERS[norm](part)
                other.load_state_dict({"weight": part.weight, "bias": part.bias}, strict=False)
                setattr(parent, name, other)


class ConvNormAct(nn.Sequential):
    """Convolution, batch normalisation, SiLU; FloatTensor[B, in, H, W] -> [B, out, ceil(H/stride), ceil(W/stride)]."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.SiLU(inplace=True),
        )


class SeparableConv(nn.Sequential):
    """A convolution of each channel alone, then one of 1x1 over all of them (Howard et al. 2017, MobileNets).

    FloatTensor[B, in, H, W] -> [B, out, H, W], in about a ninth of the multiplications of a full 3x3 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, *, bias: bool = False) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels, bias=False),
            nn.Conv2d(in_channels, out_channels, 1, bias=bias),
        )


class CspBlock(nn.Module):
    """Cross-stage-partial block: half of the channels pass ``depth`` residual pairs of 3x3 convolutions.

    The outputs of all pairs are kept and joined with the untouched half, so that gradients reach every depth
    directly (Wang et al. 2020, CSPNet; the dense joining follows ELAN, Wang et al. 2022).
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
