"""``lightning fit`` of a head that is solved: every pair once, on however many processes."""

import json
import math

import pytest
import torch
import yaml

from itm_lightning import Matcher
from itm_lightning.data import Scenes
from itm_lightning.data.loading import every_pair
from itm_lightning.data.loading.every_pair import EveryPairOnce
from itm_lightning.errors import InputError
from itm_lightning.similarity import CCA
from tests.conftest import TINY_TRAINER
from tests.distributed.processes import in_processes, in_this_process

#: 35 pairs: neither two nor three processes can have as many each.
SCENES = {"train": 7, "val": 6, "test": 6}
HEAD = {"components": 4, "ridge": 0.1}
CONFIG = {
    "seed_everything": 0,
    "trainer": TINY_TRAINER | {"strategy": "ddp", "max_epochs": 3},
    "model": {
        "image_encoder": {
            "class_path": "TorchvisionCNN",
            # its dropout and augmentation must have no effect on the solution
            "init_args": {"name": "mnasnet0_5", "image_size": 64, "augment": True},
        },
        "text_encoder": {"class_path": "BagOfWords", "init_args": {"dim": 30}},
        "similarity": {"class_path": "CCA", "init_args": HEAD},
    },
    "data": {"source": {"class_path": "Scenes", "init_args": SCENES}, "batch_size": 4},
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, free_port):
    """The run folder of a fit on so many processes."""
    folders = {}

    def _fitted(processes):
        if processes not in folders:
            root = tmp_path_factory.mktemp(f"processes{processes}")
            (root / "config.yaml").write_text(yaml.safe_dump(CONFIG))
            args = ["fit", f"--config={root / 'config.yaml'}", f"--trainer.devices={processes}"]
            args.append(f"--trainer.default_root_dir={root / 'runs'}")
            if processes == 1:
                in_this_process(args)
            else:
                in_processes(args, root, processes, free_port())
            (folders[processes],) = root.glob("runs/*")
        return folders[processes]

    return _fitted


def encoded(matcher, split):
    """A split's pairs, row with row, in one batch."""
    source = Scenes(**SCENES)
    records = source.records(split)
    transform = matcher.image_encoder.transform(train=False)
    with torch.no_grad():
        images = matcher.encode_images(torch.stack([transform(source.image(r)) for r in records]))
        texts = matcher.encode_texts([text for record in records for text in record.texts])
    owners = [row for row, record in enumerate(records) for _ in record.texts]
    return images[torch.tensor(owners)], texts


WORLDS = [1, 2, pytest.param(3, marks=pytest.mark.slow)]


@pytest.mark.parametrize("processes", WORLDS)
def test_it_is_the_solution_of_all_pairs_at_once(fitted, processes):
    matcher = Matcher.load_from_checkpoint(fitted(processes) / "checkpoints" / "best.ckpt")
    images, texts = encoded(matcher, "train")
    assert len(images) == len(texts) == 35
    expected = CCA(**HEAD)
    expected.build(images.pooled.shape[1], texts.pooled.shape[1])
    expected.solve(expected.observe(images, texts))

    correlations = matcher.similarity.correlations
    assert (correlations > 0).all()
    torch.testing.assert_close(correlations, expected.correlations, rtol=1e-5, atol=0)
    others = encoded(matcher, "val")
    torch.testing.assert_close(matcher.similarity(*others), expected(*others), rtol=0, atol=1e-4)


@pytest.mark.parametrize("processes", WORLDS)
def test_it_leaves_a_run_like_any_other(fitted, processes):
    folder = fitted(processes)
    results = json.loads((folder / "metrics.json").read_text())
    single = json.loads((fitted(1) / "metrics.json").read_text())
    assert 0 < results["val/rsum"] == single["val/rsum"]
    assert 0 < results["test/rsum"] == single["test/rsum"]
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == math.ceil(35 // processes / 4)  # one pass, of 3 epochs


class Pairs:
    """As many pairs as asked for; a batch of them is the list of their rows."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitems__(self, rows):
        return rows


@pytest.mark.parametrize("pairs", [3, 7, 35, 36])
@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_pair_comes_once_in_as_many_batches_on_every_process(
    pairs, processes, batch_size, monkeypatch
):
    monkeypatch.setattr(every_pair, "world_size", lambda: processes)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr(every_pair, "rank", lambda rank=rank: rank)
        dataset = EveryPairOnce(Pairs(pairs), batch_size)
        shares.append(list(dataset))
        assert len(shares[-1]) == len(dataset) == len(shares[0])
    rows = [row for share in shares for batch in share for row in batch]
    assert sorted(rows) == list(range(pairs))
    assert all(batch for share in shares for batch in share)


def test_fewer_pairs_than_processes_are_refused(monkeypatch):
    monkeypatch.setattr(every_pair, "world_size", lambda: 3)
    with pytest.raises(InputError, match=r"2 training pairs .* trainer.devices"):
        EveryPairOnce(Pairs(2), 1)
