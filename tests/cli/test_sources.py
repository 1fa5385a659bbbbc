"""Each source through the real command line, offline: the same photos give the same scores."""

import json
import shutil

import pytest

from itm_lightning import get, list_registered
from tests import layouts
from tests.layouts import hub_cache  # noqa: F401  a fixture

FITTED = {
    "flickr30k": ("Flickr30k", layouts.flickr30k),
    "coco": ("Coco", layouts.coco),
    "coco-captions": ("CocoCaptions", layouts.coco_captions),
    "folder-jsonl": ("Folder", layouts.folder_json_lines),
}
STREAMS = {"flickr30k-streamed": ("Flickr30k", layouts.streamed_flickr30k)}
TESTED = {
    **FITTED,
    **STREAMS,
    "hugging-face": ("HuggingFace", layouts.flickr30k),
    "coco-streamed": ("Coco", layouts.streamed_coco),
    "folder-parquet": ("Folder", layouts.folder_parquet),
    "folder-csv": ("Folder", layouts.folder_csv),
}
ELSEWHERE = {
    "Karpathy",  # what the others are compared with
    "Scenes",  # test_run.py
    "Precomputed",  # its own test: it has no photos
    "Paired",  # encoders/test_vectors.py: it has neither photos nor captions
}
pytestmark = pytest.mark.usefixtures("hub_cache")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Where ``expected`` leaves what it makes once for all tests."""
    return tmp_path_factory.mktemp("fitted")


@pytest.fixture
def expected(shared, run, tiny_config, karpathy_root):
    """Folder of the metrics and checkpoint of ``fit`` with the photos as a Karpathy dataset."""
    if not (shared / "best.ckpt").exists():
        arguments = {"root": str(karpathy_root)}
        folder = run("fit", "--config", configured(tiny_config, "Karpathy", arguments))
        shutil.copy(folder / "metrics.json", shared)
        shutil.copy(folder / "checkpoints" / "best.ckpt", shared)
    return shared


def configured(config, name, arguments):
    config = json.loads(json.dumps(config))
    config["data"]["source"] = {"class_path": name, "init_args": arguments}
    return config


def metrics(folder):
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("layout", FITTED)
def test_fit_gives_the_scores_of_a_karpathy_dataset(
    layout, run, tiny_config, karpathy_root, expected, tmp_path
):
    name, write = FITTED[layout]
    arguments = write(karpathy_root, tmp_path / "dataset")
    found = metrics(run("fit", "--config", configured(tiny_config, name, arguments)))
    assert found == metrics(expected)


@pytest.mark.parametrize("layout", TESTED)
def test_test_gives_the_scores_of_a_karpathy_dataset(
    layout, run, tiny_config, karpathy_root, expected, tmp_path
):
    name, write = TESTED[layout]
    arguments = write(karpathy_root, tmp_path / "dataset")
    data = {"data": configured(tiny_config, name, arguments)["data"]}
    tested = metrics(run("test", "--ckpt_path", expected / "best.ckpt", "--config", data))
    fitted = metrics(expected)
    assert tested["test/rsum"] == fitted["test/rsum"]
    assert {key: fitted[key] for key in tested} == tested


@pytest.mark.parametrize("layout", STREAMS)
def test_fit_reads_a_stream_in_its_order(
    layout, run, tiny_config, karpathy_root, tmp_path, monkeypatch
):
    name, write = STREAMS[layout]
    monkeypatch.setattr(get("source", name), "image", None)  # nobody asks for a photo out of turn
    config = configured(tiny_config, name, write(karpathy_root, tmp_path / "dataset"))
    config["data"]["num_workers"] = 2
    config["trainer"]["max_epochs"] = 2
    found = metrics(run("fit", "--config", config))
    assert found["train/loss"] > 0
    assert {"val/rsum", "test/rsum"} <= set(found)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Flickr30k", {}),
        ("Flickr30k", {"streaming": True}),
        ("Coco", {"images": "."}),
    ],
)
def test_an_unreachable_hub(refuse, tiny_config, name, arguments):
    error = refuse("fit", "--config", configured(tiny_config, name, arguments))
    assert "Hub" in error
    assert "data.source.repository" in error
    assert "local folder of its Parquet files" in error


def test_every_source_is_tested_here():
    ours = {
        name
        for name in list_registered("source")
        if get("source", name).__module__.startswith("itm_lightning.")
    }
    assert ours == {name for name, _ in TESTED.values()} | ELSEWHERE
