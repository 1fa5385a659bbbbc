"""What a training step takes, beside forward and backward of its two networks alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch
from side_by_side import first_and_again

from itm_lightning import Batch, Matcher
from itm_lightning.encoders import PretrainedText, TorchvisionCNN

Measurements = Iterator[tuple[str, Callable[[], dict[str, Any]]]]

_WORDS = [f"word{k}" for k in range(1000)]
_TINY_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


def write_bert(folder: str, tiny: bool, **settings: Any) -> None:
    """A BERT with random weights and a tokeniser of whole words, as ``save_pretrained`` writes."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = {word: k for k, word in enumerate(["[PAD]", "[UNK]", *_WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokeniser = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]"
    )
    tokeniser.save_pretrained(folder)
    small = {**_TINY_BERT, "vocab_size": len(vocabulary)} if tiny else {}
    BertModel(BertConfig(**small, **settings)).save_pretrained(folder)


def training_steps(device: torch.device, tiny: bool) -> Measurements:
    """In bf16, 224 pixels, 256 pairs: encoders, head, loss, and back; the optimiser's step too."""
    networks = ("squeezenet1_1",) if tiny else ("vit_b_16", "resnet50")
    size, pairs, repeats = (32, 4, 1) if tiny else (224, 256, 5)
    pixels = torch.randint(256, (pairs, 3, size, size), dtype=torch.uint8, device=device)
    batch = _batch(pixels)
    compiled, cached = {"compile": True}, {"gradient_cache": pairs // 4}
    ways = {
        "eager": {},
        "GradCache": cached,
        "compiled": compiled,
        "GradCache, compiled": cached | compiled,
    }
    with TemporaryDirectory() as folder:
        write_bert(folder, tiny)
        for network in networks:
            encoders = partial(_encoders, network, size, folder)
            bare: dict[str, float] = {}
            alone = partial(_networks_alone, encoders, batch, repeats, bare)
            yield f"{network} and BERT alone", alone
            for way, settings in ways.items():
                if "gradient_cache" in settings and network == "resnet50":
                    continue  # it normalises by the batch, of which a chunk is only a part
                yield f"{network}, {way}", partial(_step, encoders, settings, batch, repeats, bare)


def _batch(pixels: torch.Tensor) -> Batch:
    pairs = len(pixels)
    lengths = torch.randint(8, 18, (pairs,)).tolist()
    texts = [" ".join(_WORDS[(7 * k + w) % 1000] for w in range(n)) for k, n in enumerate(lengths)]
    ids = torch.arange(pairs, device=pixels.device)
    labels = torch.zeros(pairs, 0, dtype=torch.bool, device=pixels.device)
    return Batch(pixels, texts, ids, ids, ids, labels)


def _encoders(network: str, size: int, folder: str) -> tuple[TorchvisionCNN, PretrainedText]:
    return TorchvisionCNN(network, image_size=size), PretrainedText(folder)


def _networks_alone(
    encoders: Callable[[], Any], batch: Batch, repeats: int, bare: dict[str, float]
) -> dict[str, float]:
    device = batch.images.device
    image, text = (encoder.to(device).train() for encoder in encoders())
    ids, mask = (side.to(device) for side in text.token_ids(batch.texts))
    pixels = image.normalise(batch.images).contiguous(memory_format=torch.channels_last)

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            grid = image.network(pixels)["grid"]
            states = text.network(input_ids=ids, attention_mask=mask).last_hidden_state
        (grid.float().mean() + states.float().mean()).backward()
        image.zero_grad()
        text.zero_grad()

    figures, _ = first_and_again(run, repeats)
    bare.update(figures)
    return _with_rate(figures, batch)


def _step(
    encoders: Callable[[], Any],
    settings: dict[str, Any],
    batch: Batch,
    repeats: int,
    bare: dict[str, float],
) -> dict[str, float]:
    device = batch.images.device
    matcher = Matcher(*encoders(), **settings).to(device).train()
    matcher.compile_parts()
    optimizer = matcher.configure_optimizers()

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = matcher.objective.loss(matcher.compare(batch))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    figures, _ = first_and_again(run, repeats)
    share = {"share of the networks alone": bare["s"] / figures["s"]} if bare else {}
    return _with_rate(figures, batch) | share


def _with_rate(figures: dict[str, float], batch: Batch) -> dict[str, float]:
    return {**figures, "images/s": len(batch.texts) / figures["s"]}
