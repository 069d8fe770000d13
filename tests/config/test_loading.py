"""Configuration: YAML and overrides, defaults, and error messages that name the nearest key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from detect.config.loading import differing_keys, load_config, parse_config, to_yaml
from detect.config.schema import Config
from detect.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Config]:
    """Load YAML text with overrides."""

    def read(text: str, *overrides: str) -> Config:
        path = tmp_path / "experiment.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(path, overrides)

    return read


def leaf_keys(tree: BaseModel, prefix: str = "") -> Iterator[str]:
    for name in type(tree).model_fields:
        value = getattr(tree, name)
        yield from leaf_keys(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [f"{prefix}{name}"]


def test_an_empty_file_gives_all_defaults(load: Callable[..., Config]) -> None:
    assert load("") == Config()


def test_overrides_take_precedence_over_the_file_and_the_file_over_defaults(load: Callable[..., Config]) -> None:
    config = load("train: {epochs: 5, lr: 1e-3}\ndata: {val: held/out.json}", "train.epochs=7", "model.roi.convs=0")
    assert (config.train.epochs, config.train.lr, config.model.roi.convs) == (7, 1e-3, 0)
    assert config.data.val == Path("held/out.json")
    assert config.train.batch_size == Config().train.batch_size


def test_the_last_of_two_overrides_takes_precedence(load: Callable[..., Config]) -> None:
    assert load("", "train.seed=1", "train.seed=2").train.seed == 2


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.lr=1e-3", "lr", 1e-3),  # YAML 1.1 reads this as text
        ("train.lr=0.5", "lr", 0.5),
        ("train.deterministic=yes", "deterministic", True),
        ("train.clip_norm=null", "clip_norm", None),
        ("train.clip_norm=", "clip_norm", None),
        ("train.device=cuda:1", "device", "cuda:1"),
        (" train.seed =4", "seed", 4),
    ],
)
def test_values_of_overrides_are_yaml(load: Callable[..., Config], override: str, key: str, value: Any) -> None:
    assert getattr(load("", override).train, key) == value


def test_overrides_can_be_lists(load: Callable[..., Config]) -> None:
    config = load("", "model.backbone.widths=[8, 16]", "model.backbone.depths=[0, 1]")
    assert config.model.backbone.widths == (8, 16)
    shapes = load("", "model.anchors.shapes=[[[10, 20.5]], [[40, 40]]]").model.anchors.shapes
    assert shapes == (((10, 20.5),), ((40, 40),))


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("train.epoch=3", "train.epochs"),
        ("epochs=3", "train.epochs"),
        ("trian.epochs=3", "train"),
        ("model.roi.dropuot=0", "model.roi.dropout"),
        ("roi.convs=1", "model.roi"),
        ("convs=1", "model.r.*.convs"),
    ],
)
def test_the_message_about_an_unknown_key_names_the_nearest_one(
    load: Callable[..., Config], override: str, nearest: str
) -> None:
    with pytest.raises(ConfigError, match=f"unknown key '.*'; did you mean '{nearest}'\\?"):
        load("", override)


def test_the_message_about_a_key_without_a_near_one_names_the_schema(load: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'zzzz'; detect/config/schema\.py lists all keys"):
        load("", "zzzz=1")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=many", r"'train\.epochs' is 'many'; it should be a valid integer"),
        ("train.epochs=2.5", r"'train\.epochs' is 2\.5; it should be a valid integer"),
        ("train.epochs=0", r"'train\.epochs' is 0; it should be greater than or equal to 1"),
        ("train.lr=.inf", r"'train\.lr' is inf; it should be a finite number"),
        ("train.lr=.nan", r"'train\.lr' is nan; it should be"),
        ("train.optimizer=adam", r"'train\.optimizer' is 'adam'; it should be 'adamw' or 'sgd'"),
        ("data.workers=some", r"'data\.workers' is 'some'; it should be a valid integer.* or 'auto'"),
        ("data.train=", r"'data\.train' is None; it should be a path"),
        ("data.channels=2", r"'data\.channels' is 2; it should be 1 or 3"),
        ("train=3", r"'train' is a section, got 3; set a key under it"),
        ("train.epochs.x=1", r"'train\.epochs' is {'x': 1}"),
        ("model.backbone.widths=[8, 16]", r"'model\.backbone': widths has 2 entries and depths 4"),
        ("model.rpn.bg_iou=0.9", r"'model\.rpn': bg_iou 0\.9 is above fg_iou 0\.6"),
        ("augment.mosaic_scale=[2, 1]", r"'augment': mosaic_scale is 2\.0 to 1\.0"),
        ("augment.mosaic_scale=[1]", r"'augment\.mosaic_scale.* is \[1\]; give as many values"),
        ("train.epochs", r"'train\.epochs' is no override; write key=value"),
        ("=3", r"'=3' is no override"),
        ("train.epochs=[", r"the value in 'train\.epochs=\[' is not valid YAML"),
    ],
)
def test_an_invalid_value_is_shown_with_its_key_and_valid_values(
    load: Callable[..., Config], override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load("", override)


def test_a_duplicate_key_is_refused_with_its_line(load: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match=r"not valid YAML \(the key 'lr' stands twice in .* line 4"):
        load("train:\n  lr: 1.0\n  epochs: 3\n  lr: 2.0\n")


def test_keys_of_a_yaml_merge_can_be_overridden(load: Callable[..., Config]) -> None:
    text = "train:\n  <<: {epochs: 3, lr: 0.5}\n  epochs: 4\n"
    assert (load(text).train.epochs, load(text).train.lr) == (4, 0.5)


def test_an_override_below_a_value_is_refused(load: Callable[..., Config]) -> None:
    with pytest.raises(ConfigError, match=r"train\.epochs\.x=1: 'train\.epochs' is a value, not a section"):
        load("train: {epochs: 3}", "train.epochs.x=1")


@pytest.mark.parametrize("text", ["- 1", "3", "a: [", "\x00", "1: 2", "? [1, 2]\n: 3"])
def test_the_message_about_an_invalid_file_names_it(load: Callable[..., Config], text: str) -> None:
    with pytest.raises(ConfigError, match=r"experiment\.yaml: "):
        load(text)


def test_the_message_about_a_missing_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: can't read the configuration .*; check the path"):
        load_config(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="can't read the configuration"):
        load_config(tmp_path)


def test_a_file_with_a_base_contains_only_the_differences(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("train: {epochs: 5, lr: 0.5}\ndata: {val: held/out.json}")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "mine.yaml").write_text("base: ../base.yaml\ntrain: {lr: 0.1}\nmodel: {scan: {}}")
    (tmp_path / "theirs.yaml").write_text("base: sub/mine.yaml\nmodel: {scan: null}")
    mine, theirs = (load_config(tmp_path / name, ["train.seed=3"]) for name in ("sub/mine.yaml", "theirs.yaml"))
    assert (mine.train.epochs, mine.train.lr, mine.train.seed, mine.data.val) == (5, 0.1, 3, Path("held/out.json"))
    assert mine.model.scan is not None
    assert theirs == mine.model_copy(update={"model": mine.model.model_copy(update={"scan": None})})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: none.yaml", r"none\.yaml: can't read the configuration"),
        ("base: [a.yaml]", r"experiment\.yaml: 'base' is \['a\.yaml'\]; name one YAML file"),
        ("base: experiment.yaml", r"experiment\.yaml: files build on each other in a circle"),
    ],
)
def test_an_invalid_base_is_refused(load: Callable[..., Config], text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(text)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.backbone.name=cps", r"'model\.backbone\.name' is 'cps'; did you mean 'csp'\?"),
        ("model.backbone.name=resnet18", r"'resnet18'; it should be 'csp', 'plain3', .* or 'torchvision'"),
        ("model.backbone.widht=3", r"unknown key 'model\.backbone\.widht' of csp; did you mean '.*\.widths'\?"),
        ("model.backbone.arch=vgg11", r"unknown key 'model\.backbone\.arch' of csp; it takes name, size, stem, widths"),
        ("model.backbone=plain3", r"'model\.backbone' is a section, got 'plain3'; set a key under it"),
        ("model.backbone.size=x", r"'model\.backbone\.size' is 'x'; it should be 'n', 's' or 'm'"),
        ("model.scan.hiden=3", r"unknown key 'model\.scan\.hiden'; did you mean 'model\.scan\.hidden'\?"),
        ("model.scan.hidden=0", r"'model\.scan\.hidden' is 0; it should be greater than or equal to 1"),
        ("model.scan=3", r"'model\.scan' is a section, got 3"),
    ],
)
def test_messages_about_sections_of_several_kinds_name_the_nearest_key(
    load: Callable[..., Config], override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load("", override)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.backbone.widths=[8]"], r"unknown key 'model\.backbone\.widths' of plain3; did you mean '.*\.width'\?"),
        (["model.backbone.dropout=2"], r"'model\.backbone\.dropout' is 2; it should be less than or equal to 1"),
        (["model.backbone.name=recurrent_conv", "model.backbone.steps=-1"], r"\.steps' is -1; it should be greater"),
        (
            ["model.backbone.name=recurrent_conv", "model.backbone.widths=[]"],
            r"'model\.backbone': widths has 0 entries",
        ),
        (["model.backbone.name=torchvision", "model.backbone.weights=3"], r"it should be 'none' or 'hub' or a path"),
    ],
)
def test_messages_about_other_backbones_name_the_key(
    load: Callable[..., Config], overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load("model: {backbone: {name: plain3}}", *overrides)


def test_the_default_backbone_is_csp_and_size_sets_the_missing_keys() -> None:
    small, changed = (
        parse_config({"model": {"backbone": {"size": "s", **keys}}}).model.backbone for keys in ({}, {"stem": 4})
    )
    assert small.name == "csp"
    assert changed == small.model_copy(update={"stem": 4})
    assert small != Config().model.backbone


def test_the_resolved_yaml_gives_the_same_configuration(load: Callable[..., Config]) -> None:
    for overrides in (["model.backbone.size=m", "model.scan.hidden=8"], ["model.backbone.name=torchvision"]):
        other = load("", *overrides)
        assert load(to_yaml(other)) == other
    config = load(
        "", "train.lr=3e-4", "data.val=a/b.json", "model.anchors.shapes=[[[1.5, 2]], [[3, 4]]]", "train.clip_norm=null"
    )
    assert load(to_yaml(config)) == config
    assert parse_config(yaml.safe_load(to_yaml(Config()))) == Config()


def test_a_given_backbone_size_replaces_the_backbone_of_an_initial_model(tmp_path: Path) -> None:
    light = {"name": "csp", "stem": 4, "widths": (8, 16, 16, 16), "depths": (0, 0, 0, 0)}
    initial = parse_config({"model": {"backbone": light, "memory": {"light": light}}}).model
    path = tmp_path / "empty.yaml"
    path.touch()
    assert load_config(path, [], model=initial).model == initial
    overrides = ["model.memory.light.size=s", "model.backbone.size=s"]
    changed = load_config(path, overrides, model=initial).model
    size_s = parse_config({"model": {"backbone": {"size": "s"}}}).model.backbone
    assert changed.memory is not None
    assert changed.memory.light == changed.backbone == size_s


def test_the_resolved_yaml_contains_every_key() -> None:
    tree = yaml.safe_load(to_yaml(Config()))
    for key in leaf_keys(Config()):
        value = tree
        for part in key.split("."):
            assert part in value, f"{key} is missing from config.yaml"
            value = value[part]


def test_differing_keys_are_dotted_and_in_order() -> None:
    changed = parse_config({"train": {"seed": 1}, "model": {"roi": {"convs": 3}}, "data": {"val": "x.json"}})
    assert differing_keys(changed, Config()) == ["data.val", "model.roi.convs", "train.seed"]
    assert differing_keys(Config(), Config()) == []
    scanning = parse_config({"model": {"scan": {"hidden": 8}}})
    for one, other in ((scanning, Config()), (Config(), scanning)):
        assert "model.scan.hidden" in differing_keys(one, other)


def test_a_configuration_is_immutable() -> None:
    with pytest.raises(Exception, match="frozen"):
        Config().train.epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_the_files_in_configs_are_valid(path: Path) -> None:
    assert load_config(path).train.epochs > 0


@pytest.mark.parametrize(
    "override",
    [
        f"model.fpn.channels={10**30}",
        f"model.backbone.depths=[1,{10**9},1,1]",
        f"model.roi.convs={10**9}",
        f"train.batch_size={10**7}",
        f"train.seed={2**63}",
        "model.rpn.convs=0",
    ],
)
def test_absurdly_large_numbers_are_refused(load: Callable[..., Config], override: str) -> None:
    with pytest.raises(ConfigError, match=f"'{override.partition('=')[0]}"):
        load("", override)
    assert load("", f"train.seed={2**63 - 1}").train.seed == 2**63 - 1
