"""Folders of runs that were never trained: scores of made-up ranks on real records."""

import json

import numpy as np
import yaml

from itm_lightning.data import Scenes
from itm_lightning.metrics import recall_from_ranks
from itm_lightning.part import to_config

CONFIG = {
    "seed_everything": 1,
    "trainer": {"max_epochs": 2, "accelerator": "cpu"},
    "model": {
        "image_encoder": {"class_path": "itm_lightning.encoders.TorchvisionCNN"},
        "similarity": {"class_path": "itm_lightning.similarity.Cosine"},
        "objective": {"class_path": "itm_lightning.objectives.InfoNCE"},
        "dim": 16,
    },
    "data": {"batch_size": 8, "num_workers": 0},
}


def made_up_run(folder, changes=None, split="val", source=None, protocol="Retrieval", quality=0.3):
    """Writes what a fit leaves, with the config changed by dotted keys."""
    source = source or Scenes(train=24, val=12, test=12)
    config = json.loads(json.dumps(CONFIG))
    for key, value in (changes or {}).items():
        *sections, name = key.split(".")
        section = config
        for each in sections:
            section = section[each]
        section[name] = value
    records = source.records(split)
    text_ids = [text for record in records for text in record.text_ids]
    rng = np.random.default_rng(config["seed_everything"])
    per_query = {
        "i2t_ids": np.array([record.image_id for record in records]),
        "i2t_ranks": rng.geometric(quality, len(records)),
        "t2i_ids": np.array(text_ids),
        "t2i_ranks": rng.geometric(quality, len(text_ids)).clip(max=len(records)),
    }
    import torch

    ranks = (torch.from_numpy(per_query[f"{way}_ranks"]) for way in ("i2t", "t2i"))
    scores = {key: float(value) for key, value in recall_from_ranks(*ranks).items()}
    results = {
        "protocol": {"class_path": f"itm_lightning.metrics.protocols.{protocol}", "init_args": {}},
        "dataset": to_config(source),
        "split": split,
        "images": len(records),
        "texts": len(text_ids),
        "scores": scores,
    }
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"command": "fit", "finished": True}))
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "metrics.csv").write_text("step,train/loss,val/rsum\n0,1.5,\n1,,10.0\n")
    (folder / f"{split}_results.json").write_text(json.dumps(results))
    (folder / "timing.json").write_text(json.dumps({"train_seconds": 60.0}))
    np.savez(folder / f"{split}_ranks.npz", **per_query)
    return folder
