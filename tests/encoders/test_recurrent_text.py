import logging

import pytest
import torch

from itm_lightning.encoders import RecurrentText, Vocabulary
from itm_lightning.encoders.vocabulary import split_treebank, split_words
from itm_lightning.errors import InputError
from itm_lightning.part import skip_pretrained
from tests.encoders.conftest import TEXTS


def small(**arguments):
    encoder = RecurrentText(**{"hidden": 5, "word_dim": 4, **arguments})
    encoder.learn_vocabulary(TEXTS)
    return encoder


class TestVocabulary:
    def test_words(self):
        words = ["the", "dog's", "2nd", "ball", "isn't", "o'clock", "rouge", "été", "t", "shirt"]
        text = "The DOG'S 2nd ball isn’t 'o'clock' rouge_été, T-shirt!"
        assert split_words(text) == [*words[:4], "isn't", *words[5:]]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("The dog's ball!", "the dog 's ball !"),
            ("Two men, one in red.", "two men , one in red ."),
            ("He can't pay $3.50.", "he ca n't pay $ 3.50 ."),
            ('A sign says "Stop".', "a sign says `` stop '' ."),
            ("At 5:30 (or so)... they'll go", "at 5:30 ( or so ) ... they 'll go"),
            (
                "Mr. X waves a U.S. flag. It cannot wave",
                "mr. x waves a u.s. flag . it can not wave",
            ),
            ("t-shirt & jeans", "t-shirt & jeans"),
            ("the kids' dog", "the kids ' dog"),
            ("", ""),
        ],
    )
    def test_words_of_the_treebank(self, text, words):
        assert split_treebank(text) == ["<start>", *words.split(), "<end>"]

    def test_most_frequent_first_then_by_name(self):
        texts = iter(["b a c", "C c b", "d"])
        assert Vocabulary.learn(texts).words == ["c", "b", "a", "d"]
        assert Vocabulary.learn(["b a c", "C c b", "d"], min_count=2).words == ["c", "b"]

    def test_encode(self):
        vocabulary = Vocabulary(["dog", "a"])
        assert len(vocabulary) == 4
        ids, mask = vocabulary.encode(["A dog barks", "", "dog"])
        assert ids.tolist() == [[3, 2, 1], [1, 0, 0], [2, 0, 0]]
        assert mask.tolist() == [[True] * 3, [True, False, False], [True, False, False]]
        assert ids.dtype == torch.int64


@pytest.mark.parametrize(
    ("cell", "kind", "dim"), [("lstm", torch.nn.LSTM, 10), ("gru", torch.nn.GRU, 10)]
)
def test_equals_the_obvious_loop(cell, kind, dim):
    encoder = small(cell=cell, layers=2).eval()
    assert isinstance(encoder.network, kind)
    assert encoder.dim == dim
    features = encoder(TEXTS)
    for row, text in enumerate(TEXTS):
        ids = [encoder.vocabulary.id(word) for word in split_words(text)] or [1]
        states, _ = encoder.network(encoder.embedding.weight[ids][None])
        torch.testing.assert_close(features.tokens[row, : len(ids)], states[0])
        assert features.tokens[row, len(ids) :].abs().sum() == 0


def test_one_direction():
    encoder = small(bidirectional=False)
    assert encoder.dim == encoder(["a dog"]).tokens.shape[-1] == 5


def test_the_mean_of_both_directions():
    torch.manual_seed(0)
    encoder = small(directions="mean").eval()
    assert encoder.dim == 5
    ids = [encoder.vocabulary.id(word) for word in ("a", "dog")]
    states, _ = encoder.network(encoder.embedding.weight[ids][None])
    expected = (states[0, :, :5] + states[0, :, 5:]) / 2
    torch.testing.assert_close(encoder(["a dog"]).tokens[0], expected)


def test_marks_of_start_and_end_are_tokens_but_no_words():
    encoder = small(split="treebank", word_noise=1.0).train()
    words = encoder.words(["A dog."])[0]
    assert [word.text for word in words] == ["<start>", "a", "dog", ".", "<end>"]
    assert [word.special for word in words] == [True, False, False, False, True]
    assert encoder(["A dog."]).mask.sum() >= 3  # noise leaves the marks and one word at least
    ids, mask = encoder._with_noise(*encoder.token_ids(["A dog."] * 50))
    start, end = map(encoder.vocabulary.id, ("<start>", "<end>"))
    assert (ids[:, 0] == start).all()
    assert (ids.gather(1, mask.sum(1, keepdim=True) - 1) == end).all()
    again = RecurrentText(hidden=5, word_dim=4, split="treebank")
    again.load_extra_state(encoder.extra_state())
    assert again.token_ids(["A dog."])[0].tolist() == encoder.token_ids(["A dog."])[0].tolist()


def test_without_vocabulary_says_so():
    with pytest.raises(InputError, match="no vocabulary yet: call learn_vocabulary"):
        RecurrentText(hidden=4, word_dim=4)(["a dog"])


def test_unknown_cell():
    with pytest.raises(InputError, match="no cell 'rnn'; use one of"):
        RecurrentText(cell="rnn")


def test_first_vocabulary_stays():
    encoder = small()
    words, embedding = encoder.vocabulary.words, encoder.embedding
    encoder.learn_vocabulary(["other words"])
    encoder.load_extra_state(encoder.extra_state())
    assert encoder.vocabulary.words == words
    assert encoder.embedding is embedding
    assert encoder.extra_state() == {"vocabulary": words}


def test_min_count():
    encoder = small(min_count=2)
    assert set(encoder.vocabulary.words) == {"a", "dog"}


def test_words_become_unknown_in_training_alone():
    encoder = small(unknown_rate=0.3)
    ids = torch.full((200, 50), 7)
    mask = torch.arange(50).expand(200, 50) < 40
    with_unknown = encoder._with_unknown(ids, mask)
    assert set(with_unknown.unique().tolist()) == {1, 7}
    assert (with_unknown[:, 40:] == 7).all()  # padding is no word
    assert (with_unknown[:, :40] == 1).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(encoder.eval()._with_unknown(ids, mask), ids)


def test_dropout_of_words_in_training_alone():
    encoder = small(dropout=0.5)
    assert not torch.equal(encoder(TEXTS).pooled, encoder(TEXTS).pooled)
    encoder.eval()
    assert torch.equal(encoder(TEXTS).pooled, encoder(TEXTS).pooled)


def test_padding_stays_zero_after_learning():
    encoder = small()
    encoder(TEXTS).pooled.square().sum().backward()
    assert encoder.embedding.weight.grad[0].abs().sum() == 0
    assert encoder.embedding.weight.grad[1].abs().sum() > 0  # the empty caption is one unknown
    assert encoder.embedding.weight[0].abs().sum() == 0


WORDS = ("dog", "a", "ball")


class TestVectors:
    LINES = ("dog 1 2 3 4", ". . . 5 5 5 5", "a -1 0.5 1e-1 0", "a 9 9 9 9", "zebra 1 1 1 1", "")

    def write(self, tmp_path, *lines):
        path = tmp_path / "vectors.txt"
        path.write_text("\n".join(lines), encoding="utf-8")
        return str(path)

    @pytest.mark.parametrize("header", [(), ("5 4",)])
    def test_start_the_embeddings(self, tmp_path, caplog, header):
        path = self.write(tmp_path, *header, *self.LINES)
        with caplog.at_level(logging.INFO):
            encoder = small(vectors=path)
        rows = {
            w: encoder.embedding.weight[encoder.vocabulary.id(w)].tolist() for w in ("dog", "a")
        }
        assert rows["dog"] == [1, 2, 3, 4]
        assert rows["a"] == pytest.approx([-1, 0.5, 0.1, 0])
        assert encoder.embedding.weight[encoder.vocabulary.id("ball")].abs().max() <= 0.1
        assert f"{path}: 2 of {len(encoder.vocabulary.words)} words found" in caplog.text

    def test_blanks_at_the_end_of_lines_as_word2vec_writes(self, tmp_path):
        encoder = small(vectors=self.write(tmp_path, "dog 1 2 3 4 ", "a 1 1 1 1 "))
        assert encoder.embedding.weight[encoder.vocabulary.id("dog")].tolist() == [1, 2, 3, 4]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("dog 1 2 3", "line 2: not a word and 4 numbers"),
            ("dog 1 2 3 4 5", "line 2: not a word and 4 numbers"),
            ("zebra 1 2 3", "line 2: not a word and 4 numbers"),
            ("zebra 1 2 3 4 5", "line 2: not a word and 4 numbers"),
            ("dog 1 2 x 4", "line 2: not a word and 4 numbers"),
            ("dog 1 2 nan 4", "line 2: not a word and 4 numbers"),
        ],
    )
    def test_malformed_line_is_named(self, tmp_path, line, message):
        path = self.write(tmp_path, "ball 1 2 3 4", line)
        with pytest.raises(InputError, match=message) as error:
            small(vectors=path)
        assert path in str(error.value)

    def test_wrong_width_and_missing_file_are_told_at_once(self, tmp_path):
        path = self.write(tmp_path, "2 3", "ball 1 2 3", "dog 1 2 3")
        with pytest.raises(InputError, match="line 2: a vector of 3 numbers where word_dim is 4"):
            RecurrentText(word_dim=4, vectors=path)
        with pytest.raises(InputError, match="there is no word vectors file"):
            RecurrentText(word_dim=4, vectors=str(tmp_path / "none.txt"))
        with pytest.raises(InputError, match="line 1: a vector of 0 numbers"):
            RecurrentText(word_dim=4, vectors=self.write(tmp_path))

    def test_restoring_reads_no_file(self, tmp_path):
        with skip_pretrained():
            encoder = RecurrentText(hidden=5, word_dim=4, vectors=str(tmp_path / "none.txt"))
        encoder.load_extra_state({"vocabulary": ["dog"]})
        encoder.learn_vocabulary(TEXTS)
        assert encoder.vocabulary.words == ["dog"]


def test_compiles():
    encoder = small().eval()
    expected = encoder(TEXTS)
    encoder.compile(backend="eager")
    torch.testing.assert_close(encoder(TEXTS).pooled, expected.pooled)
