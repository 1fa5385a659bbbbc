"""``lightning predict``: what each query of a split, or of one's own, retrieves."""

import json
import re

import pytest
import torch

from itm_lightning import ITMDataModule, Matcher
from itm_lightning.callbacks.predictions import prediction_lines
from itm_lightning.cli import main
from itm_lightning.cli.predicting import set_prediction
from itm_lightning.data import Record, Scenes
from itm_lightning.errors import InputError
from itm_lightning.evaluating import OwnQueries, Retrieved
from itm_lightning.metrics import Gallery
from itm_lightning.ranking import rank_and_top_k
from itm_lightning.similarity import DotProduct
from itm_lightning.types import Features
from tests.cli.conftest import in_file
from tests.conftest import TINY_MODEL, TINY_SCENES, TINY_TRAINER


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The best checkpoint of a tiny fit."""
    folder = tmp_path_factory.mktemp("fitted")
    data = {"source": TINY_SCENES, "batch_size": 8}
    config = {"trainer": TINY_TRAINER, "model": TINY_MODEL, "data": data}
    flags = "--run_name=tiny", f"--trainer.default_root_dir={folder}"
    main(["fit", "--config", in_file(config, folder), *flags])
    return folder / "tiny" / "checkpoints" / "best.ckpt"


@pytest.fixture
def predict(run, fitted):
    """Runs ``predict`` with some flags; returns the lines that it writes."""

    def _predict(*flags):
        text = (run("predict", "--ckpt_path", fitted, *flags) / "predictions.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    return _predict


def scores_of(path, split):
    """All images of a split by all texts, and the batch that they are."""
    model = Matcher.load_from_checkpoint(path)
    data = ITMDataModule(Scenes(**TINY_SCENES["init_args"]), batch_size=100)
    (batch,) = data.connect(model.image_encoder).evaluation_loader(split)
    with torch.no_grad():
        return model, model(batch.images, batch.texts), batch


def check(line, query, scores, ids, match, k):
    """One line, against all scores of its query."""
    assert line["query"] == query
    assert line["match"] == match
    best = max(score for score, answer in zip(scores, ids, strict=True) if answer in match)
    others = [score for score, answer in zip(scores, ids, strict=True) if answer not in match]
    assert line["rank"] == 1 + sum(score >= best for score in others)
    found = [result["score"] for result in line["results"]]
    assert found == pytest.approx(sorted(scores, reverse=True)[:k], abs=1e-5)
    for result in line["results"]:
        assert result["score"] == pytest.approx(scores[ids.index(result["id"])], abs=1e-5)
        assert result["is_match"] == (result["id"] in match)


def test_every_query_of_a_split_has_results_the_right_answer_and_its_rank(predict, fitted):
    lines = predict("--predict.split", "val", "--predict.k", "3")
    _, scores, batch = scores_of(fitted, "val")
    records = Scenes(**TINY_SCENES["init_args"]).records("val")
    text_ids = batch.text_ids.tolist()
    assert len(lines) == 12 + 60
    for line, record, row in zip(lines, records, scores.tolist(), strict=False):
        query = {"kind": "image", "id": record.image_id, "image": record.location}
        check(line, query, row, text_ids, list(record.text_ids), 3)
    ids = batch.image_ids.tolist()
    for number, line in enumerate(lines[12:]):
        query = {"kind": "text", "id": text_ids[number], "text": batch.texts[number]}
        match = [int(batch.text_image_ids[number])]
        check(line, query, scores[:, number].tolist(), ids, match, 3)
    assert lines[0]["results"][0]["text"] in batch.texts
    assert lines[-1]["results"][0]["image"] in {record.location for record in records}


def test_own_texts_and_images_search_the_test_split(predict, fitted, tmp_path):
    scenes = Scenes(seed=5, train=1, val=1, test=2)
    names = []
    for record in scenes.records("test"):
        names.append(f"{record.image_id}.png")
        scenes.image(record).save(tmp_path / names[-1])
    (tmp_path / "queries.txt").write_text("two things\n\na red ring\n")
    own = "--predict.texts", '["a star"]', "queries.txt", "--predict.images", *names
    lines = predict(*own, "--predict.k", "4")
    queries = [
        *({"kind": "image", "id": None, "image": name} for name in names),
        *({"kind": "text", "id": None, "text": t} for t in ("a star", "two things", "a red ring")),
    ]
    assert [line["query"] for line in lines] == queries
    model, _, batch = scores_of(fitted, "test")
    with torch.no_grad():
        of_images = model([str(tmp_path / name) for name in names], batch.texts)
        of_texts = model(batch.images, ["a star", "two things", "a red ring"]).T
    for line, scores in zip(lines, [*of_images, *of_texts], strict=True):
        found = [result["score"] for result in line["results"]]
        assert found == pytest.approx(scores.topk(4).values.tolist(), abs=1e-5)
        assert line["match"] is line["rank"] is line["results"][0]["is_match"] is None


@pytest.mark.parametrize(
    ("command", "flags", "message"),
    [
        ("predict", {"split": "valid"}, "no split 'valid' to predict; there are train, val, test"),
        ("predict", {"k": 0}, "--predict.k is 0; it must be at least 1"),
        ("predict", {"images": ["a.jpg"]}, "--predict.images: there is no file a.jpg"),
        ("predict", {"texts": ["a.txt"]}, "--predict.texts: there is no file a.txt"),
        ("predict", {"texts": ["a", " "]}, "a text of --predict.texts is empty"),
        ("test", {"k": 5}, "--predict.k is for predict; the command is test"),
    ],
)
def test_what_cannot_be_predicted_is_refused(command, flags, message):
    flags = {"split": None, "k": 10, "images": None, "texts": None, **flags}
    data = ITMDataModule(Scenes(train=1, val=1, test=1))
    with pytest.raises(InputError, match=re.escape(message)):
        set_prediction(flags, command, Matcher.__new__(Matcher), data)


def test_a_text_in_brackets_is_a_text_unless_it_is_a_list():
    texts = ["[blurry] a dog", '["a star", "a [red] ring"]', "[1] a cat", "[2]"]
    flags = {"split": None, "k": 10, "images": None, "texts": texts}
    module = Matcher.__new__(Matcher)
    torch.nn.Module.__init__(module)
    set_prediction(flags, "predict", module, ITMDataModule(Scenes(train=1, val=1, test=1)))
    expected = "[blurry] a dog", "a star", "a [red] ring", "[1] a cat", "[2]"
    assert module.own_queries.texts == expected


def test_bad_flags_are_refused_before_the_run(refuse, tiny_config):
    flags = "--predict.k", "0"
    assert "--predict.k is 0" in refuse("predict", "--config", tiny_config, *flags)


def test_an_image_that_does_not_decode_is_named_before_the_split_is_read(
    refuse, tiny_config, tmp_path, monkeypatch
):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    monkeypatch.setattr(Matcher, "predict_step", lambda *_: pytest.fail("the split was read"))
    flags = "--predict.images", "broken.jpg"
    assert "broken.jpg does not decode" in refuse("predict", "--config", tiny_config, *flags)


def test_ties_count_against_and_an_image_without_texts_has_no_rank():
    records = [
        Record(0, ("a", "b"), (10, 11), "0.jpg"),
        Record(1, (), (), "1.jpg"),
        Record(2, ("c",), (12,), "2.jpg"),
    ]
    ids = torch.tensor([0, 1, 2]), torch.tensor([0, 0, 2])
    images = Features.from_pooled(torch.tensor([[1.0], [1.0], [2.0]]))
    texts = Features.from_pooled(torch.tensor([[3.0], [1.0], [3.0]]))
    ranks, top = rank_and_top_k(DotProduct(), images, texts, *ids, 2)
    gallery = Gallery(images, texts, *ids, torch.tensor([10, 11, 12]))
    lines = list(
        prediction_lines(Retrieved(gallery, top.i2t, top.t2i, ranks), records, OwnQueries())
    )
    assert [line["rank"] for line in lines] == [2, None, 2, 3, 3, 1]
    assert [line["match"] for line in lines] == [[10, 11], [], [12], [0], [0], [2]]
    assert [result["is_match"] for result in lines[1]["results"]] == [False, False]
