"""The embeddings of BERT's word pieces, for a head that reads them itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from typing_extensions import override

from itm_lightning.encoders.pretrained import load_model, read_tokeniser
from itm_lightning.encoders.pretrained_text import PretrainedText
from itm_lightning.errors import InputError, Size
from itm_lightning.pooling import Pooling
from itm_lightning.registry import register

_MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@register("text_encoder")
class WordPieces(PretrainedText):
    """Each piece of a word by itself: its embedding, without position, and no network over them.

    What a one-stream model reads (:class:`~itm_lightning.similarity.FashionBERT`), where words and
    regions meet in the head. The first token is ``[CLS]``, the last ``[SEP]``.

    Args:
        name: local folder or hub name of the model (``bert-base-uncased``) whose tokeniser and
            embeddings it starts from. Where ``None``, the pieces are the whole words and the
            punctuation of the training texts, with random embeddings.
        dim: width of the embeddings; that of the model of this name.
        max_length: the most tokens of a text, at most 512; longer texts are cut.
        pooling: makes the pooled vector of the tokens; their mean where ``None``.

    Raises:
        InputError: there is no such model, or it has another width.
    """

    def __init__(
        self,
        name: str | None = None,
        dim: Size = 768,
        max_length: Size | None = None,
        pooling: Pooling | None = None,
    ) -> None:
        self.dim = dim
        super().__init__(name or "", max_length=max_length, pooling=pooling)
        if self.dim != dim:
            raise InputError(f"WordPieces: {name} is {self.dim} wide, not {dim}: set dim to that")

    @override
    def learn_vocabulary(self, texts: Iterable[str]) -> None:
        """Learns the words, unless it has pieces, which may have trained embeddings."""
        if not self.name and len(self._tokeniser) == len(_MARKS):
            device = self.device
            self._build(*_of_words(_words(texts), self.dim))
            self.to(device)

    @override
    def _pretrained(self) -> tuple[Any, dict[str, str]]:
        from transformers import AutoModel

        if not self.name:
            return _of_words([], self.dim)
        model, files = load_model(self.name), super()._pretrained()[1]
        embeddings = model.get_input_embeddings()
        model.config.num_hidden_layers = 0
        model = AutoModel.from_config(model.config)
        model.set_input_embeddings(embeddings)
        return model, files

    @override
    def _network(self, model: Any) -> Any:
        return _Embeddings(model.get_input_embeddings(), model.config)


class _Embeddings(nn.Module):
    """From ids to embeddings.

    Args:
        embeddings: of all ids.
        config: of the model that they come from.
    """

    def __init__(self, embeddings: nn.Embedding, config: Any) -> None:
        super().__init__()
        self.embeddings, self.config = embeddings, config

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """``(B, L, D)`` of ids ``(B, L)``."""
        return self.embeddings(input_ids)


def _words(texts: Iterable[str]) -> list[str]:
    """Words and punctuation as BERT tells them apart, the most frequent first."""
    from tokenizers import pre_tokenizers

    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    counts = Counter(word for text in texts for word, _ in split(text.lower()))
    return sorted(counts, key=lambda word: (-counts[word], word))


def _of_words(words: Sequence[str], dim: int) -> tuple[Any, dict[str, str]]:
    """A BERT of random weights and no layers, and the files of a tokeniser of these words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    padding, unknown, start, end, mask = _MARKS
    ids = {word: number for number, word in enumerate([*_MARKS, *words])}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=unknown))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(mark, ids[mark]) for mark in (start, end)]
    )
    marks = {
        **{"pad_token": padding, "unk_token": unknown, "mask_token": mask},
        **{"cls_token": start, "sep_token": end},
    }
    config = BertConfig(
        vocab_size=len(ids),
        hidden_size=dim,
        intermediate_size=dim,
        num_hidden_layers=0,
        num_attention_heads=1,
    )
    files = read_tokeniser(PreTrainedTokenizerFast(tokenizer_object=tokenizer, **marks))
    return BertModel(config, add_pooling_layer=False), files
