"""YAML as people and machines get it wrong: refused by file and line, or read as it is meant."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itm_lightning.cli import main
from itm_lightning.cli.early_args import check_configs
from itm_lightning.errors import InputError
from itm_lightning.utils.text_files import parse_yaml, read_yaml
from tests.conftest import TINY_MODEL, TINY_SCENES, TINY_TRAINER

CONFIG = {"trainer": TINY_TRAINER, "model": TINY_MODEL, "data": {"source": TINY_SCENES}}
BOMB = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))

#: What is in the file, the line that is named, and what is said of it.
REFUSED = {
    "tab": (b"model:\n\tdim: 1\n", 2, "no YAML"),
    "brace": (b"model: {dim: 1\n", 2, "expected ',' or '}'"),
    "bracket": (b"a: 1\nb: [1, 2\n", 3, "expected ',' or ']'"),
    "quote": (b"a: 'b\n\n", 3, "end of stream"),
    "indent": (b"a: 1\n  b: 2\n", 2, "not allowed here"),
    "colon": (b"a: b: c\n", 1, "not allowed here"),
    "at": (b"a: @b\n", 1, "cannot start any token"),
    "no colon": (b"a: 1\nb\nc: 2\n", 3, "could not find expected ':'"),
    "two documents": (b"a: 1\n---\nb: 2\n", 2, "single document"),
    "twice": (b"model: 1\ndata: 2\nmodel: 3\n", 3, "'model' is given twice, first in line 1"),
    "twice within": (b"model:\n  dim: 1\n  dim: 2\n", 3, "'dim' is given twice, first in line 2"),
    "twice in braces": (b"a: {b: 1, b: 2}\n", 1, "'b' is given twice"),
    "twice by quotes": (b"a: 1\n'a': 2\n", 2, "'a' is given twice"),
    "twice by an alias": (b"&x a: 1\n*x : 2\n", 1, "'a' is given twice"),
    "list as key": (b"? [1, 2]\n: 3\n", 1, "a key that is a list"),
    "no anchor": (b"a: 1\nb: *c\n", 2, "undefined alias"),
    "within itself": (b"a: &a\n  - *a\n", 1, "repeats what it stands in"),
    "bomb": (b"a0: &a0 [1]\n" + BOMB.encode(), 6, "more than 100,000 values"),
    "deep": (b"a: " + b"[" * 5000, 1, "more than 40 lists"),
    "deep by lines": ("\n".join(" " * n + "a:" for n in range(60)).encode(), 41, "more than 40"),
    "deep by aliases": (
        b"a0: &a0 {}\n" + b"".join(b"a%d: &a%d {x: *a%d}\n" % (n, n, n - 1) for n in range(1, 90)),
        42,
        "more than 40",
    ),
    "utf-16": ("a: 1\n".encode("utf-16"), 1, "iconv -f UTF-16"),
    "utf-16, other order": ("a: 1\n".encode("utf-16-be"), 1, "the character"),
    "utf-32": ("a: 1\n".encode("utf-32"), 1, "UTF-8|the character"),
    "cp1252": ("a: 1\n# größe\n".encode("cp1252"), 2, "iconv -f WINDOWS-1252"),
    "NUL": (b"a: 1\nb: \0\n", 2, "the character '\\\\x00'"),
    "bell": (b"a: \x07\n", 1, "the character"),
    "binary": (bytes(range(128, 256)), 1, "not UTF-8"),
    "python object": (b"a: 1\nb: !!python/object/apply:os.system [ls]\n", 2, "the tag"),
    "own tag": (b"a: !mine 1\n", 1, "the tag !mine"),
    "set": (b"a: !!set {b, c}\n", 1, "the tag"),
    "no float": (b"a: !!float x\n", 1, "could not convert"),
    "no int": (b"a: !!int\n", 1, "out of range"),
    "no bool": (b"a: 1\nb: !!bool x\n", 2, "'x'"),
    "long number": (b"a: 1\nb: " + b"9" * 5000 + b"\n", 2, "4300 digits"),
    "empty": (b"", 1, "there is nothing in it"),
    "comment": (b"# nothing\n", 1, "there is nothing in it"),
    "null": (b"null\n", 1, "there is nothing in it"),
    "list": (b"- a\n- b\n", 1, "no 'key: value'"),
    "text": (b"model\n", 1, "no 'key: value'"),
    "number": (b"3\n", 1, "no 'key: value'"),
}
READ = {
    "BOM": ("\ufeffa: 1\n".encode(), {"a": 1}),
    "CRLF": (b"a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
    "merge": (b"x: &x {a: 1}\ny:\n  <<: *x\n  a: 2\n", {"x": {"a": 1}, "y": {"a": 2}}),
    "date": (b"run_name: 2026-01-01\n", {"run_name": "2026-01-01"}),
    "no date": (b"run_name: 2026-99-99\n", {"run_name": "2026-99-99"}),
    "aliases": (b"x: &x [1]\ny: [*x, *x]\n", {"x": [1], "y": [[1], [1]]}),
    "emoji": ("a: 🐕\n".encode(), {"a": "🐕"}),
}


@pytest.mark.parametrize(("data", "line", "what"), REFUSED.values(), ids=REFUSED)
def test_file_and_line_are_named(tmp_path, data, line, what):
    path = tmp_path / "c.yaml"
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"c.yaml, line {line}: .*({what})"):
        check_configs(["fit", f"--config={path}"])


@pytest.mark.parametrize(("data", "value"), READ.values(), ids=READ)
def test_what_is_unusual_but_right_is_read(tmp_path, data, value):
    path = tmp_path / "c.yaml"
    path.write_bytes(data)
    assert read_yaml(path) == value


@pytest.mark.parametrize(
    "args",
    [
        ("fit", "--config", "c.yaml"),
        ("test", "--config=c.yaml"),
        ("fit", "-c", "c.yaml"),
        ("fit", "--data", "c.yaml"),
        ("compare", "--output", "o", "--similarities", "[Cosine]", "--config", "c.yaml"),
        ("compare", "--output", "o", "--similarities", "[Cosine]", "--settings", "c.yaml"),
        ("convert", "--checkpoint", "x", "--output", "y", "--config", "c.yaml"),
    ],
    ids=lambda args: " ".join(args),
)
def test_every_command_says_so(refused, tmp_path, monkeypatch, args):
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text("a: 1\na: 2\n")
    assert "c.yaml, line 2: the key 'a' is given twice" in refused(*args)


@pytest.mark.parametrize("text", ["trainer:\n", "model: [Cosine]\n", "data: 3\n"])
def test_a_section_without_settings_is_named(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"c\.yaml: {text[:4]}\w* is .*: put its settings below"):
        check_configs(["fit", f"--config={path}"])


PIECES = "{}[]:,#&*!|>'\"%@`-? \t\n\r\0\x07\ufeff\u2028aé🐕0.", "<<: *a", "&a ", "\n---\n", "!!int "
EDITS = st.lists(
    st.tuples(st.integers(0, 700), st.integers(0, 9), st.text() | st.sampled_from(PIECES)),
    min_size=1,
    max_size=8,
)


def edited(edits):
    """A config in whose text some pieces are replaced by others."""
    text = yaml.safe_dump(CONFIG)
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    return text


def no_more_than_one_line(examples):
    """Fuzzes as many examples."""
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def is_read_or_refused(text):
    try:
        value = parse_yaml(text, "c.yaml")
    except InputError as error:
        return str(error).startswith("c.yaml, line ") and "\n" not in str(error)
    return yaml.safe_load(yaml.safe_dump(value)) == value or "nan" in str(value)


@no_more_than_one_line(50)
@given(EDITS)
def test_a_changed_config_is_read_or_refused(edits):
    assert is_read_or_refused(edited(edits))


@pytest.mark.slow
@no_more_than_one_line(2000)
@given(EDITS.map(edited) | st.text())
def test_many_changed_configs_are_read_or_refused(text):
    assert is_read_or_refused(text)


@pytest.mark.slow
@no_more_than_one_line(100)
@given(EDITS)
def test_the_command_reads_or_refuses_a_changed_config(tmp_path, edits):
    path = tmp_path / "c.yaml"
    path.write_bytes(edited(edits).encode(errors="surrogatepass"))
    with pytest.raises(SystemExit) as stopped:
        main(["fit", "--config", str(path), "--print_config"])
    assert stopped.value.code in (0, 2)
