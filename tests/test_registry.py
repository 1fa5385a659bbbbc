import subprocess
import sys
import textwrap

import pytest

import itm_lightning
from itm_lightning import registry
from itm_lightning.errors import InputError


@pytest.fixture(autouse=True)
def _scratch_kind(monkeypatch):
    """Lets a test register without leaving anything behind."""
    copies = {kind: dict(parts) for kind, parts in registry._parts.items()}
    monkeypatch.setattr(registry, "_parts", copies)


def test_every_kind_lists_its_parts_in_order():
    for kind in registry.KINDS:
        names = itm_lightning.list_registered(kind)
        assert names == sorted(names)
        assert names
    assert {"Bilinear", "Cosine", "CrossAttention"} <= set(registry.list_registered("similarity"))


@pytest.mark.parametrize("module", ["matcher", "registry"])
def test_every_part_is_known_whatever_is_imported_first(module):
    script = f"""
import itm_lightning.{module}
from itm_lightning import registry
for kind in registry.KINDS:
    print(kind, *registry.list_registered(kind))
"""
    command = [sys.executable, "-c", script]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for kind, line in zip(registry.KINDS, printed.splitlines(), strict=True):
        assert line.split() == [kind, *registry.list_registered(kind)]


def test_every_public_name_can_be_imported():
    for name in itm_lightning.__all__:
        assert getattr(itm_lightning, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_it"):
        itm_lightning.nothing_of_it  # noqa: B018


def test_a_registered_class_is_got_by_its_name():
    @itm_lightning.register("similarity")
    class Nearest:
        pass

    assert registry.get("similarity", "Nearest") is Nearest


def test_a_name_taken_twice_is_refused_and_both_are_named():
    @itm_lightning.register("similarity")
    class Cosine2:
        pass

    other = type("Cosine2", (), {"__module__": "elsewhere"})
    with pytest.raises(ValueError, match=r"Cosine2.*registered twice.*test_registry.*elsewhere"):
        registry.register("similarity")(other)
    assert registry.get("similarity", "Cosine2") is Cosine2


def test_an_unknown_name_lists_those_there_are_and_guesses():
    with pytest.raises(InputError, match=r"'Cosin'.*did you mean Cosine\?.*Bilinear"):
        registry.get("similarity", "Cosin")


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="encoders"):
        registry.register("encoders")


def test_installed_packages_add_parts_by_entry_point(tmp_path, monkeypatch):
    (tmp_path / "other_heads.py").write_text("class Learnt:\n    pass\n")
    info = tmp_path / "other_heads-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-heads\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        textwrap.dedent("""
        [itm_lightning.similarity]
        Learnt = other_heads:Learnt
        """)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "Learnt" in registry.list_registered("similarity")
    assert registry.get("similarity", "Learnt").__module__ == "other_heads"
    sys.modules.pop("other_heads")


def test_parts_that_define_an_attribute_anew_are_listed():
    having = registry.list_overriding("source", "class_names")
    assert {"Scenes", "Paired"} <= set(having)
    assert "Folder" not in having
