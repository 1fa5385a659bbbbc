"""Numbers out of range: every part says which of its arguments it refuses, at any depth."""

import inspect
import math
import typing

import pytest
import yaml

import itm_lightning
from itm_lightning import Matcher, similarity
from itm_lightning.data import ITMDataModule, Scenes
from itm_lightning.errors import InputError
from itm_lightning.registry import KINDS
from itm_lightning.resume import Cadence

HUGE = 10**12
OTHERS = {"dim": 8, "root": "nowhere", "name": "nothing", "heads": [similarity.Cosine()]}


def numbers_of(cls):
    """The arguments of a constructor that take an int or a float, and which of them."""
    hints = typing.get_type_hints(cls.__init__)
    for name in inspect.signature(cls).parameters:
        kinds = typing.get_args(hints.get(name)) or (hints.get(name),)
        if {int, float} & set(kinds):
            yield name, int in kinds


def every_number():
    for kind in KINDS:
        for name in itm_lightning.list_registered(kind):
            cls = itm_lightning.get(kind, name)
            for argument, whole in numbers_of(cls):
                yield pytest.param(cls, argument, whole, id=f"{name}.{argument}")


@pytest.mark.parametrize(("cls", "argument", "whole"), every_number())
def test_a_part_refuses_what_it_cannot_do(cls, argument, whole):
    needed = inspect.signature(cls).parameters.items()
    others = {n: OTHERS.get(n) for n, p in needed if p.default is p.empty and n != argument}
    for number in (math.nan, math.inf):
        with pytest.raises(InputError, match=f"{cls.__name__}: {argument} is"):
            cls(**others, **{argument: number})
    for number in (0, -1, HUGE) if whole else (0.0, -1.0, 1e30):
        try:
            cls(**others, **{argument: number})
        except InputError:
            continue
        except (TypeError, AttributeError):  # of what stands in for an argument that is needed
            assert None in others.values()
        else:
            assert not whole or number == 0, f"{argument}={number} is taken"


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (ITMDataModule, {"batch_size": 0}, "ITMDataModule: batch_size is 0; it must be at least 1"),
        (ITMDataModule, {"num_workers": -1}, "num_workers is -1"),
        (ITMDataModule, {"num_workers": HUGE}, "num_workers is"),
        (ITMDataModule, {"augmented_views": -1}, "augmented_views is -1"),
        (Cadence, {"minutes": math.nan}, "minutes is nan"),
        (Cadence, {"steps": 0}, "steps is 0"),
    ],
)
def test_what_is_no_part_refuses_too(cls, arguments, message):
    source = {} if cls is Cadence else {"source": Scenes(train=2, val=2, test=2)}
    with pytest.raises(InputError, match=message):
        cls(**source, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dropout": 2.0}, "Matcher: dropout is 2.0; it must be at most 1"),
        ({"dim": HUGE}, "Matcher: dim is"),
        ({"gradient_cache": 0}, "gradient_cache"),
        ({"lr_factors": {"image_encoder": -1.0}}, "Matcher: lr_factors is -1.0"),
    ],
)
def test_the_matcher_refuses_too(arguments, message):
    parts = {"image_encoder": None, "text_encoder": None}
    with pytest.raises(InputError, match=message):
        Matcher(**parts, **arguments)


def nested(levels):
    """An Ensemble within Ensembles, whose innermost head is out of range."""
    part = {"class_path": "CrossAttention", "init_args": {"temperature": -1.0}}
    for _ in range(levels):
        part = {"class_path": "Ensemble", "init_args": {"heads": [part]}}
    return part


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_the_message_arrives_from_any_depth(refused, tiny_config, levels, tmp_path):
    tiny_config["model"]["similarity"] = nested(levels)
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tiny_config))
    root = f"--trainer.default_root_dir={tmp_path}"
    said = refused("fit", "--config", tmp_path / "c.yaml", root)
    assert said == "error: CrossAttention: temperature is -1.0; it must be above 0"
