"""COCO's test split at its true size: 5,000 photos and 25,000 captions, with made-up vectors."""

import gzip
import json
import subprocess
import sys

import numpy as np
import pytest

from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics.protocols import Coco1K, Coco5K, CxC, EccvCaption
from tests.conftest import REPO
from tests.metrics.protocols.obvious import (
    Dot,
    made_up_gallery,
    obvious_folds,
    obvious_ranking,
    obvious_recall,
    score_table,
)

TEXTS = REPO.parent / "shared" / "text" / "coco_karpathy_test_5k.jsonl.gz"
# what the package calls the scores, and we
JUDGED = [
    (EccvCaption(), {"eccv_map_at_r": "mAP@R", "eccv_rprecision": "R-Precision", "eccv_r1": "R@1"}),
    (CxC(), {f"cxc_r{k}": f"R@{k}" for k in (1, 5, 10)}),
]
GIGABYTE = 2**20  # in kB
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TEXTS.is_file(), reason=f"needs {TEXTS.name} in ../shared/text"),
]


def coco_texts_of_image():
    with gzip.open(TEXTS, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    return {row["image_id"]: row["caption_ids"] for row in rows}


@pytest.fixture(scope="module")
def texts_of_image():
    return coco_texts_of_image()


@pytest.fixture(scope="module")
def gallery(texts_of_image):
    return made_up_gallery(texts_of_image)


@pytest.fixture(scope="module")
def table(gallery, texts_of_image):
    return score_table(gallery, texts_of_image)


def test_5k_equals_the_obvious_computation(gallery, texts_of_image, table):
    found = Coco5K().evaluate(Dot(), gallery, GroundTruth(texts_of_image))
    assert found.scores == pytest.approx(obvious_recall(*table), abs=1e-9)
    assert 5 < found.scores["t2i_R@1"] < 95  # neither all nor nothing is found
    assert found.queries == {"i2t": 5000, "t2i": 25000}


def test_1k_equals_the_obvious_computation(gallery, texts_of_image, table):
    found = Coco1K().evaluate(Dot(), gallery, GroundTruth(texts_of_image))
    assert found.scores == pytest.approx(obvious_folds(*table, 5), abs=1e-9)


@pytest.mark.parametrize(("protocol", "names"), JUDGED, ids=["EccvCaption", "CxC"])
def test_eccv_caption_and_cxc_equal_the_package(gallery, texts_of_image, table, protocol, names):
    package = pytest.importorskip("eccv_caption", reason="needs pip install eccv_caption")
    metrics = package.Metrics()
    judged = getattr(metrics, f"{protocol.annotation}_gts")
    images, texts = np.array(list(texts_of_image)), np.concatenate(list(texts_of_image.values()))
    rankings = {
        "i2t": rankings_of(table[0], images, texts, judged["i2t"]),
        "t2i": rankings_of(np.ascontiguousarray(table[0].T), texts, images, judged["t2i"]),
    }
    targets = [*names, f"{protocol.annotation}_recalls"]
    expected = metrics.compute_all_metrics(*rankings.values(), targets)
    found = protocol.evaluate(Dot(), gallery, GroundTruth(texts_of_image)).scores
    for theirs, ours in names.items():
        for way in ("i2t", "t2i"):
            score = found[f"{protocol.annotation}_{way}_{ours}"]
            assert score == pytest.approx(100 * expected[theirs][way], abs=1e-9), (theirs, way)
            assert 1 < score < 99


def rankings_of(scores, query_ids, answer_ids, judged):
    """The first hundred answers of every judged query; of equal scores the wrong ones first."""
    row = {query: i for i, query in enumerate(query_ids.tolist())}
    return {
        query: obvious_ranking(scores[row[query]], answer_ids, correct)[:100]
        for query, correct in judged.items()
    }


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
@pytest.mark.parametrize("name", ["Coco5K", "Coco1K", "EccvCaption", "CxC"])
def test_a_gigabyte_above_the_features_is_enough(name):
    if name in ("EccvCaption", "CxC"):
        pytest.importorskip("eccv_caption", reason="needs pip install eccv_caption")
    script = f"""
from itm_lightning.ground_truth import GroundTruth
from itm_lightning.metrics import protocols
from tests.metrics.protocols.obvious import Dot, made_up_gallery
from tests.metrics.protocols.test_true_size import coco_texts_of_image

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if "VmHWM" in line)

texts_of_image = coco_texts_of_image()
gallery = made_up_gallery(texts_of_image)
before = peak()
protocols.{name}().evaluate(Dot(), gallery, GroundTruth(texts_of_image))
print(peak() - before)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    above = int(done.stdout.split()[-1])
    print(f"{name}: {above // 1024} MiB above the features")
    assert above <= GIGABYTE
