"""``lightning list``: every part in a line, and the arguments of each."""

import inspect
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from itm_lightning import registry
from itm_lightning.cli import main
from itm_lightning.registry import KINDS, get, list_registered
from itm_lightning.similarity import Cosine


@pytest.fixture
def listed(capsys):
    def _listed(*args):
        main(["list", *args])
        return capsys.readouterr().out

    return _listed


def test_all_parts_are_named_with_their_first_line(listed):
    lines = listed().splitlines()
    for kind in KINDS:
        assert kind in lines
        for name in list_registered(kind):
            (line,) = [line for line in lines if line.startswith(f"  {name} ")]
            assert len(line.split()) > 3  # it says what the part is


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_lists_the_arguments_of_its_parts_each_described(listed, kind):
    blocks = listed(kind).strip().split("\n\n")
    assert len(blocks) == len(list_registered(kind))
    for block, name in zip(blocks, list_registered(kind), strict=True):
        first, *lines = block.splitlines()
        assert first.startswith(f"{kind} {name}: ")
        assert not {"``", ":class:"} & set(block.split())
        arguments = [line for line in lines if not line.startswith(" " * 6)]
        expected = [
            argument
            for argument, parameter in inspect.signature(get(kind, name)).parameters.items()
            if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        assert [line.split(":")[0].strip() for line in arguments] == expected
        for argument in arguments:  # a description follows
            assert lines[lines.index(argument) + 1].startswith(" " * 6), (name, argument)


def test_one_part_is_shown_by_kind_and_name_or_by_name(listed):
    text = listed("similarity", "CrossAttention")
    assert "  direction: str = 't2i'\n" in text
    assert "similarity Cosine" not in text
    assert listed("CrossAttention") == text


def test_a_part_of_an_installed_package_is_listed(listed, monkeypatch):
    class Theirs(Cosine):
        """A head of another package."""

    group = "itm_lightning.similarity"
    monkeypatch.setattr(EntryPoint, "load", lambda self: Theirs)
    found = EntryPoints([EntryPoint("Theirs", "their_package:Theirs", group)])
    monkeypatch.setattr(registry, "_installed", lambda path: found)
    monkeypatch.setitem(registry._parts, "similarity", dict(registry._parts["similarity"]))
    assert "similarity Theirs: A head of another package." in listed("similarity")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["similarities"], "'similarities' is neither a kind nor a part; the kinds are image_enc"),
        (["heads", "Cosine"], "'heads' is no kind of part; the kinds are image_encoder, "),
        (["similarity", "Cosin"], "there is no similarity 'Cosin' (did you mean Cosine?); there"),
        (["similarity", "Cosine", "MaxSim"], "'MaxSim' is one too many"),
    ],
)
def test_what_is_not_there_is_refused_in_a_line(capsys, args, message):
    with pytest.raises(SystemExit, match="2"):
        main(["list", *args])
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
