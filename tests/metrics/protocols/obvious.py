"""Slow, obvious evaluation, and made-up galleries whose scores are the same in any arithmetic."""

import numpy as np
import torch

from itm_lightning.metrics import Gallery
from itm_lightning.similarity.base import PooledSimilarity
from itm_lightning.types import Features


class Dot(PooledSimilarity):
    def score(self, images, texts):
        return images.pooled @ texts.pooled.T


def made_up_gallery(texts_of_image, dim=64, seed=0):
    """A shuffled gallery of these images and texts, as several processes leave it.

    Whole numbers, and sums below 2**24: a score is the same in float32 however it is summed. Where
    there are many, some of a query's scores are equal.
    """
    random = np.random.default_rng(seed)
    images = random.integers(-200, 201, (len(texts_of_image), dim))
    owner = np.repeat(
        np.arange(len(texts_of_image)), [len(texts) for texts in texts_of_image.values()]
    )
    text_vectors = images[owner] + random.integers(-400, 401, (len(owner), dim))
    image_ids = np.array(list(texts_of_image))
    text_ids = np.array([text for texts in texts_of_image.values() for text in texts])
    i, j = random.permutation(len(image_ids)), random.permutation(len(text_ids))
    return Gallery(
        images=Features.from_pooled(torch.from_numpy(images[i]).float()),
        texts=Features.from_pooled(torch.from_numpy(text_vectors[j]).float()),
        image_ids=torch.from_numpy(image_ids[i]),
        text_image_ids=torch.from_numpy(image_ids[owner[j]]),
        text_ids=torch.from_numpy(text_ids[j]),
    )


def score_table(gallery, texts_of_image):
    """Scores ``(N, M)`` in the dataset's order, and each caption's row of photos."""
    image_row = {image: i for i, image in enumerate(gallery.image_ids.tolist())}
    text_row = {text: j for j, text in enumerate(gallery.text_ids.tolist())}
    i = [image_row[image] for image in texts_of_image]
    j = [text_row[text] for texts in texts_of_image.values() for text in texts]
    scores = gallery.images.pooled.numpy()[i] @ gallery.texts.pooled.numpy()[j].T
    return scores, np.repeat(np.arange(len(i)), [len(texts) for texts in texts_of_image.values()])


def obvious_recall(scores, owner):
    """Query by query; a wrong answer with the same score comes first."""
    i2t = [
        1 + int((row[owner != i] >= row[owner == i].max()).sum()) for i, row in enumerate(scores)
    ]
    columns = np.ascontiguousarray(scores.T)
    t2i = [int((column >= column[owner[j]]).sum()) for j, column in enumerate(columns)]
    table = {}
    for way, ranks in (("i2t", np.array(i2t)), ("t2i", np.array(t2i))):
        table |= {f"{way}_R@{k}": 100 * np.mean(ranks <= k) for k in (1, 5, 10)}
        table |= {f"{way}_medr": np.floor(np.median(ranks)), f"{way}_meanr": np.mean(ranks)}
    return table | {"rsum": sum(value for key, value in table.items() if "R@" in key)}


def obvious_folds(scores, owner, folds):
    """The mean of every score over consecutive folds; rsum is the sum of the averaged recalls."""
    tables = []
    for rows in np.array_split(np.arange(len(scores)), folds):
        mine = np.isin(owner, rows)
        tables.append(obvious_recall(scores[rows][:, mine], owner[mine] - rows[0]))
    mean = {key: np.mean([table[key] for table in tables]) for key in tables[0]}
    return mean | {"rsum": sum(value for key, value in mean.items() if "R@" in key)}


def obvious_ranking(scores, answer_ids, correct):
    """Answer ids, best first; of equal scores the wrong ones first."""
    wrong = ~np.isin(answer_ids, list(correct))
    return answer_ids[np.lexsort((~wrong, -scores))].tolist()
