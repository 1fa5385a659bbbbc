"""Every config in experiments/ runs through the real command line, made small by flags."""

import json

import numpy as np
import pytest

from itm_lightning.cli import main
from tests.conftest import REPO
from tests.encoders.conftest import bert, clip, siglip

EXPERIMENTS = REPO / "experiments"
CONFIGS = sorted(
    path
    for path in EXPERIMENTS.rglob("*.yaml")
    # parts of configs; a sweep's; what tests/encoders/test_joint_space.py runs
    if path.parent.name not in ("base", "slurm", "zero_shot")
)
SMALL = [
    "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.accelerator=cpu",
    "--trainer.precision=32-true",
    "--trainer.enable_progress_bar=false",
    "--trainer.limit_train_batches=2",
    "--data.batch_size=8",
    "--data.num_workers=0",
]
PRETRAINED = "image_encoder.name", "text_encoder.name", "similarity.pretrained"
RECURRENT = ["--model.text_encoder.hidden=16", "--model.text_encoder.word_dim=8"]
CNN = [
    f"--model.image_encoder.{flag}" for flag in ("name=alexnet", "weights=null", "image_size=64")
]
TINY_TIMM = ["--model.image_encoder.name=resnet10t", *CNN[1:]]
TO_16 = "projection=LinearProjection", "projection.dim=16"
OWN_PROJECTION = [f"--model.image_encoder.{flag}" for flag in TO_16]
MLP = ["--model.image_encoder.projection.dim=16", "--model.image_encoder.projection.hidden=8"]
BERT = ["--model.text_encoder.name={bert}"]
SAMPLED = {"scenes/fashion_bert.yaml"}  # scored by an image's first text, among sampled answers
FLAGS = {
    "scenes/autoencoders.yaml": TINY_TIMM,
    "scenes/kiros.yaml": [
        *TINY_TIMM,
        *MLP,
        *RECURRENT,
        "--model.dim=16",
    ],
    "scenes/fashion_bert.yaml": [*TINY_TIMM, "--protocol.negatives=7"],
    # With random weights, the many layers of its CNN give zeros, in which nothing correlates.
    "flickr8k/cca.yaml": ["--model.image_encoder.name=alexnet", "--model.text_encoder.dim=64"],
    "flickr8k/kiros.yaml": [*RECURRENT, "--model.dim=16"],
    "flickr8k/minilm.yaml": BERT,
    "flickr8k/cca_minilm.yaml": [*BERT, "--model.image_encoder.name=resnet10t"],
    "flickr8k/linear.yaml": [*BERT, "--model.image_encoder.name=resnet10t"],
    "flickr8k/finetuned.yaml": [*BERT, "--model.image_encoder.name=resnet10t"],
}
#: Of the recipes in flickr30k/ and coco/, by their names.
RECIPES = {
    "vsepp": [*CNN, *RECURRENT, "--model.dim=16"],
    "vsepp_finetuned": [*CNN, *RECURRENT, "--model.dim=16"],
    "scan": [*RECURRENT, "--model.dim=16"],
    "sgr": [*RECURRENT, "--model.dim=16", "--model.similarity.sim_dim=8"],
    "saf": [*RECURRENT, "--model.dim=16", "--model.similarity.sim_dim=8"],
    "vsrn": [*RECURRENT, *OWN_PROJECTION],
    "vse_infty_bigru": [*RECURRENT, *MLP],
    "vse_infty_bert": [*BERT, *MLP, "--model.text_encoder.projection.dim=16"],
    "chan": [*BERT, "--model.dim=16"],
    "clip": [f"--model.{part}={{clip}}" for part in PRETRAINED],
    "siglip": [f"--model.{part}={{siglip}}" for part in PRETRAINED],
}
ON_IMAGES = ("vsepp", "vsepp_finetuned", "clip", "siglip")
PROTOCOLS = {
    "flickr30k": ["--protocol=Retrieval"],
    "coco": ["--protocol.folds=2", "--protocol.fold_size=4"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny models of transformers with random weights, as ``save_pretrained`` writes them."""
    import transformers

    paths = {}
    for make in (bert, clip, siglip):
        paths[make.__name__] = tmp_path_factory.mktemp(make.__name__)
        for part in make(transformers):
            part.save_pretrained(paths[make.__name__])
    return paths


@pytest.fixture(scope="module")
def regions_root(tmp_path_factory):
    """Random regions and captions in the files of SCAN's authors, Flickr30k's and COCO's."""
    root, generator = tmp_path_factory.mktemp("precomp"), np.random.default_rng(0)
    words = ["two", "men", "in", "red", "hats", "ride", "a", "horse", "past", "the", "dog"]
    for split, images in (("train", 16), ("dev", 8), ("test", 8), ("testall", 8)):
        texts = [" ".join(generator.choice(words, 7)).capitalize() for _ in range(5 * images)]
        regions = generator.random((images, 36, 2048), dtype=np.float32)
        np.save(root / f"{split}_ims.npy", regions)
        (root / f"{split}_caps.txt").write_text("".join(f"{text} .\n" for text in texts))
        (root / f"{split}_ids.txt").write_text("".join(f"{7 * i}\n" for i in range(images)))
    return root


@pytest.fixture(scope="module")
def wikipedia_root(tmp_path_factory):
    """Random histograms of visual words, topics and classes in the file of the benchmark."""
    root, generator = tmp_path_factory.mktemp("wikipedia"), np.random.default_rng(0)
    arrays = {"categories": np.array([f"class {number}" for number in range(10)])}
    for split, pairs in (("train", 40), ("test", 8)):
        for side, dim in (("image", 128), ("text", 10)):
            rows = generator.dirichlet(np.ones(dim), pairs).astype(np.float32)
            arrays[f"{side}_{split}"] = rows
        arrays[f"label_{split}"] = np.arange(pairs) % 10
    np.savez(root / "wikipedia.npz", **arrays)
    return root


@pytest.mark.parametrize("config", CONFIGS, ids=lambda p: p.relative_to(EXPERIMENTS).as_posix())
def test_config_runs(config, karpathy_root, regions_root, wikipedia_root, folders, tmp_path):
    args = ["fit", f"--config={config}", f"--trainer.default_root_dir={tmp_path}", *SMALL]
    images, texts_of_image = 8, 5
    name = config.relative_to(EXPERIMENTS).as_posix()
    if config.parent.name in PROTOCOLS:
        root = karpathy_root if config.stem in ON_IMAGES else regions_root
        args += [f"--data.source.root={root}", *RECIPES[config.stem]]
        args += PROTOCOLS[config.parent.name]
    elif config.parent.name == "flickr8k":
        args += [f"--data.source.root={karpathy_root}", "--model.image_encoder.weights=null"]
    elif config.parent.name == "wikipedia":
        args += [f"--data.source.root={wikipedia_root}", "--data.source.val=8"]
        texts_of_image = 1
    else:
        args += [f"--data.source.{split}=16" for split in ("train", "val", "test")]
        images = 16
        texts_of_image = 1 if name in SAMPLED else 5
    flags = FLAGS.get(name, [])
    main([arg.format(**folders) for arg in args + flags])
    (results,) = tmp_path.glob("*/test_results.json")
    texts = texts_of_image * images
    assert json.loads(results.read_text())["queries"] == {"i2t": images, "t2i": texts}


def test_every_part_in_base_is_used():
    used = "".join(path.read_text() for path in CONFIGS)
    for part in (EXPERIMENTS / "base").glob("*.yaml"):
        assert f"base/{part.name}" in used
