"""Bad input: one line that names it and the mend, before any training."""

import json
import shutil

import pytest
import torch

from itm_lightning import list_registered


@pytest.fixture
def broken_root(karpathy_root, tmp_path):
    """A copy of the dataset, for the test to break."""
    return shutil.copytree(karpathy_root, tmp_path / "dataset")


@pytest.fixture
def karpathy_config(tiny_config, broken_root):
    source = {"class_path": "Karpathy", "init_args": {"root": str(broken_root)}}
    return tiny_config | {"data": {"source": source, "batch_size": 8}}


def test_an_unknown_head_is_named_and_the_others_listed(refuse, tiny_config):
    error = refuse("fit", "--config", tiny_config, "--model.similarity", "Cosin")
    assert "Cosin" in error
    assert "did you mean Cosine?" in error
    for name in list_registered("similarity"):
        assert name in error


@pytest.mark.parametrize(
    ("kind", "key"),
    [("image_encoder", "model.image_encoder"), ("source", "data.source")],
)
def test_unknown_parts_of_other_kinds_are_listed_too(refuse, tiny_config, kind, key):
    section, name = key.split(".")
    tiny_config[section][name] = {"class_path": "Nothing", "init_args": {}}
    error = refuse("fit", "--config", tiny_config)
    assert "Nothing" in error
    for part in list_registered(kind):
        assert part in error


def test_a_misspelt_yaml_key_is_named(refuse, tiny_config):
    tiny_config["data"]["batch_sise"] = 3
    error = refuse("fit", "--config", tiny_config)
    assert "batch_sise" in error


def test_a_misspelt_key_of_a_part_is_named(refuse, tiny_config):
    tiny_config["model"]["text_encoder"]["init_args"]["hiden"] = 3
    error = refuse("fit", "--config", tiny_config)
    assert "hiden" in error
    assert len(error) < 400


def test_a_misspelt_flag_is_named(refuse, tiny_config):
    assert "--model.simillarity" in refuse(
        "fit", "--config", tiny_config, "--model.simillarity", "Cosine"
    )


def test_a_missing_config_file_is_named(refuse):
    assert "nowhere.yaml" in refuse("fit", "--config", "nowhere.yaml")


def test_a_missing_image_folder_is_named(refuse, karpathy_config, broken_root):
    shutil.rmtree(broken_root / "images")
    error = refuse("fit", "--config", karpathy_config)
    assert str(broken_root / "images") in error
    assert "data.source.images" in error


def test_a_missing_dataset_folder_is_named(refuse, karpathy_config):
    error = refuse("fit", "--config", karpathy_config, "--data.source.root", "nowhere")
    assert "nowhere" in error
    assert "data.source" in error


def test_a_missing_image_is_named(refuse, karpathy_config, broken_root):
    image = next((broken_root / "images").glob("val_*"))
    image.unlink()
    error = refuse("fit", "--config", karpathy_config)
    assert image.name in error
    assert "dataset_tiny.json" in error


def test_a_image_that_does_not_decode_is_named(refuse, karpathy_config, broken_root):
    image = next((broken_root / "images").glob("train_*"))
    image.write_bytes(image.read_bytes()[:400])
    error = refuse("fit", "--config", karpathy_config)
    assert image.name in error
    assert "does not decode" in error
    assert "on_bad_image" in error


def test_bad_images_are_skipped_counted_and_reported(run, karpathy_config, broken_root):
    images = sorted((broken_root / "images").glob("test_*"))
    images[0].write_bytes(b"no photo at all")
    images[1].unlink()
    karpathy_config["data"]["on_bad_image"] = "skip"
    with pytest.warns(UserWarning, match=r"skipped 2 bad of 8 photos of split 'test'") as caught:
        folder = run("fit", "--config", karpathy_config)
    assert any(images[0].name in str(warning.message) for warning in caught)
    report = json.loads((folder / "test_results.json").read_text())
    assert (report["images"], report["texts"]) == (6, 30)


def test_a_split_without_texts_is_named(refuse, karpathy_config, broken_root):
    path = broken_root / "dataset_tiny.json"
    images = json.loads(path.read_text())["images"]
    path.write_text(json.dumps({"images": [i for i in images if i["split"] != "val"]}))
    error = refuse("fit", "--config", karpathy_config)
    assert "'val'" in error
    assert "train, test" in error


@pytest.mark.parametrize("text", ["{", "[]", '{"images": [{"split": "train"}]}'])
def test_a_json_of_another_kind_is_named(refuse, karpathy_config, broken_root, text):
    (broken_root / "dataset_tiny.json").write_text(text)
    assert "dataset_tiny.json" in refuse("fit", "--config", karpathy_config)


def test_weights_that_do_not_fit_are_named(refuse, tiny_config, tmp_path):
    weights = tmp_path / "weights.pth"
    torch.save({"features.0.weight": torch.zeros(3)}, weights)
    error = refuse(
        "fit", "--config", tiny_config, f"--model.image_encoder.init_args.weights={weights}"
    )
    assert str(weights) in error
    assert "features.0.weight" in error


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_where_there_is_none(refuse, tiny_config):
    error = refuse("fit", "--config", tiny_config, "--trainer.accelerator", "cuda")
    assert "cuda" in error.lower()


def test_a_checkpoint_that_is_not_there(refuse):
    assert "no such file" in refuse("test", "--ckpt_path", "nowhere.ckpt")
    assert "no run under runs" in refuse("test", "--ckpt_path", "last")


def test_a_file_that_is_no_checkpoint(refuse, tmp_path):
    path = tmp_path / "broken.ckpt"
    path.write_bytes(b"no checkpoint")
    assert "broken.ckpt" in refuse("test", "--ckpt_path", path)


def test_a_learning_rate_factor_for_no_part(refuse, tiny_config):
    tiny_config["model"]["lr_factors"] = {"image_encodr": 0.1}
    error = refuse("fit", "--config", tiny_config)
    assert "image_encodr" in error
    assert "image_encoder" in error


def test_no_command_at_all(refuse):
    assert "fit" in refuse()
