"""Schema of the configuration: all sections and keys, with their types, defaults and meanings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1, le=1_000_000)]  # upper bound of widths, sizes and numbers of steps
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Layers = Annotated[int, Field(ge=0, le=1000)]
Offset = Annotated[float, Field(ge=-10, le=10)]  # pixels; a larger value is not a label offset
Seed = Annotated[int, Field(ge=0, lt=2**63)]
MaxValue = Annotated[int, Field(ge=255, le=65535)]  # maximum gray value of a camera


class Section(BaseModel):
    """Base class of sections: unknown keys are refused, and values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_CSP_SIZES: dict[object, dict[str, Any]] = {
    "s": {"stem": 24, "widths": (48, 96, 192, 320), "depths": (1, 2, 3, 2)},
    "m": {"stem": 32, "widths": (64, 128, 256, 384), "depths": (1, 2, 3, 2)},
}


class CspConfig(Section):
    """CSP network; ``widths`` and ``depths`` have one entry per stage, at strides 4, 8, 16, 32."""

    name: Literal["csp"] = "csp"
    size: Literal["n", "s", "m"] = "n"  # defaults of the next three keys; the ones below are n
    stem: Positive = 16
    widths: tuple[Positive, ...] = (32, 64, 128, 192)
    depths: tuple[Layers, ...] = (1, 2, 2, 1)

    @model_validator(mode="before")
    @classmethod
    def _apply_size(cls, values: Any) -> Any:
        if not isinstance(values, dict) or not isinstance(values.get("size"), str):
            return values
        return {**_CSP_SIZES.get(values["size"], {}), **values}

    @model_validator(mode="after")
    def _check_stages(self) -> CspConfig:
        if len(self.widths) != len(self.depths) or not 2 <= len(self.widths) <= 5:
            raise ValueError(f"widths has {len(self.widths)} entries and depths {len(self.depths)}: give both 2 to 5")
        return self


class PlainConfig(Section):
    """Keys of both plain networks."""

    dropout: Fraction = 0.5  # on the deepest map
    norm: Literal["batch", "none"] = "batch"  # none: as published, but hard to train


class Plain3Config(PlainConfig):
    """Three 3x3 convolutions, each followed by 2x2 pooling; maps at strides 4 and 8."""

    name: Literal["plain3"] = "plain3"
    width: Positive = 32


class Plain5Config(PlainConfig):
    """Five 5x5 convolutions, each followed by 2x2 pooling; maps at strides 4, 8, 16, 32."""

    name: Literal["plain5"] = "plain5"
    width: Positive = 128


class RecurrentConvConfig(Section):
    """Recurrent convolutional network; ``widths`` has one entry per stage, at strides 4, 8, 16, 32."""

    name: Literal["recurrent_conv"] = "recurrent_conv"
    stem: Positive = 16
    widths: tuple[Positive, ...] = (32, 64, 128, 192)
    steps: Layers = 3  # recurrent steps of each layer; 0: no recurrence, with the same widths

    @model_validator(mode="after")
    def _check_stages(self) -> RecurrentConvConfig:
        if not 1 <= len(self.widths) <= 5:
            raise ValueError(f"widths has {len(self.widths)} entries: give 1 to 5")
        return self


class TorchvisionConfig(Section):
    """Classification network of torchvision, with maps at strides 4, 8, 16, 32."""

    name: Literal["torchvision"] = "torchvision"
    arch: str = "resnet18"  # a name of torchvision.models.list_models()
    weights: Literal["none", "hub"] | Path = "none"  # initial weights; hub: torchvision's; else a state dict file


def _backbone_name(backbone: Any) -> str:
    if isinstance(backbone, dict):
        return str(backbone.get("name", "csp"))
    return str(getattr(backbone, "name", "csp"))  # values that are no section are refused as CspConfig


BackboneConfig = Annotated[
    Annotated[CspConfig, Tag("csp")]
    | Annotated[Plain3Config, Tag("plain3")]
    | Annotated[Plain5Config, Tag("plain5")]
    | Annotated[RecurrentConvConfig, Tag("recurrent_conv")]
    | Annotated[TorchvisionConfig, Tag("torchvision")],
    Discriminator(_backbone_name),
]


BoxLoss = Literal["giou", "diou", "ciou", "smooth_l1"]
NmsMethod = Literal["hard", "gaussian", "super_gaussian"]


class RunConfig(Section):
    """Output of a run."""

    dir: Path = Path("runs/train")


class DataConfig(Section):
    """Input data of a run."""

    train: Path = Path("data/train.json")  # COCO JSON, image paths relative to it
    train_images: Positive | None = None  # number of images to use, balanced over classes; None: all
    allow_empty: bool = False  # train even if no image has a box
    val: Path | None = None  # COCO JSON; None: no validation and no best checkpoint
    channels: Literal[1, 3] = 1  # 1: gray, 3: RGB
    max_value: MaxValue | None = None  # white of 16-bit files: 1023 for 10 bits, 4095 for 12; None: 65535
    cache: bool = True  # keep decoded images in memory, with the bit depth of their files
    cache_gb: Annotated[float, Field(gt=0)] | None = None  # maximum cache size in GB; None: half of the free memory
    window: Positive | None = None  # side in pixels of random training windows of larger images; None: whole images
    workers: Count | Literal["auto"] = "auto"  # loader processes; auto: none on CPU


class ClipsConfig(Section):
    """Clips of consecutive frames for training ``model.memory``; ``augment`` sets their light, flips and crops."""

    length: Positive = 1  # frames per clip; 1: single images
    pan: bool = False  # make clips of still images by panning over them
    degraded: Fraction = 0.25  # fraction of frames that are blurred, over-exposed, noisy or dropped


class FpnConfig(Section):
    """Feature pyramid."""

    channels: Positive = 64
    smoothing: Literal["full", "separable"] = "full"  # 3x3 convolution of each level after the top-down addition
    single_stride: Positive | None = None  # only the level at this stride, without later stages; None: a pyramid of all


class ScanConfig(Section):
    """Recurrence over feature maps: bidirectional GRUs along rows, then along columns."""

    kind: Literal["gru", "conv"] = "gru"  # conv: the control, a convolution with the same number of parameters
    hidden: Positive = 32  # state size of the GRU per direction
    strides: tuple[Positive, ...] | None = None  # strides of the scanned levels; None: all from 8 on
    window: Positive = 32  # cells per window of long rows and columns
    overlap: Count = 16  # warm-up cells before and after each window


class MemoryConfig(Section):
    """Recurrent memory over the frames of a moving strip, trained on clips."""

    kind: Literal["gru", "stateless"] = "gru"  # stateless: the control, same parameters without a past state
    light: CspConfig | None = None  # backbone for frames between key frames; None: all are key frames
    light_proposals: Positive = 40  # proposals per frame for the box head between key frames
    light_share: Fraction = 0.5  # fraction of frames after a clip's first that train the light backbone
    predicted_share: Fraction = 0.15  # fraction of the same frames whose features are predicted from the state

    @model_validator(mode="after")
    def _check_shares(self) -> MemoryConfig:
        if self.light_share + self.predicted_share > 1:
            raise ValueError(
                f"light_share {self.light_share} and predicted_share {self.predicted_share} add up to over 1"
            )
        return self


class AnchorConfig(Section):
    """Anchors, fitted to the training boxes unless ``shapes`` is set."""

    per_level: Positive = 5
    shapes: tuple[tuple[tuple[float, float], ...], ...] | None = None  # [level][anchor](width, height), pixels


class RpnConfig(Section):
    """Region proposal network."""

    convs: Annotated[Layers, Field(ge=1)] = 1  # convolutions before the two outputs
    kernel: Literal["full", "separable"] = "full"  # full: 3x3 convolutions; separable: depthwise 5x5 and 1x1
    finest_stride: Positive | None = None  # finer levels have no anchors and are only used by RoIAlign; None: all have
    fg_iou: Fraction = 0.6
    bg_iou: Fraction = 0.3
    batch_per_image: Positive = 64  # anchors sampled for the loss; few, as images have few boxes
    positive_fraction: Fraction = 0.5
    nms_iou: Fraction = 0.7
    proposals_train: Positive = 300  # per level before NMS, and per image after it
    proposals_test: Positive = 150

    @model_validator(mode="after")
    def _check_iou_thresholds(self) -> RpnConfig:
        if self.bg_iou > self.fg_iou:
            raise ValueError(f"bg_iou {self.bg_iou} is above fg_iou {self.fg_iou}: an anchor would be both")
        return self


class RoiConfig(Section):
    """Box head: classifies and refines each proposal."""

    pool: Positive = 7  # cells per side of the RoIAlign output
    sampling: Positive = 2  # RoIAlign samples per side of each output cell
    canonical_side: Positive = 224  # side in pixels of boxes pooled at stride 16; half of it at stride 8, and so on
    convs: Layers = 1
    conv_width: Positive = 64
    fc_width: Positive = 256
    dropout: Fraction = 0.0
    fg_iou: Fraction = 0.5
    batch_per_image: Positive = 64  # proposals sampled for the loss
    positive_fraction: Fraction = 0.25
    num_denoising_boxes: Count = 5  # noisy copies of each ground-truth box, added to the proposals in training
    box_noise_scale: Annotated[float, Field(ge=0, lt=0.5)] = 0.2  # maximum shift of edges, as a fraction of the side
    box_loss: BoxLoss = "giou"
    box_loss_weight: Annotated[float, Field(ge=0)] = 10.0
    label_smoothing: Fraction = 0.0
    stages: Annotated[int, Field(ge=1, le=4)] = 1  # cascade stages, each applied to the boxes of the previous one
    iou_score_weight: Fraction = 0.0  # weight of the predicted IoU in the score; 0: no IoU prediction
    score_threshold: Fraction = 0.01
    nms_iou: Fraction = 0.5
    nms: NmsMethod = "hard"  # gaussian, super_gaussian: Soft-NMS, which lowers scores by overlap
    box_voting: bool = False  # replace each box by the weighted mean of the boxes that overlap it
    max_detections: Positive = 100  # per image


class ModelConfig(Section):
    """The detector, part by part."""

    input_size: Positive | None = None  # shorter side in pixels to which images are resized; None: no resizing
    norm: Literal["batch", "sync", "group"] = "batch"  # per process, over all processes, per image
    backbone: BackboneConfig = CspConfig()
    fpn: FpnConfig = FpnConfig()
    scan: ScanConfig | None = None  # None: no scan; {}: a scan with default values
    memory: MemoryConfig | None = None  # None: images are independent
    anchors: AnchorConfig = AnchorConfig()
    rpn: RpnConfig = RpnConfig()
    roi: RoiConfig = RoiConfig()

    @model_validator(mode="after")
    def _check_norm(self) -> ModelConfig:
        if self.norm == "group" and getattr(self.backbone, "weights", "none") != "none":
            raise ValueError("norm group can't use backbone.weights trained with batch norm: set norm to batch or sync")
        if self.norm == "sync" and self.memory is not None and self.memory.light is not None:
            raise ValueError(
                "norm sync needs all parts in every step, but some steps skip memory.light: set norm to group"
            )
        return self


class TrainConfig(Section):
    """Optimisation, schedule and initial weights."""

    init: Path | None = None  # run, checkpoint or released: initial weights and model section; None: random
    epochs: Positive = 60
    batch_size: Positive = 16
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1.5e-3  # peak learning rate
    weight_decay: Annotated[float, Field(ge=0)] = 0.05  # not on norms and biases
    momentum: Fraction = 0.9  # SGD only
    warmup_steps: Count = 200
    lr_floor: Annotated[float, Field(ge=0, le=1)] = 0.01  # final learning rate as a fraction of the peak
    clip_norm: Annotated[float, Field(gt=0)] | None = 5.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999  # 0: no averaging
    ema_reach: Annotated[float, Field(gt=0, le=0.5)] = 0.1  # mean age of averaged weights / number of steps so far
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 if the hardware supports it
    device: str = "auto"
    processes: Positive = 1  # on this machine, each with its share of every batch; for several machines use torchrun
    seed: Seed = 0
    deterministic: bool = False  # reproducible on a GPU too, but slower; on a CPU, training always is reproducible
    on_bad_step: Literal["stop", "skip"] = "stop"  # loss or gradient not finite, or loss above max_loss_ratio
    max_loss_ratio: Annotated[float, Field(gt=1)] | None = 20.0  # loss / median of the previous steps; None: no limit
    max_consecutive_skips: Count = 5  # one more skipped step in a row stops the training
    val_every: Positive = 5  # epochs between validations; the last epoch is always validated
    early_stop: Count = 0  # validations without improvement before stopping; 0: never
    best_metric: Literal["AP", "AP50", "AP75"] = "AP50"
    tensorboard: bool = False


class AugmentConfig(Section):
    """Random augmentation of the training images; fractions are probabilities, and 0 disables a change."""

    flip_h: Fraction = 0.5
    flip_v: Fraction = 0.5
    transpose: Fraction = 0.0  # of square images; directions along and across the strip are exchanged
    transpose_classes: tuple[str, ...] = ()  # only images whose boxes all have these classes; empty: all images
    crop: Fraction = 0.5  # fraction of cropped images; the others keep their original grain and scale
    crop_min: Annotated[float, Field(gt=0, le=1)] = 0.65  # minimum side of a crop, as a fraction of the image's
    aspect: Annotated[float, Field(ge=0, lt=1)] = 0.0  # scale the sides of a crop by 1 + and 1 - up to this fraction
    brightness: Fraction = 0.2
    contrast: Fraction = 0.3
    illumination: Fraction = 0.2  # strength of a linear light gradient across the image
    mosaic: Fraction = 0.0  # fraction of images made from four
    mosaic_scale: tuple[float, float] = (0.9, 1.6)  # side of the window cropped from the four, in image sides
    mosaic_off_epochs: Count = 10  # number of last epochs without mosaic
    label_offset_xy: tuple[Offset, Offset] = (0.0, 0.0)  # offset of labels from their objects in pixels (right, down)
    min_visible: Fraction = 0.3  # minimum visible fraction of a cut box; other boxes are dropped

    @model_validator(mode="after")
    def _check_mosaic_scale(self) -> AugmentConfig:
        low, high = self.mosaic_scale
        if not 0.25 <= low <= high <= 2:
            raise ValueError(f"mosaic_scale is {low} to {high}: give a range within 0.25 to 2")
        return self


class Config(Section):
    """Configuration of a run."""

    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    clips: ClipsConfig = ClipsConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
