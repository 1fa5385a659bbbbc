import copy
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from itm_lightning.errors import InputError
from itm_lightning.part import Part, UsesLabels, from_config, to_config, trusting


class Inner(Part, nn.Module):
    def __init__(self, width: int, rate: float = 0.5) -> None:
        super().__init__()
        self.width, self.rate = width, rate
        self.linear = nn.Linear(width, 1)


class Outer(Part, nn.Module):
    def __init__(self, inner: Inner, names: list[str], path: Path | None = None) -> None:
        super().__init__()
        self.inner, self.names, self.path = inner, names, path


def test_a_recipe_is_plain_and_rebuilds_the_part():
    made = to_config(Outer(Inner(3), names=["a", "b"], path=Path("x/y")))
    assert made == {
        "class_path": f"{__name__}.Outer",
        "init_args": {
            "inner": {"class_path": f"{__name__}.Inner", "init_args": {"width": 3}},
            "names": ["a", "b"],
            "path": "x/y",
        },
    }
    again = from_config(made)
    assert isinstance(again, Outer)
    assert again.inner.width == 3
    assert again.inner.rate == 0.5
    assert again.names == ["a", "b"]


def test_positional_and_named_arguments_are_told_apart():
    assert to_config(Inner(2, rate=0.1))["init_args"] == {"width": 2, "rate": 0.1}


def test_a_subclass_records_its_own_arguments():
    class Narrow(Inner):
        def __init__(self, rate: float) -> None:
            super().__init__(width=1, rate=rate)

    assert to_config(Narrow(0.2))["init_args"] == {"rate": 0.2}


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda part: pickle.loads(pickle.dumps(part))], ids=["copy", "pickle"]
)
def test_copies_keep_arguments_and_tensors(copied):
    part = Inner(2, rate=0.1)
    other = copied(part)
    assert to_config(other) == to_config(part)
    assert torch.equal(other.linear.weight, part.linear.weight)


def test_an_argument_that_is_not_plain_is_refused():
    with pytest.raises(TypeError, match="cannot be written into a checkpoint"):
        to_config(Outer(Inner(1), names=[object()]))


def test_dictionaries_pass_through():
    assert from_config(to_config({"a": [1, None], "b": {"c": 2.0}})) == {
        "a": [1, None],
        "b": {"c": 2.0},
    }


@pytest.mark.parametrize("path", ["no_such_module.Head", "itm_lightning.similarity.NoHead"])
def test_a_class_that_may_not_be_built_is_named_and_one_that_is_trusted_but_gone(path):
    config = {"class_path": path, "init_args": {}}
    with pytest.raises(InputError, match=rf"a\.ckpt names the class {path}, .* --trust"):
        from_config(config, "a.ckpt")
    with (
        trusting([path.partition(".")[0]]),
        pytest.raises(InputError, match=rf"class {path} is needed .* PYTHONPATH"),
    ):
        from_config(config)


class Classifier(UsesLabels, Part, nn.Module):
    def build_classes(self, count):
        self.linear = nn.Linear(2, count)


def test_classes_are_learnt_once_and_lie_in_the_checkpoint():
    part = Classifier()
    assert part.extra_state() == {}
    part.learn_classes(("art", "war"))
    weight = part.linear.weight
    part.learn_classes(["art", "war"])  # as a resumed fit does
    assert part.linear.weight is weight
    again = Classifier()
    again.load_extra_state(part.extra_state())
    again.load_state_dict(part.state_dict())
    assert again.class_names == ("art", "war")
    with pytest.raises(InputError, match=r"was trained on the classes art, war, but .* has art"):
        again.learn_classes(["art"])
