"""Tiny models of transformers with random weights, in folders as ``save_pretrained`` writes."""

from __future__ import annotations

import os
import shutil

os.environ["HF_HUB_OFFLINE"] = "1"  # read when transformers is imported: no test asks the hub

import numpy as np
import pytest
import torch
from PIL import Image

TEXTS = ["A dog's ball.", "", "two men in red hats ride 2 horses past a dog", "a dog"]
TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
IMAGE = {**TINY, "image_size": 32, "patch_size": 16}
WORDS = ["a", "dog", "'", "s", "ball", ".", "two", "men", "in", "red", "ride", "2", "past"]


def tokeniser(start: str, end: str, padding: str):
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {w: i for i, w in enumerate(dict.fromkeys([padding, "[UNK]", start, end, *WORDS]))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}",
        special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token=padding,
        bos_token=start,
        eos_token=end,
    )


def text_settings(positions: int) -> dict:
    return {
        **TINY,
        "vocab_size": 20,
        "max_position_embeddings": positions,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "pad_token_id": 0,
    }


def bert(t):
    return [t.BertModel(t.BertConfig(**text_settings(12))), tokeniser("[CLS]", "[SEP]", "[PAD]")]


def t5(t):
    config = t.T5Config(vocab_size=20, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return [t.T5Model(config), tokeniser("<s>", "</s>", "<pad>")]


def clip(t):
    config = t.CLIPConfig(text_config=text_settings(16), vision_config=IMAGE, projection_dim=8)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return [t.CLIPModel(config), tokeniser("<s>", "</s>", "<pad>"), t.CLIPImageProcessor(**size)]


def siglip(t):
    config = t.SiglipConfig(text_config=text_settings(16), vision_config=IMAGE)
    processor = t.SiglipImageProcessor(size={"height": 32, "width": 32})
    return [t.SiglipModel(config), tokeniser("<s>", "</s>", "</s>"), processor]


def vit(t):
    processor = t.ViTImageProcessor(size={"height": 32, "width": 32})
    return [t.ViTModel(t.ViTConfig(**IMAGE)), processor]


def dinov2(t):
    size = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    return [t.Dinov2Model(t.Dinov2Config(**IMAGE)), t.BitImageProcessor(**size)]


def resnet(t):
    config = t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1])
    return [t.ResNetModel(config)]


MODELS = {f.__name__: f for f in (bert, t5, clip, siglip, vit, dinov2, resnet)}


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Folder of a tiny model by its name; made when first asked for, not to be changed."""
    made = {}

    def folder(name: str) -> str:
        if name not in made:
            import transformers

            torch.manual_seed(0)
            made[name] = str(tmp_path_factory.mktemp(name))
            for part in MODELS[name](transformers):
                part.save_pretrained(made[name])
        return made[name]

    return folder


@pytest.fixture
def folder_copy(folders, tmp_path):
    """A copy of a tiny model's folder, which the test may delete or damage."""
    return lambda name: str(shutil.copytree(folders(name), tmp_path / name))


@pytest.fixture
def image():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
