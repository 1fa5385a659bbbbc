"""Checkpoints that somebody else wrote, or a disk: nothing runs, nothing is wrong in silence."""

import io
import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from itm_lightning import Matcher
from itm_lightning.cli import main
from itm_lightning.errors import InputError
from tests.cli.conftest import in_file

TOUCH = "touch canary"
CALLS = {
    "os.system": {"command": TOUCH},
    "subprocess.Popen": {"args": TOUCH, "shell": True},
    "builtins.eval": {"source": "open('canary', 'w')"},
    "importlib.import_module": {"name": "canary_module"},
    "canary_module.Head": {},
    "canary_module.call": {},
    "itm_lightning.part.importlib.import_module": {"name": "canary_module"},
    "torch.hub.load": {"repo_or_dir": ".", "model": "x", "source": "local"},
    "pytorch_lightning.Trainer": {},
    "no_module.Head": {},
    "eval": {},
    "": {},
}
#: Where in a recipe a class may be named, or should not.
PLACES = {
    "image_encoder": ("image_encoder",),
    "text_encoder": ("text_encoder",),
    "similarity": ("similarity",),
    "objective": ("objective",),
    "projection": ("image_projection",),
    "pooling": ("text_encoder", "init_args", "pooling"),
    "a number": ("dim",),
    "an argument that is unknown": ("text_encoder", "init_args", "more"),
}


def put(entry, keys, value):
    for key in keys[:-1]:
        entry = entry[key]
    entry[keys[-1]] = value


@pytest.mark.parametrize("place", PLACES)
def test_a_recipe_builds_parts_alone(foreign, place):
    for class_path, arguments in CALLS.items():
        for part in (
            {"class_path": class_path, "init_args": arguments},
            [{"class_path": class_path, "init_args": arguments}],
        ):
            path = foreign(lambda c, part=part: put(c["matcher"]["config"], PLACES[place], part))
            with pytest.raises(InputError, match=r"foreign\.ckpt names the class .* may not build"):
                Matcher.load_from_checkpoint(path)


def part(class_path, **arguments):
    return {"class_path": class_path, "init_args": arguments}


def lr_lambda(function):
    return part("torch.optim.lr_scheduler.LambdaLR", lr_lambda=function)


#: What the config of a checkpoint names, and a word of the line that refuses it.
CONFIGS = {
    "a head": ("model.similarity", part("os.system", command=TOUCH), "os.system"),
    "a head as text": ("model.similarity", "canary_module.Head", "canary_module"),
    "a head in its module": ("model.similarity", part("canary_module.Head"), "canary_module"),
    "an encoder": ("model.image_encoder", part("canary_module.Head"), "canary_module"),
    "within": ("model.text_encoder.init_args.pooling", part("os.system"), "os.system"),
    "an optimiser": ("model.optimizer", part("os.system", command=TOUCH), "os.system"),
    "an optimiser as text": ("model.optimizer", "canary_module.call", "canary_module"),
    "a schedule": ("model.scheduler", part("canary_module.call"), "canary_module"),
    "a function of a schedule": ("model.scheduler", lr_lambda("canary_module.call"), "lr_lambda"),
    "an optimiser in a schedule": (
        "model.scheduler",
        part("itm_lightning.training.WarmupCosine", optimizer="canary_module.call"),
        "optimizer",
    ),
    "a source": ("data.source", part("subprocess.Popen", args=TOUCH, shell=True), "subprocess"),
    "a source of ours": ("data.source", part("itm_lightning.cli.console.main"), "main"),
    "a protocol": ("protocol", part("builtins.eval", source="1"), "builtins.eval"),
    "a config file": ("model", "other.yaml", "model"),
    "a dotted key": ("model", {"similarity.class_path": "canary_module.Head"}, "similarity"),
    "further arguments": (
        "model.similarity",
        {**part("CrossAttention"), "dict_kwargs": part("os.system")},
        "CrossAttention",
    ),
    "a seed": ("seed_everything", part("os.system"), "seed_everything"),
    "a tensor": ("data.batch_size", torch.zeros(1), "batch_size"),
}


@pytest.mark.parametrize("place", CONFIGS)
def test_the_config_of_a_checkpoint_is_checked_before_the_parser_sees_it(foreign, refused, place):
    key, value, word = CONFIGS[place]
    path = foreign(lambda content: put(content["config"], key.split("."), value))
    line = refused("fit", f"--ckpt_path={path}")
    assert "foreign.ckpt" in line
    assert word in line


#: What a checkpoint says of the outside: not taken, and nothing is written there.
OUTSIDE = {
    "default_root_dir": "canary",
    "callbacks": [part("pytorch_lightning.callbacks.ModelCheckpoint", dirpath="canary")],
    "logger": part("pytorch_lightning.loggers.CSVLogger", save_dir="canary"),
    "profiler": part("pytorch_lightning.profilers.SimpleProfiler", dirpath="canary"),
    "strategy": "canary_module.call",
    "plugins": [part("canary_module.call")],
    "accelerator": part("canary_module.call"),
}


def test_a_checkpoint_decides_nothing_about_the_outside(foreign, tmp_path, capsys):
    def change(content):
        content["config"]["trainer"].update(OUTSIDE)
        for state in content["callbacks"].values():
            if "best_model_path" in state:
                state.update(best_model_path=str(tmp_path / "canary"), dirpath=str(tmp_path))

    main(["fit", f"--ckpt_path={foreign(change)}", "--trainer.max_epochs=3"])
    assert "trainer.logger and trainer.callbacks; give them again" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} >= {"runs", "foreign.ckpt"}


def ways(path, own):
    """Every command that builds what a checkpoint describes."""
    data = f"--data.source={json.dumps(part('Precomputed', root=str(own)))}"
    good = own / "runs" / "r" / "checkpoints" / "last.ckpt"
    for command in ("test", "validate", "predict", "fit"):
        yield command, f"--ckpt_path={path}", data
    yield "test", f"--ckpt_path={good}", f"--ensemble.checkpoints=[{path}]"
    yield "explain", "--ckpt_path", path, "--images", "x.png", "--texts", "a dog"
    yield "explain", "--ckpt_path", path, "--split", "val"


@pytest.mark.slow
@pytest.mark.parametrize("class_path", CALLS)
def test_no_command_runs_what_a_checkpoint_names(foreign, refused, fitted, class_path):
    path = foreign(naming(class_path))
    for arguments in ways(path, fitted):
        assert "foreign.ckpt" in refused(*arguments)


def naming(class_path):
    def change(content):
        named = part(class_path, **CALLS[class_path])
        content["matcher"]["config"]["similarity"] = named
        content["config"]["model"]["similarity"] = named

    return change


@pytest.mark.slow
@pytest.mark.parametrize("class_path", CALLS)
def test_commands_that_need_no_recipe_do_not_build_it(foreign, refused, fitted, class_path):
    path, config = foreign(naming(class_path)), str(fitted / "config.yaml")
    main(["fit", "--config", config, f"--start_from={path}"])
    assert path in refused("convert", "--config", config, "--checkpoint", path, "--output=x.ckpt")
    shutil.copytree(fitted / "runs" / "r", "theirs")
    shutil.copy(path, "theirs/checkpoints/best.ckpt")
    main(["compare", "--runs", "theirs", "--output=compared"])
    assert "which a file may not build" in Path("compared/comparison.md").read_text()


def test_a_part_of_ones_own_is_built_where_the_user_names_it(foreign, tmp_path, monkeypatch):
    (tmp_path / "my_part.py").write_text(
        "from itm_lightning.similarity import Cosine\nclass Mine(Cosine):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    recipe = part("my_part.Mine")
    path = foreign(lambda c: c["matcher"]["config"].update(similarity=recipe))
    with pytest.raises(InputError, match=r"my_part\.Mine.*--trust my_part"):
        Matcher.load_from_checkpoint(path)
    matcher = Matcher.load_from_checkpoint(path, trust=["my_part"])
    assert type(matcher.similarity).__name__ == "Mine"


def test_a_recipe_builds_no_other_class_that_the_user_names(foreign):
    named = part("pytorch_lightning.callbacks.ModelCheckpoint", dirpath="canary")
    path = foreign(lambda c: c["matcher"]["config"].update(similarity=named))
    with pytest.raises(InputError, match="may not build"):
        Matcher.load_from_checkpoint(path, trust=["pytorch_lightning.callbacks"])


def test_a_part_of_ones_own_in_a_command(foreign, refused, tmp_path, monkeypatch):
    (tmp_path / "my_head.py").write_text(
        "from itm_lightning.similarity import CrossAttention\n"
        "class Mine(CrossAttention):\n    pass\n"
    )
    monkeypatch.delitem(sys.modules, "my_head", raising=False)

    def change(content):
        for model in (content["matcher"]["config"], content["config"]["model"]):
            model["similarity"] = {**model["similarity"], "class_path": "my_head.Mine"}

    command = ["validate", f"--ckpt_path={foreign(change)}"]
    assert "--trust my_head" in refused(*command)
    assert "my_head" not in sys.modules
    for bad in ("", "my head", "a.b.", "../x"):
        assert "name a module" in refused(*command, f"--trust={bad}")
    main([*command, "--trust", "my_head"])
    main([*command, "--config", in_file({"model": {"similarity": "my_head.Mine"}}, tmp_path)])


# -- damage -----------------------------------------------------------------------------------


def test_zeros_in_the_middle_of_a_file_are_noticed(foreign, tmp_path):
    path = foreign()
    data = bytearray((tmp_path / "foreign.ckpt").read_bytes())
    found = torch.load(path, weights_only=True)["state_dict"]
    weights = max(found.values(), key=torch.numel)
    start = data.index(weights.contiguous().numpy().tobytes())
    data[start : start + 64] = bytes(64)
    (tmp_path / "foreign.ckpt").write_bytes(data)
    with pytest.raises(InputError, match="damaged after it was written: its state_dict"):
        Matcher.load_from_checkpoint(path)


def change_of(key, value):
    return lambda content: content.update({key: value})


MISFITS = {
    "a part is gone": (
        lambda c: c["matcher"]["config"].pop("image_encoder"),
        "does not describe a Matcher",
    ),
    "no weights": (change_of("state_dict", {}), "damaged"),
    "weights of another model": (
        lambda c: (
            c.pop("checksums"),
            c.update(state_dict={**c["state_dict"], "more": torch.ones(1)}),
        ),
        "1 unexpected (more)",
    ),
    "another shape": (
        lambda c: (c.pop("checksums"), c["matcher"]["config"].update(dim=3)),
        "of another shape",
    ),
    "no state of the vocabulary": (
        lambda c: c["matcher"].update(extra_state={}),
        "unexpected (text_encoder.embedding",
    ),
    "a state of a part that there is not": (
        lambda c: c["matcher"]["extra_state"].update(gone={}),
        "a part gone",
    ),
    "a state of no part": (
        lambda c: c["matcher"]["extra_state"].update({"text_encoder.network": {}}),
        "text_encoder.network",
    ),
    "another version": (lambda c: c["matcher"].update(version=1), "layout 1"),
    "no version": (lambda c: c["matcher"].pop("version"), "layout 1"),
    "text as recipe": (lambda c: c["matcher"].update(config="x"), "no config"),
    "a number as Matcher": (change_of("matcher", 5), "layout None"),
    "no tensors": (
        lambda c: (c.pop("checksums"), c.update(state_dict={"x": 1})),
        "no tensors",
    ),
    "another's": (lambda c: c.pop("matcher"), "not written by itm-lightning"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_what_does_not_fit_is_named(foreign, name):
    change, words = MISFITS[name]
    path = foreign(change)
    with pytest.raises(InputError) as error:
        Matcher.load_from_checkpoint(path)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--model.similarity=Bilinear"], "model.similarity.class_path"),
        (["--model.dim=8"], "model.dim is 8 here and 4"),
        (["--model.text_encoder.hidden=8"], "model.text_encoder.init_args.hidden is 8"),
        (["--model.text_encoder=BagOfWords"], "model.text_encoder.class_path is BagOfWords"),
    ],
)
def test_another_model_than_the_checkpoints_is_refused_by_its_key(foreign, refused, flags, key):
    line = refused("test", f"--ckpt_path={foreign()}", *flags)
    assert key in line
    assert "leave it out" in line


RESUMING = {
    "loops": change_of("loops", {"fit_loop": 3}),
    "no loops": lambda c: c.pop("loops"),
    "no optimiser": lambda c: c.pop("optimizer_states"),
    "another optimiser": lambda c: (c.pop("checksums"), c.update(optimizer_states=[{"state": 1}])),
    "callbacks": change_of("callbacks", 3),
    "resume": change_of("resume", {}),
    "version of Lightning": change_of("pytorch-lightning_version", 3),
}


@pytest.mark.parametrize(
    "name", [n if n == "loops" else pytest.param(n, marks=pytest.mark.slow) for n in RESUMING]
)
def test_a_run_cannot_go_on_from_what_lacks_its_state(foreign, refused, name):
    path = foreign(RESUMING[name])
    line = refused("fit", f"--ckpt_path={path}", "--trainer.max_epochs=3")
    assert "foreign.ckpt" in line


# -- any change at all --------------------------------------------------------------------------

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 9),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(0, 3), max_size=2),
    st.just(torch.zeros(2)),
    st.sampled_from([{"class_path": path, "init_args": {}} for path in CALLS]),
)


def entries(value, keys=()):
    """The places of nested dictionaries, some of which are the weights."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*keys, key)
            yield from entries(item, (*keys, key))


def mutated(content, data):
    """A copy of a checkpoint with one entry dropped or replaced, or a byte of the file flipped."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    how = data.draw(st.sampled_from(["drop", "replace", "flip", "cut"]))
    raw = bytearray(buffer.getvalue())
    if how == "flip":
        for _ in range(data.draw(st.integers(1, 8))):
            raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
        return bytes(raw)
    if how == "cut":
        return bytes(raw[: data.draw(st.integers(0, len(raw)))])
    copy = torch.load(io.BytesIO(raw), weights_only=True)
    if data.draw(st.booleans()):
        copy.pop("checksums")
    sections = ("matcher", "state_dict", "checksums", "config")
    places = [place for place in entries(copy) if place[0] in sections]
    *above, key = data.draw(st.sampled_from(places))
    entry = copy
    for each in above:
        entry = entry[each]
    if how == "drop":
        del entry[key]
    else:
        entry[key] = data.draw(VALUES)
    buffer = io.BytesIO()
    torch.save(copy, buffer)
    return buffer.getvalue()


def check_any_change(content, folder, data):
    path = folder / "mutated.ckpt"
    path.write_bytes(mutated(content, data))
    with suppress(InputError):
        Matcher.load_from_checkpoint(path)
    assert not (folder / "canary").exists()


QUICK = settings(
    max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


@QUICK
@given(data=st.data())
def test_any_change_works_or_is_told_in_one_line(fuzzed, data):
    check_any_change(*fuzzed, data)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(QUICK, max_examples=2000)
@given(data=st.data())
def test_two_thousand_changes_work_or_are_told_in_one_line(fuzzed, data):
    check_any_change(*fuzzed, data)


@pytest.fixture
def fuzzed(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept = ("matcher", "state_dict", "checksums", "config")
    return {key: content[key] for key in kept}, tmp_path
