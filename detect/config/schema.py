"""The whole configuration as one typed tree, with every default and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1, le=1_000_000)]  # no width, size or number of steps is larger
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Layers = Annotated[int, Field(ge=0, le=1000)]
Offset = Annotated[float, Field(ge=-10, le=10)]  # pixels; a larger offset has another cause
Seed = Annotated[int, Field(ge=0, lt=2**63)]
MaxValue = Annotated[int, Field(ge=255, le=65535)]  # the largest gray value of a camera


class Section(BaseModel):
    """A part of the tree; unknown keys are refused, values don't change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


_CSP_SIZES: dict[object, dict[str, Any]] = {
    "s": {"stem": 24, "widths": (48, 96, 192, 320), "depths": (1, 2, 3, 2)},
    "m": {"stem": 32, "widths": (64, 128, 256, 384), "depths": (1, 2, 3, 2)},
}


class CspConfig(Section):
    """The CSP network: one entry of ``widths`` and ``depths`` a stage, at strides 4, 8, 16, 32."""

    name: Literal["csp"] = "csp"
    size: Literal["n", "s", "m"] = "n"  # what the three keys below are where they aren't given; n is written here
    stem: Positive = 16
    widths: tuple[Positive, ...] = (32, 64, 128, 192)
    depths: tuple[Layers, ...] = (1, 2, 2, 1)

    @model_validator(mode="before")
    @classmethod
    def _sized(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not isinstance(given.get("size"), str):
            return given
        return {**_CSP_SIZES.get(given["size"], {}), **given}

    @model_validator(mode="after")
    def _one_depth_a_stage(self) -> CspConfig:
        if len(self.widths) != len(self.depths) or not 2 <= len(self.widths) <= 5:
            raise ValueError(f"widths has {len(self.widths)} entries and depths {len(self.depths)}: give both 2 to 5")
        return self


class PlainConfig(Section):
    """What the two plain networks have in common."""

    dropout: Fraction = 0.5  # of the deepest map
    norm: Literal["batch", "none"] = "batch"  # none: as published; hard to train without


class Plain3Config(PlainConfig):
    """Three 3x3 convolutions, each followed by 2x2 pooling; maps at strides 4 and 8."""

    name: Literal["plain3"] = "plain3"
    width: Positive = 32


class Plain5Config(PlainConfig):
    """Five 5x5 convolutions, each followed by 2x2 pooling; maps at strides 4, 8, 16, 32."""

    name: Literal["plain5"] = "plain5"
    width: Positive = 128


class RecurrentConvConfig(Section):
    """Recurrent convolutional layers, one entry of ``widths`` a stage, at strides 4, 8, 16, 32."""

    name: Literal["recurrent_conv"] = "recurrent_conv"
    stem: Positive = 16
    widths: tuple[Positive, ...] = (32, 64, 128, 192)
    steps: Layers = 3  # times that the recurrent weights are applied; 0: a plain network of equal width

    @model_validator(mode="after")
    def _a_pyramid_of_stages(self) -> RecurrentConvConfig:
        if not 1 <= len(self.widths) <= 5:
            raise ValueError(f"widths has {len(self.widths)} entries: give 1 to 5")
        return self


class TorchvisionConfig(Section):
    """A classification network of torchvision, its maps at all strides from 4 on."""

    name: Literal["torchvision"] = "torchvision"
    arch: str = "resnet18"  # as torchvision.models.list_models() names it
    weights: Literal["none", "hub"] | Path = (
        "none"  # to start from; hub: torchvision's own; else a file of a state dict
    )


def _name(backbone: Any) -> str:
    if isinstance(backbone, dict):
        return str(backbone.get("name", "csp"))
    return str(getattr(backbone, "name", "csp"))  # what is no section is refused as a csp that isn't one


BackboneConfig = Annotated[
    Annotated[CspConfig, Tag("csp")]
    | Annotated[Plain3Config, Tag("plain3")]
    | Annotated[Plain5Config, Tag("plain5")]
    | Annotated[RecurrentConvConfig, Tag("recurrent_conv")]
    | Annotated[TorchvisionConfig, Tag("torchvision")],
    Discriminator(_name),
]


BoxLoss = Literal["giou", "diou", "ciou", "smooth_l1"]
NmsMethod = Literal["hard", "gaussian", "super_gaussian"]


class RunConfig(Section):
    """Where a run writes."""

    dir: Path = Path("runs/train")


class DataConfig(Section):
    """What a run reads."""

    train: Path = Path("data/train.json")  # COCO JSON, image paths relative to it
    train_images: Positive | None = None  # so many of them, even over classes; None: all
    allow_empty: bool = False  # train also if no image has a box
    val: Path | None = None  # COCO JSON; None: no validation, no best checkpoint
    channels: Literal[1, 3] = 1  # 1: gray all the way; 3: RGB
    max_value: MaxValue | None = None  # white of 16-bit files: 1023 where they hold 10 bits, 4095 for 12; None: 65535
    cache: bool = True  # keep decoded images in memory, in the depth of their files
    cache_gb: Annotated[float, Field(gt=0)] | None = None  # most memory for that; None: half of what is free
    window: Positive | None = None  # side in pixels of the parts that larger images are trained on; None: whole images
    workers: Count | Literal["auto"] = "auto"  # loader processes; auto: none on CPU


class ClipsConfig(Section):
    """Clips of consecutive frames, which memory learns from; their light, flips and crops are those of ``augment``."""

    length: Positive = 1  # frames a clip; 1: single images
    pan: bool = False  # make clips of still images, by panning over them
    degraded: Fraction = 0.25  # share of frames blurred, over-exposed, noisy or dropped


class FpnConfig(Section):
    """Feature pyramid."""

    channels: Positive = 64
    smoothing: Literal["full", "separable"] = "full"  # 3x3 convolution of each level after the joining
    single_stride: Positive | None = None  # one level alone, without what comes after it; None: a pyramid of all


class ScanConfig(Section):
    """Recurrence over the features: a GRU along their rows, then along their columns, both ways."""

    kind: Literal["gru", "conv"] = "gru"  # conv: the control, a convolution with as many parameters
    hidden: Positive = 32  # state of the GRU, each way
    strides: tuple[Positive, ...] | None = None  # levels; None: all from stride 8 on
    window: Positive = 32  # cells that a GRU is run for at a time
    overlap: Count = 16  # cells before and after them that it is run for as well


class MemoryConfig(Section):
    """Memory over the frames of a moving strip; trains on clips."""

    kind: Literal["gru", "stateless"] = "gru"  # stateless: the control, as many parameters and no past
    light: CspConfig | None = None  # backbone of the frames between key frames; None: all are key frames
    light_proposals: Positive = 40  # that the box head classifies in such a frame
    light_share: Fraction = 0.5  # share of a clip's frames after the first that train the light backbone
    predicted_share: Fraction = 0.15  # share of them predicted instead of seen, so that prediction is learned

    @model_validator(mode="after")
    def _shares_of_one_whole(self) -> MemoryConfig:
        if self.light_share + self.predicted_share > 1:
            raise ValueError(
                f"light_share {self.light_share} and predicted_share {self.predicted_share} add up to over 1"
            )
        return self


class AnchorConfig(Section):
    """Anchors: fitted to the training boxes unless ``shapes`` gives them."""

    per_level: Positive = 5
    shapes: tuple[tuple[tuple[float, float], ...], ...] | None = None  # [level][anchor](width, height), pixels


class RpnConfig(Section):
    """Region proposal network."""

    convs: Annotated[Layers, Field(ge=1)] = 1  # convolutions before the two outputs
    kernel: Literal["full", "separable"] = "full"  # of each: 3x3, or 5x5 for each channel alone and 1x1 over all
    finest_stride: Positive | None = None  # levels finer than it propose nothing, boxes are pooled there alone
    fg_iou: Fraction = 0.6
    bg_iou: Fraction = 0.3
    batch_per_image: Positive = 64  # anchors that the loss samples; few, as an image has few boxes
    positive_fraction: Fraction = 0.5
    nms_iou: Fraction = 0.7
    proposals_train: Positive = 300  # kept before NMS a level, and after it in all
    proposals_test: Positive = 150

    @model_validator(mode="after")
    def _background_below_object(self) -> RpnConfig:
        if self.bg_iou > self.fg_iou:
            raise ValueError(f"bg_iou {self.bg_iou} is above fg_iou {self.fg_iou}: an anchor would be both")
        return self


class RoiConfig(Section):
    """Box head: classifies and refines each proposal."""

    pool: Positive = 7  # RoIAlign output side
    sampling: Positive = 2  # RoIAlign samples a side of each output cell
    canonical_side: Positive = 224  # side in pixels of a box pooled at stride 16; half of it at stride 8, and so on
    convs: Layers = 1
    conv_width: Positive = 64
    fc_width: Positive = 256
    dropout: Fraction = 0.0
    fg_iou: Fraction = 0.5
    batch_per_image: Positive = 64  # proposals that the loss samples
    positive_fraction: Fraction = 0.25
    num_denoising_boxes: Count = 5  # of every true box, shaken and added to the proposals in training
    box_noise_scale: Annotated[float, Field(ge=0, lt=0.5)] = 0.2  # largest shift of each edge, as a share of the side
    box_loss: BoxLoss = "giou"
    box_loss_weight: Annotated[float, Field(ge=0)] = 10.0
    label_smoothing: Fraction = 0.0
    stages: Annotated[int, Field(ge=1, le=4)] = 1  # cascade stages, each on the boxes of the one before
    iou_score_weight: Fraction = 0.0  # share in a score of the IoU predicted for its box; 0: no prediction
    score_threshold: Fraction = 0.01
    nms_iou: Fraction = 0.5
    nms: NmsMethod = "hard"  # gaussian, super_gaussian: Soft-NMS, overlap lowers a score instead
    box_voting: bool = False  # each box moves to the mean of those that overlap it
    max_detections: Positive = 100  # an image


class ModelConfig(Section):
    """The detector, part by part."""

    input_size: Positive | None = None  # shorter side in pixels; None: the data's own size
    norm: Literal["batch", "sync", "group"] = "batch"  # over a process's share of a batch, the whole batch, each image
    backbone: BackboneConfig = CspConfig()
    fpn: FpnConfig = FpnConfig()
    scan: ScanConfig | None = None  # None: no recurrence; {} switches it on as it stands above
    memory: MemoryConfig | None = None  # None: every image is seen alone
    anchors: AnchorConfig = AnchorConfig()
    rpn: RpnConfig = RpnConfig()
    roi: RoiConfig = RoiConfig()

    @model_validator(mode="after")
    def _a_norm_that_fits(self) -> ModelConfig:
        if self.norm == "group" and getattr(self.backbone, "weights", "none") != "none":
            raise ValueError("norm group can't go on from backbone.weights learned with batch norm: take batch or sync")
        if self.norm == "sync" and self.memory is not None and self.memory.light is not None:
            raise ValueError("norm sync needs every part in every step, and memory.light rests in some: take group")
        return self


class TrainConfig(Section):
    """The schedule, and what it starts from."""

    init: Path | None = None  # run, checkpoint or released: weights and model section to start from; None: random
    epochs: Positive = 60
    batch_size: Positive = 16
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1.5e-3  # peak learning rate
    weight_decay: Annotated[float, Field(ge=0)] = 0.05  # not on norms and biases
    momentum: Fraction = 0.9  # SGD only
    warmup_steps: Count = 200
    lr_floor: Annotated[float, Field(ge=0, le=1)] = 0.01  # last learning rate as a share of the peak
    clip_norm: Annotated[float, Field(gt=0)] | None = 5.0
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999  # 0: no averaging
    ema_reach: Annotated[float, Field(gt=0, le=0.5)] = 0.1  # share of the steps so far that it reaches back in the mean
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 where the hardware multiplies it
    device: str = "auto"
    processes: Positive = 1  # on this machine, each with its share of every batch; torchrun starts them on several
    seed: Seed = 0
    deterministic: bool = False  # on a GPU too, where it is slower; on a CPU the same seed always gives the same
    on_bad_step: Literal["stop", "skip"] = "stop"  # at a loss or gradient that is no number, or an absurd loss
    max_loss_ratio: Annotated[float, Field(gt=1)] | None = 20.0  # to the median of the steps before; None: no limit
    max_consecutive_skips: Count = 5  # after as many skipped steps, one more stops the training
    val_every: Positive = 5  # epochs between validations; the last epoch is always judged
    early_stop: Count = 0  # validations without a better score before stopping; 0: never
    best_metric: Literal["AP", "AP50", "AP75"] = "AP50"
    tensorboard: bool = False


class AugmentConfig(Section):
    """Random changes of the training images; 0 switches one off."""

    flip_h: Fraction = 0.5
    flip_v: Fraction = 0.5
    transpose: Fraction = 0.0  # share of square images transposed: what was along the strip is across it
    transpose_classes: tuple[str, ...] = ()  # of those alone that show these classes and no others; none named: of all
    crop: Fraction = 0.5  # share of images cropped; the others keep the grain and scale that the detector will meet
    crop_min: Annotated[float, Field(gt=0, le=1)] = 0.65  # smallest side of a crop, as a share of the image's
    aspect: Annotated[float, Field(ge=0, lt=1)] = 0.0  # the crop's sides differ by up to this share
    brightness: Fraction = 0.2
    contrast: Fraction = 0.3
    illumination: Fraction = 0.2  # strength of a linear light gradient across the image
    mosaic: Fraction = 0.0  # share of images made from four
    mosaic_scale: tuple[float, float] = (0.9, 1.6)  # side of the window cut from the four, in image sides
    mosaic_off_epochs: Count = 10  # the last epochs see whole images only
    label_offset_xy: tuple[Offset, Offset] = (0.0, 0.0)  # how far labels lie right of and below what they mark, pixels
    min_visible: Fraction = 0.3  # a cut box stays if this share of it or more is left

    @model_validator(mode="after")
    def _window_inside_the_four(self) -> AugmentConfig:
        low, high = self.mosaic_scale
        if not 0.25 <= low <= high <= 2:
            raise ValueError(f"mosaic_scale is {low} to {high}: give a range within 0.25 to 2")
        return self


class Config(Section):
    """Everything that defines a run."""

    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    clips: ClipsConfig = ClipsConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    augment: AugmentConfig = AugmentConfig()
