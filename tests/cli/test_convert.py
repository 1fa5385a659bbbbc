"""``lightning convert``: published checkpoints score as by their equations, and run nothing."""

import argparse
import json
import os
import re

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from itm_lightning import Matcher
from itm_lightning.cli import main
from itm_lightning.types import Features
from tests.conftest import REPO
from tests.encoders.conftest import bert

RECIPES = REPO / "experiments" / "flickr30k"
DIM, WIDTH, WORD_DIM = 6, 4, 5  # of regions, of the joint space, of words
WORDS = ["<pad>", "<start>", "<end>", "<unk>", "dog", "a", "'s", "red", "ball", "."]
TEXTS = ["A dog's red ball.", "the dog", "a ball."]
IDS = [[1, 5, 4, 6, 7, 8, 9, 2], [1, 3, 4, 2], [1, 5, 8, 9, 2]]  # the authors' of these texts


@pytest.fixture
def vocabulary(tmp_path):
    ids = {word: i for i, word in enumerate(WORDS)}
    path = tmp_path / "f30k_precomp_vocab.json"
    path.write_text(json.dumps({"word2idx": ids, "idx2word": {}, "idx": len(ids)}))
    return path


@pytest.fixture
def images():
    """Regions of 3 images ``(3, 7, DIM)``."""
    return torch.randn(3, 7, DIM, generator=torch.Generator().manual_seed(1))


def state_of(**modules):
    """A state dict of modules with random weights, under the authors' names."""
    torch.manual_seed(len(modules))
    made = torch.nn.Module()
    for name, module in modules.items():
        made.add_module(name, module)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made.state_dict()


class Gpool(torch.nn.Module):
    """The parameters of the authors' GPO(32, 32)."""

    def __init__(self):
        super().__init__()
        self.gru = torch.nn.GRU(32, 32, batch_first=True, bidirectional=True)
        self.linear = torch.nn.Linear(32, 1, bias=False)


class Mlp(torch.nn.Module):
    """The parameters of the authors' two-layer MLP."""

    def __init__(self):
        super().__init__()
        widths = [DIM, WIDTH // 2, WIDTH]
        self.layers = torch.nn.ModuleList(map(torch.nn.Linear, widths, widths[1:]))
        self.bns = torch.nn.ModuleList(map(torch.nn.BatchNorm1d, widths[1:]))


def gru(width=WIDTH):
    return torch.nn.GRU(WORD_DIM, width, batch_first=True, bidirectional=True)


def scan_states():
    images = state_of(fc=torch.nn.Linear(DIM, WIDTH))
    return [images, state_of(embed=torch.nn.Embedding(len(WORDS), WORD_DIM), rnn=gru())]


def vse_infty_states(words):
    images = state_of(fc=torch.nn.Linear(DIM, WIDTH), mlp=Mlp(), gpool=Gpool())
    images["mlp.bns.0.running_mean"] = torch.randn(WIDTH // 2)
    images["mlp.bns.0.running_var"] = torch.rand(WIDTH // 2) + 0.5
    return [images, state_of(**words, gpool=Gpool())]


def save(states, path, zipped=True):
    """As the authors' ``train.py`` saves it; in the format before or since torch 1.6."""
    options = argparse.Namespace(embed_size=WIDTH, agg_func="LogSumExp", max_violation=True)
    content = {"epoch": 3, "model": states, "best_rsum": np.float64(400.0), "opt": options}
    torch.save(content | {"Eiters": 7}, path, _use_new_zipfile_serialization=zipped)
    return path


# -- the authors' equations ------------------------------------------------------------------------


def words_of(state, ids):
    """States ``(L, WIDTH)``, the mean of both directions."""
    network = gru()
    network.load_state_dict({k[4:]: v for k, v in state.items() if k.startswith("rnn.")})
    states = network(state["embed.weight"][ids][None])[0][0]
    return (states[:, :WIDTH] + states[:, WIDTH:]) / 2


def scan_t2i(regions, words, lambda_1=9.0, lambda_2=6.0):
    """Lee et al. (2018), equations 1 to 7 with the names of section 3.1."""
    regions, words = F.normalize(regions, dim=-1), F.normalize(words, dim=-1)
    cosines = F.leaky_relu(regions @ words.T, 0.1)
    cosines = cosines / cosines.norm(dim=1, keepdim=True)
    attended = (lambda_1 * cosines).softmax(dim=0).T @ regions
    relevance = F.cosine_similarity(attended, words, dim=-1)
    return (lambda_2 * relevance).exp().sum().log() / lambda_2


def pooled(state, tokens):
    """Chen et al. (2021), equation 7: sorted values, weighted by a GRU over positions."""
    network = torch.nn.GRU(32, 32, batch_first=True, bidirectional=True)
    network.load_state_dict({k[10:]: v for k, v in state.items() if k.startswith("gpool.gru")})
    places, rates = torch.arange(len(tokens))[:, None], 10000 ** (-torch.arange(0, 32, 2) / 32)
    encodings = torch.zeros(len(tokens), 32)
    encodings[:, 0::2], encodings[:, 1::2] = (places * rates).sin(), (places * rates).cos()
    states = network(encodings[None])[0][0]
    scores = (states[:, :32] + states[:, 32:]) / 2 @ state["gpool.linear.weight"][0]
    weights = (scores / 0.1).softmax(dim=0)
    return F.normalize(weights @ tokens.sort(dim=0, descending=True).values, dim=0)


def vse_infty_image(state, regions):
    def linear(name, vectors):
        return vectors @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    hidden = linear("mlp.layers.0", regions) - state["mlp.bns.0.running_mean"]
    hidden = hidden / (state["mlp.bns.0.running_var"] + 1e-5).sqrt()
    hidden = hidden * state["mlp.bns.0.weight"] + state["mlp.bns.0.bias"]
    return pooled(state, linear("fc", regions) + linear("mlp.layers.1", hidden.relu()))


def convert(recipe, checkpoint, *flags):
    """The checkpoint that ``lightning convert`` writes."""
    output = checkpoint.with_suffix(".ckpt")
    files = [f"--config={RECIPES / recipe}", f"--checkpoint={checkpoint}", f"--output={output}"]
    main(["convert", *files, f"--model.image_encoder.dim={DIM}", *map(str, flags)])
    return output


GRU = "--model.text_encoder.hidden=4", "--model.text_encoder.word_dim=5"
MLP = "--model.image_encoder.projection.dim=4", "--model.image_encoder.projection.hidden=2"


def scores_of(path, images, texts=TEXTS):
    matcher = Matcher.load_from_checkpoint(path)
    mask = torch.ones(images.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        return matcher(Features(images, mask, None), texts)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_scan(images, vocabulary, tmp_path, zipped):
    states = scan_states()
    path = save(states, tmp_path / "model_best.pth.tar", zipped)
    output = convert("scan.yaml", path, *GRU, "--model.dim=4", f"--vocabulary={vocabulary}")
    regions = images @ states[0]["fc.weight"].T + states[0]["fc.bias"]
    words = [words_of(states[1], ids) for ids in IDS]
    expected = torch.stack([torch.stack([scan_t2i(r, w) for w in words]) for r in regions])
    torch.testing.assert_close(scores_of(output, images), expected, atol=1e-5, rtol=1e-5)


def test_scan_with_weight_norm(images, vocabulary, tmp_path):
    states = scan_states()
    flags = [*GRU, "--model.dim=4", f"--vocabulary={vocabulary}"]
    plain = convert("scan.yaml", save(states, tmp_path / "plain.pth"), *flags)
    weight = states[0].pop("fc.weight")
    states[0] |= {"fc.weight_g": weight.norm(), "fc.weight_v": 3 * weight}
    normed = convert("scan.yaml", save(states, tmp_path / "normed.pth"), *flags)
    torch.testing.assert_close(scores_of(normed, images), scores_of(plain, images))


def test_sgraf(vocabulary, tmp_path):
    """The head's parameters and scores are those of a run of the authors' code."""
    golden = np.load(REPO / "tests" / "golden" / "sgraf_sgr.npz", allow_pickle=False)
    arrays = {name: torch.from_numpy(golden[name]) for name in golden}
    head = {name[6:]: value for name, value in arrays.items() if name.startswith("state.")}
    texts = state_of(embed=torch.nn.Embedding(len(WORDS), WORD_DIM), cap_rnn=gru(width=64))
    states = [state_of(fc=torch.nn.Linear(DIM, 64)), texts, head]
    flags = "--model.text_encoder.hidden=64", *GRU[1:], "--model.similarity.sim_dim=32"
    output = convert(
        *("sgr.yaml", save(states, tmp_path / "sgr.pth"), "--model.dim=64"),
        *(*flags, f"--vocabulary={vocabulary}"),
    )
    matcher = Matcher.load_from_checkpoint(output)
    captions, lengths = arrays["captions"], arrays["caption_lengths"]
    with torch.no_grad():
        scores = matcher.similarity(
            Features.from_tokens(arrays["images"]),
            Features(captions, torch.arange(captions.shape[1]) < lengths[:, None], None),
        )
    torch.testing.assert_close(scores, arrays["scores"], atol=1e-5, rtol=1e-5)
    assert matcher.image_projection.linear.weight.equal(states[0]["fc.weight"])
    assert matcher.text_encoder.network.weight_hh_l0.equal(texts["cap_rnn.weight_hh_l0"])


def test_vse_infty_with_a_gru(images, vocabulary, tmp_path):
    # one embedding more than words: the authors add <mask> before they train
    embed = torch.nn.Embedding(len(WORDS) + 1, WORD_DIM)
    states = vse_infty_states({"embed": embed, "rnn": gru()})
    output = convert(
        *("vse_infty_bigru.yaml", save(states, tmp_path / "model_best.pth")),
        *(*GRU, *MLP, f"--vocabulary={vocabulary}"),
    )
    by_image = torch.stack([vse_infty_image(states[0], regions) for regions in images])
    by_text = torch.stack([pooled(states[1], words_of(states[1], ids)) for ids in IDS])
    torch.testing.assert_close(
        scores_of(output, images), by_image @ by_text.T, atol=1e-5, rtol=1e-5
    )


@pytest.fixture
def tiny_bert(tmp_path):
    """A folder of BERT, another such network without weights in common, and the tokeniser."""
    import transformers

    model, tokeniser = bert(transformers)
    for part in (model, tokeniser):
        part.save_pretrained(tmp_path / "bert")
    return tmp_path / "bert", type(model)(model.config).eval(), tokeniser


def words_of_bert(state, model, tokeniser):
    """What the authors' linear layer makes of each text's tokens."""
    for text in TEXTS:
        ids = torch.tensor([tokeniser(text)["input_ids"]])
        words = model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        yield words @ state["linear.weight"].T + state["linear.bias"]


def test_vse_infty_with_bert(images, tmp_path, tiny_bert):
    folder, *model = tiny_bert
    states = vse_infty_states({"linear": torch.nn.Linear(16, WIDTH), "bert": model[0]})
    states[1]["bert.embeddings.position_ids"] = torch.arange(12)[None]  # of old transformers
    output = convert(
        *("vse_infty_bert.yaml", save(states, tmp_path / "model_best.pth"), *MLP),
        *(f"--model.text_encoder.name={folder}", "--model.text_encoder.projection.dim=4"),
    )
    by_image = torch.stack([vse_infty_image(states[0], regions) for regions in images])
    by_text = torch.stack([pooled(states[1], w) for w in words_of_bert(states[1], *model)])
    torch.testing.assert_close(
        scores_of(output, images), by_image @ by_text.T, atol=1e-5, rtol=1e-5
    )


def test_chan(images, tmp_path, tiny_bert):
    folder, *model = tiny_bert
    texts = state_of(linear=torch.nn.Linear(16, WIDTH), bert=model[0])
    states = [state_of(fc=torch.nn.Linear(DIM, WIDTH)), texts, {}, {}]  # head and loss: no weights
    flags = f"--model.text_encoder.name={folder}", "--model.dim=4"
    output = convert("chan.yaml", save(states, tmp_path / "model_best.pth"), *flags)
    regions = F.normalize(images @ states[0]["fc.weight"].T + states[0]["fc.bias"], dim=-1)
    words = [F.normalize(w, dim=-1) for w in words_of_bert(texts, *model)]
    # Pan et al. (2023): LogSumExp over the words, each with its nearest region
    expected = [[(10 * (r @ w.T).amax(0)).logsumexp(0) / 10 for w in words] for r in regions]
    expected = torch.stack([torch.stack(row) for row in expected])
    torch.testing.assert_close(scores_of(output, images), expected, atol=1e-5, rtol=1e-5)


def test_lightning_test_scores_it_on_the_data_of_the_recipe(run, vocabulary, tmp_path):
    path = save(scan_states(), tmp_path / "scan.pth")
    root, generator = tmp_path / "precomp", np.random.default_rng(0)
    root.mkdir()
    np.save(root / "test_ims.npy", generator.random((4, 7, DIM), dtype=np.float32))
    (root / "test_caps.txt").write_text("".join(f"{text}\n" for text in 4 * TEXTS))
    flags = [*GRU, "--model.dim=4", f"--vocabulary={vocabulary}", "--protocol=Retrieval"]
    output = convert("scan.yaml", path, *flags, f"--data.source.root={root}")
    folder = run("test", f"--ckpt_path={output}", "--data.num_workers=0")
    assert json.loads((folder / "test_results.json").read_text())["queries"]["i2t"] == 4


class Malicious:
    """Makes a folder where it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_nothing_in_the_file_is_run(vocabulary, tmp_path, zipped):
    path, made = tmp_path / "model.pth", tmp_path / "made"
    content = {"model": scan_states(), "opt": Malicious(made)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    convert("scan.yaml", path, *GRU, "--model.dim=4", f"--vocabulary={vocabulary}")
    assert not made.exists()
    torch.load(path, weights_only=False)
    assert made.exists()  # as torch itself would have had it


def broken(states, path, fault):
    if fault == "text":
        path.write_text("no checkpoint")
    elif fault == "other":
        torch.save({"state_dict": states[0]}, path)
    elif fault == "grid":
        save([{"module.backbone.top.weight": torch.ones(2)}, states[1]], path)
    elif fault == "words":
        states[1]["embed.weight"] = torch.ones(30, WORD_DIM)
        save(states, path)
    elif fault == "missing":
        save([{"fc.weight": states[0]["fc.weight"]}, states[1]], path)
    return path


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("absent", "there is no such file"),
        ("text", "cannot be read"),
        ("other", "has no list of state dicts under 'model'"),
        ("grid", "backbone.top.weight is no parameter of SCAN, SGRAF, VSE∞ or CHAN"),
        ("words", "has 10 words, the checkpoint 30 embeddings"),
        ("missing", r"1 missing \(image_projection.linear.bias\)"),
    ],
)
def test_bad_files_are_told_in_a_line(refuse, vocabulary, tmp_path, fault, message):
    path = broken(scan_states(), tmp_path / "bad.pth", fault)
    flags = [f"--config={RECIPES / 'scan.yaml'}", "--model.image_encoder.dim=6", *GRU]
    line = refuse(
        *("convert", *flags, "--model.dim=4", f"--checkpoint={path}"),
        *(f"--vocabulary={vocabulary}", f"--output={tmp_path / 'out.ckpt'}"),
    )
    assert re.search(message, line)
    assert not (tmp_path / "out.ckpt").exists()


def test_a_vocabulary_is_asked_for_and_checked(refuse, tmp_path):
    files = "convert", f"--checkpoint={save(scan_states(), tmp_path / 'a.pth')}", "--output=a.ckpt"
    small = "--model.image_encoder.dim=6", "--model.dim=4", *GRU
    recipe = f"--config={RECIPES / 'scan.yaml'}", *small
    assert "RecurrentText needs --vocabulary" in refuse(*files, *recipe)
    (tmp_path / "words.json").write_text('{"dog": 0}')
    line = refuse(*files, *recipe, "--vocabulary=words.json")
    assert "words.json is no JSON with 'word2idx'" in line
    assert "needs --config: the recipe" in refuse(*files)
