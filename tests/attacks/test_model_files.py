"""What a checkpoint brings of transformers: files keep to their folder, and load no code."""

import contextlib
import copy
import json

import pytest
import transformers

from itm_lightning.encoders import PretrainedText, PretrainedVision
from itm_lightning.errors import InputError
from itm_lightning.part import load_extra_states, skip_pretrained
from itm_lightning.similarity import ScaledCosine
from tests.encoders.conftest import bert

CODE = "open('canary', 'w')\nclass Tokenizer: pass\nclass Model: pass\n"
REMOTE = {"AutoTokenizer": ["code.Tokenizer", None], "AutoModel": "code.Model"}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    for part in bert(transformers):
        part.save_pretrained(folder)
    return PretrainedText(str(folder)).extra_state()


@pytest.fixture
def load(state, tmp_path, monkeypatch):
    """Loads a changed copy of the state; nothing may be written beside the temporary files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code.py").write_text(CODE)

    def _load(change):
        changed = copy.deepcopy(state)
        change(changed)
        with skip_pretrained():
            encoder = PretrainedText("gone")
        load_extra_states(encoder, {"": changed})
        return encoder

    yield _load
    assert {path.name for path in tmp_path.iterdir()} == {"code.py"}


NAMES = [
    *("../escaped.json", "../../escaped.json", "sub/vocab.txt", "code.py", "tokenizer.py"),
    *("vocab.pkl", "pytorch_model.bin", "config.json", "..", ".", "", "vocab.txt\0", "~/vocab.txt"),
]


@pytest.mark.parametrize("name", [*NAMES, "/absolute"])
def test_a_tokenisers_files_have_known_names(load, tmp_path, name):
    name = str(tmp_path / "escaped") if name == "/absolute" else name
    with pytest.raises(InputError, match="is no file of a tokeniser"):
        load(lambda state: state["tokeniser"].update({name: "x"}))


def tokeniser_config(**more):
    def change(state):
        config = json.loads(state["tokeniser"]["tokenizer_config.json"])
        state["tokeniser"]["tokenizer_config.json"] = json.dumps({**config, **more})

    return change


def model_config(**more):
    return lambda state: state["model"].update(more)


CHANGES = {
    "the tokeniser's code": tokeniser_config(auto_map=REMOTE),
    "the tokeniser's code elsewhere": tokeniser_config(
        auto_map={"AutoTokenizer": ["someone/code--code.Tokenizer", None]}
    ),
    "the model's code": model_config(auto_map=REMOTE),
    "the model's code elsewhere": model_config(auto_map={"AutoModel": "someone/code--code.Model"}),
    "trust": model_config(auto_map=REMOTE, trust_remote_code=True),
    "a kernel of the hub": model_config(attn_implementation="kernels-community/flash-attn"),
    "a private kernel of the hub": model_config(_attn_implementation="someone/kernel"),
    "quantisation": model_config(quantization_config={"quant_method": "bitsandbytes"}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_it_says_of_other_code_is_left_out(load, name):
    encoder = load(CHANGES[name])
    assert type(encoder.network).__module__.startswith("transformers.models.bert")
    assert encoder(["a dog"]).tokens is not None


BROKEN = {
    "no files": lambda state: state.update(tokeniser={}),
    "no model": lambda state: state.pop("model"),
    "another kind": model_config(model_type="no_such_model"),
    "text as width": model_config(hidden_size="x"),
    "heads that do not divide": model_config(num_attention_heads=3),
    "a broken tokeniser": lambda state: state["tokeniser"].update({"tokenizer.json": "{"}),
    "no text": lambda state: state["tokeniser"].update({"tokenizer_config.json": 3}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_built_is_told_in_one_line(load, name):
    with pytest.raises(InputError, match=r"state of|files of a tokeniser"):
        load(BROKEN[name])


KERNELS = {
    "attention": {"attn_implementation": "someone/kernel"},
    "attention, as it was": {"_attn_implementation": "someone/kernel@main:function"},
    "a half's": {"text_config": {"attn_implementation": "kernels-community/flash-attn"}},
    "experts": {"experts_implementation": "someone/kernel"},
}
REMOTE_MODELS = {
    "code": {"auto_map": REMOTE, "model_type": "mine"},
    "code of a known kind": {"auto_map": REMOTE},
    "code elsewhere": {"auto_map": {"AutoModel": "someone/code--code.Model"}, "model_type": "x"},
}


@pytest.mark.parametrize("name", [*KERNELS, *REMOTE_MODELS])
def test_a_folder_of_transformers_runs_no_code(tmp_path, monkeypatch, name):
    for part in bert(transformers):
        part.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config |= {**KERNELS, **REMOTE_MODELS}[name]
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    (tmp_path / "model" / "code.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("it asks whether to"))
    for build in (PretrainedText, PretrainedVision, lambda folder: ScaledCosine(pretrained=folder)):
        with contextlib.suppress(InputError) if name in REMOTE_MODELS else refused_kernel():
            build("model")
    assert not (tmp_path / "canary").exists()


def refused_kernel():
    return pytest.raises(InputError, match="asks for a kernel of the hub")
