"""Convolutional classification networks of torchvision as backbones."""

from __future__ import annotations

import difflib
import io
import warnings
from contextlib import redirect_stderr
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from ...errors import CheckpointError, ConfigError
from ..safe_load import load_tensors
from .staged import Backbone

_ARCH_KEY, _WEIGHTS_KEY = "model.backbone.arch", "model.backbone.weights"
_ARCH_HINT = "take another one, such as resnet18, mobilenet_v3_large or convnext_tiny"
_STRIDES = (4, 8, 16, 32)


class Torchvision(Backbone):
    """A classification network without its classifier; its maps are the last ones at each stride.

    For gray images, the kernels of its first convolution are summed over the colours, which gives the same outputs as
    a gray image repeated to RGB. Maps of the detector have ceil(side / stride) cells; for networks that round down,
    images are padded to a multiple of the largest stride.

    Args:
        in_channels: 1 for gray, 3 for RGB.
        arch: a name of ``torchvision.models.list_models(module=torchvision.models)``.

    Raises:
        ConfigError: no such network, or one without maps at strides 4, 8, 16 and 32, such as a vision transformer.
    """

    def __init__(self, in_channels: int, arch: str) -> None:
        super().__init__()
        self.in_channels, self.arch = in_channels, arch
        self.feature_info = find_feature_stages(arch)
        self.strides = [stage.stride for stage in self.feature_info.stages]
        self.out_channels = [stage.channels for stage in self.feature_info.stages]
        self._extract()

    @property
    def label(self) -> str:
        return f"torchvision's {self.arch}"

    def forward(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        side = 1 if self.feature_info.rounds_up else max(self.strides)
        maps = self.body(F.pad(images, (0, -width % side, 0, -height % side)))
        return [maps[str(stride)][..., : -(-height // stride), : -(-width // stride)] for stride in self.strides]

    def load_weights(self, source: Path | Literal["hub"]) -> None:
        """Load weights from a file, or torchvision's default weights of the network.

        Args:
            source: file with a state dict of the network, for RGB or for ``in_channels`` channels; its classifier is
                ignored. "hub" downloads torchvision's weights once into the cache of ``torch.hub``.

        Raises:
            CheckpointError: the file can't be read, or holds the weights of another network.
            ConfigError: the download failed.
        """
        weights = _download_weights(self.arch) if source == "hub" else _read_state_dict(Path(source))
        first = f"{self._first_conv}.weight"
        if self.in_channels == 1 and first in weights:
            weights[first] = weights[first].sum(dim=1, keepdim=True)
        expected = self.body.state_dict()
        for name, value in expected.items():
            is_counter = name.endswith("num_batches_tracked")  # missing in weights of old versions of torch
            if not is_counter and (name not in weights or weights[name].shape != value.shape):
                reason = f"{name} has another shape" if name in weights else f"{name} is missing"
                message = f"the weights are not those of {self.arch}: {reason}"
                fix = f"give weights of {self.arch}, or set {_ARCH_KEY} to their network"
                raise CheckpointError(message, where=source, fix=fix)
        self.body.load_state_dict({name: weights.get(name, value) for name, value in expected.items()})

    def _extract(self) -> None:
        nodes = {stage.node: str(stage.stride) for stage in self.feature_info.stages if stage.stride in self.strides}
        self.body = create_feature_extractor(_random_network(self.arch), nodes, suppress_diff_warning=True)
        self._first_conv, conv = next(
            (name, part) for name, part in self.body.named_modules() if isinstance(part, nn.Conv2d)
        )
        if self.in_channels == 1:
            conv.weight = nn.Parameter(conv.weight.detach().sum(dim=1, keepdim=True))
            conv.in_channels = 1

    def _drop_after(self, level: int) -> None:
        self._extract()


class FeatureStage(NamedTuple):
    """The node of a network whose output is its map at a stride."""

    node: str  # name in the graph of torchvision's feature extraction
    stride: int
    channels: int


class FeatureInfo(NamedTuple):
    """Stages and rounding of a classification network."""

    stages: tuple[FeatureStage, ...]
    rounds_up: bool  # whether maps have ceil(side / stride) cells per side


@lru_cache
def find_feature_stages(arch: str) -> FeatureInfo:
    """Find the stages of a network by running its graph, without weights, on images of two sizes.

    The map of a stride is the last one of its size that dominates the output: the output of a stage, never a node
    inside a block that a shortcut bypasses.

    Raises:
        ConfigError: no such network, one that can't run on images of any size, or one without such maps.
    """
    with torch.device("meta"):  # allocates no weights; only the shapes of maps are needed
        network = _random_network(arch).eval()
    try:
        nodes = get_graph_node_names(network, suppress_diff_warning=True)[1]
        extractor = create_feature_extractor(network, {node: node for node in nodes}, suppress_diff_warning=True).eval()
        with redirect_stderr(io.StringIO()):  # torch.fx prints the error that is raised below
            maps = extractor(torch.zeros(2, 3, 256, 320, device="meta"))
    except (AssertionError, RuntimeError, TypeError, ValueError):
        message = f"'{arch}' works on images of one size only, or has no static graph"
        raise ConfigError(message, where=_ARCH_KEY, fix=_ARCH_HINT) from None
    stages = {}
    for name in _dominator_nodes(extractor.graph):
        shape = tuple(maps[name].shape) if isinstance(maps[name], Tensor) else ()
        for stride in _STRIDES:
            if shape[2:] == (256 // stride, 320 // stride):
                stages[stride] = FeatureStage(name, stride, shape[1])
    if tuple(stages) != _STRIDES:
        missing = ", ".join(f"1/{stride}" for stride in _STRIDES if stride not in stages)
        raise ConfigError(
            f"'{arch}' has no feature map of {missing} of the image's size", where=_ARCH_KEY, fix=_ARCH_HINT
        )
    # rounding up and down differ most at one pixel above or below a multiple of 32
    odd = extractor(torch.zeros(2, 3, 257, 287, device="meta"))
    sides = [tuple(odd[stage.node].shape[2:]) for stage in stages.values()]
    return FeatureInfo(tuple(stages.values()), sides == [(-(-257 // s), -(-287 // s)) for s in stages])


def _dominator_nodes(graph: fx.Graph) -> list[str]:
    """Names of the nodes that every path from the input to the output goes through, in order."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    output = next(node for node in graph.nodes if node.op == "output")
    names, needed_until = [], 0
    for name, node in output.args[0].items():
        if node.op != "get_attr" and needed_until <= order[node]:
            names.append(name)
        needed_until = max([needed_until, *(order[user] for user in node.users if user is not output)])
    return names


def _random_network(arch: str) -> nn.Module:
    names = torchvision.models.list_models(module=torchvision.models)
    if arch not in names:
        near = difflib.get_close_matches(arch.lower(), names, n=3, cutoff=0.4)
        fix = f"did you mean {' or '.join(near)}?" if near else "torchvision.models.list_models() names all"
        raise ConfigError(f"torchvision has no network '{arch}'", where=_ARCH_KEY, fix=fix)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two networks warn that their initialisation will change
        try:
            network: nn.Module = torchvision.models.get_model(arch, weights=None)
        except NotImplementedError:  # RegNet computes its widths with tensors, which fails on the meta device
            with torch.device("cpu"):
                network = torchvision.models.get_model(arch, weights=None).to("meta")
    return network


def _download_weights(arch: str) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = torchvision.models.get_model(arch, weights="DEFAULT", progress=False).state_dict()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "reason", None) or error
        message = f"can't download torchvision's weights of {arch} ({reason})"
        raise ConfigError(message, where=_WEIGHTS_KEY, fix="connect to the internet, or give a file") from None
    return state


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    fix = "give a file written by torch.save(network.state_dict(), path)"
    try:
        state = load_tensors(path, third_party=True)
    except OSError as error:
        message = f"can't read the weights ({error.strerror})"
        raise CheckpointError(message, where=path, fix=f"check {_WEIGHTS_KEY}") from None
    except CheckpointError:
        message = "the file is damaged, or holds more than weights, so it was not loaded"
        raise CheckpointError(message, where=path, fix=fix) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError("the file holds no state dict (name to tensor)", where=path, fix=fix)
    return state
