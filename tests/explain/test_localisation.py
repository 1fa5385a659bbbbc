"""Pointing game, mass and rank correlation against hand-computed values and slow loops."""

import math

import pytest
import torch

from itm_lightning.explain.localisation import (
    areas,
    cells,
    centres_inside,
    covered,
    mass_inside,
    pointing_game,
    rank_correlation,
)

NOTHING = [0.0, 0.0, 0.0, 0.0]


def random_boxes(*shape, seed=0):
    corners = torch.rand(*shape, 2, 2, generator=torch.Generator().manual_seed(seed))
    return torch.cat([corners.amin(-2), corners.amax(-2)], dim=-1)


def test_cells_are_row_by_row():
    assert torch.allclose(
        cells(2, 4)[[0, 1, 4, 7]],
        torch.tensor(
            [[0, 0, 0.25, 0.5], [0.25, 0, 0.5, 0.5], [0, 0.5, 0.25, 1], [0.75, 0.5, 1, 1]]
        ),
    )


def test_a_centre_belongs_to_left_and_top_edge_and_to_any_of_a_words_objects():
    places = cells(1, 4)  # centres at x = 1/8, 3/8, 5/8, 7/8 and y = 1/2
    boxes = torch.tensor(
        [
            [[0.125, 0, 0.625, 1], NOTHING],
            [[0, 0.5, 0.25, 1], [0.75, 0, 1, 0.6]],
            [[0, 0, 1, 0.5], NOTHING],
        ]
    )
    expected = [[True, True, False, False], [True, False, False, True], [False] * 4]
    assert centres_inside(places, boxes).tolist() == expected


def test_covered_shares():
    boxes = torch.tensor([[[0.25, 0, 0.75, 0.5], NOTHING], [[0, 0, 0.5, 1], [0.5, 0.75, 1, 1]]])
    assert covered(cells(1, 2), boxes).tolist() == [[0.25, 0.25], [1.0, 0.25]]
    assert areas(boxes).sum(1).tolist() == [0.25, 0.625]


def test_a_region_without_an_area_is_not_covered():
    assert covered(torch.tensor([[0.5, 0.2, 0.5, 0.8]]), torch.tensor([[[0.0, 0, 1, 1]]])) == 0


@pytest.mark.parametrize(
    ("values", "hit"),
    [
        ([1.0, 5, 2, 0], 1),
        ([5.0, 1, 2, 0], 0),
        ([3.0, 3, 1, 3], 1 / 3),  # ties: one of three is inside
        ([-2.0, -1, -3, -2], 1),  # the largest may be negative
        ([0.0, 0, 0, 0], 1 / 2),  # an even map points anywhere
    ],
)
def test_pointing_game(values, hit):
    inside = torch.tensor([[False, True, True, False]])
    assert pointing_game(torch.tensor([values]), inside).item() == pytest.approx(hit)


@pytest.mark.parametrize(
    ("values", "mass"),
    [
        ([1.0, 3, 4, 0], (3 + 4 / 2) / 8),
        ([-9.0, 1, -2, 1], 1 / 2),  # negative values count for nothing
        ([-1.0, 0, -2, -1], 1.5 / 4),  # no positive part: even
    ],
)
def test_mass_inside(values, mass):
    inside = torch.tensor([[0.0, 1, 0.5, 0]])
    assert mass_inside(torch.tensor([values]), inside).item() == pytest.approx(mass)


def test_an_even_map_gets_the_objects_area():
    boxes = random_boxes(20, 1)
    mass = mass_inside(torch.ones(20, 21), covered(cells(3, 7), boxes))
    assert torch.allclose(mass, areas(boxes).sum(1), atol=1e-6)


def test_all_of_it_agrees_with_a_loop_over_words_places_and_objects():
    places, boxes = random_boxes(9, seed=1), random_boxes(30, 2, seed=2)
    boxes[..., 0, 2].clamp_(max=0.5)  # the two objects of a word do not overlap
    boxes[..., 0, 0].clamp_(max=0.5)
    boxes[..., 1, 0].clamp_(min=0.5)
    boxes[..., 1, 2].clamp_(min=0.5)
    maps = torch.randint(-1, 4, (30, 9), generator=torch.Generator().manual_seed(3)).float()
    inside, shares = centres_inside(places, boxes), covered(places, boxes)
    hits, masses = pointing_game(maps, inside), mass_inside(maps, shares)
    for word in range(30):
        largest = [r for r in range(9) if maps[word, r] == max(maps[word])]
        hit, mass = 0, 0.0
        for r, (left, top, right, bottom) in enumerate(places.tolist()):
            x, y = (left + right) / 2, (top + bottom) / 2
            for a, b, c, d in boxes[word].tolist():
                hit += r in largest and a <= x < c and b <= y < d
                common = max(0, min(right, c) - max(left, a)) * max(0, min(bottom, d) - max(top, b))
                mass += max(0, maps[word, r].item()) * common / ((right - left) * (bottom - top))
        assert hits[word].item() == pytest.approx(hit / len(largest))
        assert masses[word].item() == pytest.approx(mass / maps[word].clamp(min=0).sum().item())


@pytest.mark.parametrize(
    ("first", "second", "correlation"),
    [
        ([1.0, 2, 3, 4], [10.0, 20, 21, 90], 1),
        ([1.0, 2, 3, 4], [4.0, 3, 2, 1], -1),
        ([1.0, 2, 3, 4], [2.0, 1, 4, 3], 0.6),  # 1 − 6·4 / (4·15)
        ([1.0, 2, 2, 3], [1.0, 2, 3, 4], 4.5 / math.sqrt(4.5 * 5)),  # ranks 0, 1½, 1½, 3
        ([7.0, 7, 7, 7], [1.0, 2, 3, 4], math.nan),
    ],
)
def test_rank_correlation(first, second, correlation):
    value = rank_correlation(torch.tensor(first), torch.tensor(second)).item()
    assert value == pytest.approx(correlation, nan_ok=True)
