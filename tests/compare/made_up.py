"""Findings made up of drawn ranks, over images and texts that are real: those of Scenes."""

from pathlib import Path

import numpy as np

from itm_lightning.compare.findings import Findings
from itm_lightning.compare.measurements import Measurement
from itm_lightning.compare.runs import Outcome, Variant
from itm_lightning.compare.significance import differences
from itm_lightning.compare.table import rows_of
from itm_lightning.data.sources.scenes import Scenes

IMAGES = 120
HEADS = ("Cosine", "CrossAttention", "MaxSim", "Bilinear", "SmoothChamfer", "SGR", "Gaussian")
SOURCE = Scenes(train=0, val=IMAGES, test=0)


def made_up_findings(heads=3, seeds=3, failed=(), epochs=6, hub=True, resamples=1000):
    """Each head is a little better and three times as costly as the one before it."""
    records = SOURCE.records("val")
    names = [name_of(i) for i in range(heads)]
    variants = tuple(made_up_variant(names[i], i, seeds, epochs) for i in range(heads))
    measurements = {
        variant.label: made_up_measurement(variant, i, variants, hub)
        for i, variant in enumerate(variants)
    }
    variants += tuple(Variant(label, (), error) for label, error in failed)
    return Findings(
        factor="similarity",
        split="val",
        protocol="Retrieval",
        dataset="Scenes",
        images=IMAGES,
        texts=IMAGES * 5,
        variants=variants,
        rows=rows_of(variants, measurements),
        differences=differences(
            {v.label: {o.seed: o.per_query for o in v.outcomes} for v in variants if v.outcomes},
            {record.image_id: record.text_ids for record in records},
            resamples=resamples,
        ),
        measurements=measurements,
        notes=["Each head was trained with the same number of trials: 1."],
        records=tuple(records),
    )


def name_of(i):
    return HEADS[i] if i < len(HEADS) else f"{HEADS[i % len(HEADS)]}(dim={64 * (i // len(HEADS))})"


def made_up_variant(label, i, seeds, epochs):
    outcomes = tuple(made_up_outcome(i, seed, epochs) for seed in range(1, seeds + 1))
    return Variant(label, outcomes)


def made_up_outcome(i, seed, epochs):
    rng = np.random.default_rng(7)  # the same queries are hard for all
    hard = {"i2t": rng.exponential(size=IMAGES), "t2i": rng.exponential(size=5 * IMAGES)}
    rng = np.random.default_rng([i, seed])
    per_query, scores = {}, {}
    for way, hardness in hard.items():
        ranks = 1 + (hardness * rng.exponential(size=len(hardness)) * (9 - i % 7)).astype(int)
        per_query |= {f"{way}_ids": np.arange(len(ranks)), f"{way}_ranks": ranks}
        scores |= {f"{way}_R@{k}": 100 * (ranks <= k).mean() for k in (1, 5, 10)}
        scores[f"{way}_medr"] = float(np.floor(np.median(ranks)))
    scores["rsum"] = sum(score for name, score in scores.items() if "R@" in name)
    scores["pairs_accuracy"] = 60 + 3 * i + seed
    learnt = 1 - np.exp(-np.arange(1, epochs + 1) / 2)
    rsums = [float(share * scores["rsum"]) for share in learnt]
    history = [{"epoch": float(epoch), "train/loss": 1.0} for epoch in range(epochs)]
    # when it has ended, the best checkpoint is scored again
    rows = enumerate([*rsums, max(rsums)])
    history += [{"epoch": float(epoch), "val/rsum": rsum} for epoch, rsum in rows]
    results = {"scores": scores}
    return Outcome(Path(f"runs/{i}-{seed}"), seed, {}, results, per_query, history, 60.0 + 20 * i)


def made_up_measurement(variant, i, variants, hub):
    scores = variant.outcomes[0].scores
    before = {"i2t_skewness": 2.5, "i2t_anti_hubs": 0.2}
    before |= {"t2i_skewness": 2.1 + 0.2 * i, "t2i_anti_hubs": 0.1}
    after = {"i2t_skewness": 1.2, "i2t_anti_hubs": 0.05}
    after |= {"t2i_skewness": 0.8, "t2i_anti_hubs": 0.02}
    corrected = {
        "correction": {"class_path": "itm_lightning.similarity.NNN", "init_args": {}},
        "bank": {"images": 10, "texts": 50},
        "scores": {name: score + 5 for name, score in scores.items()},
        "hubness": {"before": before, "after": after},
    }
    return Measurement(
        head_parameters=1000 * i,
        ms_per_1000_pairs=0.02 * 3**i if i < 9 else 0.5 * i,
        peak_mb=1.5 + i,
        indexable=i % 3 == 0,
        disagreements=[
            made_up_disagreement(way, query, i, variants)
            for way, query in (("t2i", 3), ("t2i", 27), ("t2i", 304), ("i2t", 5), ("i2t", 77))
        ],
        hub=corrected if hub else None,
        explanation={"images": 20, "pointing": 0.4 + 0.05 * i, "pointing_random": 0.1},
    )


def made_up_disagreement(way, query, i, variants):
    ranks = {v.label: int(v.outcomes[0].per_query[f"{way}_ranks"][query]) for v in variants}
    rng = np.random.default_rng([i, query])
    right = [query // 5] if way == "t2i" else list(range(5 * query, 5 * query + 5))
    count = IMAGES if way == "t2i" else 5 * IMAGES
    top = rng.choice([j for j in range(count) if j not in right], 5, replace=False)
    rank = ranks[variants[i].label]
    if rank <= 5:
        top[rank - 1] = right[0]
    answers = [
        {"id": int(j), "score": 0.9 - 0.07 * place, "is_right": int(j) in right}
        for place, j in enumerate(top)
    ]
    return {"direction": way, "query": query, "ranks": ranks, "top": answers}


def image_of(image_id):
    return SOURCE.image(SOURCE.records("val")[image_id])
