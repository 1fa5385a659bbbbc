"""Reading runs: what is one variant, how it is called, and what may not be compared."""

import numpy as np
import pytest

from itm_lightning.compare.findings import find, write
from itm_lightning.compare.measurements import Measurements, disagreements
from itm_lightning.compare.runs import Variant, check_comparable, read_outcome, split_of
from itm_lightning.compare.variants import labels_of, variants_of
from itm_lightning.data import Scenes
from itm_lightning.errors import InputError
from tests.compare.made_up_runs import made_up_run

BILINEAR = {"model.similarity": {"class_path": "itm_lightning.similarity.Bilinear"}}
I2T = {"class_path": "CrossAttention", "init_args": {"direction": "i2t"}}


def outcomes(tmp_path, *several):
    return [
        read_outcome(made_up_run(tmp_path / str(i), changes), "val")
        for i, changes in enumerate(several)
    ]


def test_runs_that_differ_in_the_seed_are_seeds_of_one_variant(tmp_path):
    runs = outcomes(
        tmp_path,
        {},
        {"seed_everything": 2, "data.num_workers": 4, "trainer.accelerator": "gpu", "k": 5},
        BILINEAR | {"model.dim": 32},
    )
    factor, variants, notes = variants_of(runs)
    assert factor == "similarity"
    assert [variant.label for variant in variants] == ["Cosine", "Bilinear"]
    assert [[run.seed for run in variant.outcomes] for variant in variants] == [[1, 2], [1]]
    assert notes == ["model.dim: Cosine 16, Bilinear 32"]
    assert runs[0].train_seconds == 60
    assert runs[0].history == [
        {"step": 0, "train/loss": 1.5},
        {"step": 1, "val/rsum": 10},
    ]


def test_where_features_and_tokens_lie_is_no_difference(tmp_path):
    def runs_of(root, seeds):
        features = {"class_path": "itm_lightning.data.Precomputed", "init_args": {"root": root}}
        text = {"class_path": "my.PretrainedText", "init_args": {"store": f"{root}/texts"}}
        where = {"data.source": features, "model.text_encoder": text}
        return [where | {"seed_everything": seed} for seed in seeds]

    runs = outcomes(tmp_path, *runs_of("a", [3, 1]), *runs_of("b", [2]))
    ((_, (variant,), notes)) = variants_of(runs)
    assert [run.seed for run in variant.outcomes] == [1, 2, 3]  # in any order
    assert not notes


@pytest.mark.parametrize(
    ("changes", "factor", "labels"),
    [
        (
            {"model.objective": {"class_path": "my.Triplet", "init_args": {"margin": 0.2}}},
            "objective",
            ["InfoNCE", "Triplet"],
        ),
        ({"trainer.max_epochs": 8}, "trainer.max_epochs", ["max_epochs=2", "max_epochs=8"]),
        ({"model.dim": 32}, "dim", ["dim=16", "dim=32"]),
    ],
)
def test_whatever_else_differs_is_the_factor(tmp_path, changes, factor, labels):
    found, variants, notes = variants_of(outcomes(tmp_path, {}, changes))
    assert (found, [variant.label for variant in variants], notes) == (factor, labels, [])


def test_two_factors_are_both_in_the_labels_where_one_does_not_tell_runs_apart(tmp_path):
    runs = outcomes(tmp_path, {}, BILINEAR, {"model.dim": 32}, BILINEAR | {"model.dim": 32})
    factor, variants, _ = variants_of(runs)
    assert factor == "similarity, dim"
    assert [variant.label for variant in variants] == [
        *("Cosine, dim=16", "Bilinear, dim=16", "Cosine, dim=32", "Bilinear, dim=32")
    ]


def test_a_key_that_an_older_version_lacks_is_no_difference_while_it_is_empty(tmp_path):
    runs = outcomes(tmp_path, {"model.new": None, "data.k": 0}, {"seed_everything": 2})
    assert len(variants_of(runs)[1]) == 1


@pytest.mark.parametrize(
    ("parts", "labels"),
    [
        (["Cosine", "CrossAttention"], ["Cosine", "CrossAttention"]),
        (["CrossAttention", I2T], ["CrossAttention", "CrossAttention(direction=i2t)"]),
        (["Cosine", "my.Cosine"], ["Cosine", "my.Cosine"]),
        (["my.Head", I2T], ["Head", "CrossAttention"]),
        (
            [
                {"class_path": "T", "init_args": {"a": 1, "b": 2}},
                {"class_path": "T", "init_args": {"a": 1, "b": 3}},
                {"class_path": "T", "init_args": {"a": 4, "b": 3}},
            ],
            ["T(a=1, b=2)", "T(a=1, b=3)", "T(a=4)"],
        ),
    ],
)
def test_labels_say_as_much_as_tells_parts_apart(parts, labels):
    assert labels_of(parts) == labels


def test_the_same_run_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="the same run twice, the seed 1 included"):
        variants_of(outcomes(tmp_path, {}, {}))


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        ({"protocol": "Coco1K"}, "another protocol: Retrieval and Coco1K"),
        ({"source": Scenes(train=24, val=16, test=12)}, "another images: 12 and 16"),
        ({"source": Scenes(train=24, val=12, test=12, seed=5)}, "other data: text"),
    ],
    ids=["protocol", "size", "texts"],
)
def test_runs_of_other_data_or_protocols_are_refused_by_the_difference(tmp_path, other, difference):
    one = read_outcome(made_up_run(tmp_path / "one"), "val")
    two = read_outcome(made_up_run(tmp_path / "two", **other), "val")
    with pytest.raises(InputError, match=difference) as refused:
        check_comparable([one, two])
    assert str(one.folder) in str(refused.value)
    assert str(two.folder) in str(refused.value)


def test_another_training_split_of_the_same_data_may_be_compared(tmp_path):
    made_up_run(tmp_path / "one")
    made_up_run(tmp_path / "two", source=Scenes(train=48, val=12, test=12))
    records = check_comparable([read_outcome(tmp_path / name, "val") for name in ("one", "two")])
    assert len(records) == 12


def test_what_a_folder_lacks_is_named_with_the_command_that_makes_it(tmp_path):
    folder = made_up_run(tmp_path / "run")
    (folder / "val_ranks.npz").unlink()
    with pytest.raises(InputError, match=r"val_ranks.npz is missing: .*lightning validate --ckpt"):
        read_outcome(folder, "val")
    with pytest.raises(InputError, match=r"test_results.json is missing: .*lightning test"):
        read_outcome(folder, "test")
    with pytest.raises(InputError, match="not the folder of a run"):
        read_outcome(tmp_path, "val")


def test_test_is_compared_where_every_run_has_been_tested(tmp_path):
    folders = [made_up_run(tmp_path / name, split="test") for name in "ab"]
    assert split_of(folders) == "test"
    assert split_of([*folders, made_up_run(tmp_path / "c")]) == "val"


def test_what_cannot_be_measured_is_compared_all_the_same(tmp_path, monkeypatch):
    def out_of_memory(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Measurements, "of", out_of_memory)
    _, variants, _ = variants_of(outcomes(tmp_path, {}, BILINEAR))
    findings = find("similarity", variants, [], Measurements(tmp_path / "measurements.json"))
    assert findings.notes[0] == "Cosine was not measured: RuntimeError: out of memory."
    assert len(findings.differences) == 3


def test_disagreements_are_the_largest_of_each_variant_in_turn(tmp_path):
    one, two = outcomes(tmp_path, {}, BILINEAR)
    one.per_query["i2t_ranks"][:] = [1, 9, 1, 3, 2, 1, 1, 1, 1, 1, 1, 1]
    two.per_query["i2t_ranks"][:] = [4, 1, 2, 3, 1, 8, 1, 1, 1, 1, 1, 1]
    one.per_query["t2i_ranks"][:] = two.per_query["t2i_ranks"][:] = 1
    found = disagreements([Variant("one", (one,)), Variant("two", (two,))])
    ids = one.per_query["i2t_ids"]
    assert [query["query"] for query in found] == [ids[i] for i in (1, 5, 0, 4, 2)]
    assert found[0] == {"direction": "i2t", "query": ids[1], "ranks": {"one": 9, "two": 1}}


def test_findings_hold_mean_and_deviation_over_seeds_and_the_runs_own_ranks(tmp_path):
    runs = outcomes(tmp_path, {}, {"seed_everything": 2}, {"seed_everything": 3}, BILINEAR)
    failed = Variant("Broken", (), "it is broken")
    _, variants, _ = variants_of(runs)
    findings = find("similarity", [*variants, failed], [], Measurements(tmp_path / "m.json"))
    first, second, third = findings.rows
    rsums = [run.scores["rsum"] for run in runs[:3]]
    assert first["rsum"] == pytest.approx(np.mean(rsums))
    assert first["rsum std"] == pytest.approx(np.std(rsums, ddof=1))
    assert (second["seeds"], second["rsum std"]) == (1, None)
    assert third == {"label": "Broken", "seeds": 0, "error": "it is broken"}
    by_metric = {each.metric: each for each in findings.differences}
    assert by_metric["rsum"].difference == pytest.approx(first["rsum"] - second["rsum"])
    assert "Cosine was not measured" in findings.notes[0]  # there is no checkpoint

    write(findings, tmp_path)
    with np.load(tmp_path / "ranks.npz") as arrays:
        np.testing.assert_array_equal(arrays["Cosine/2/i2t_ranks"], runs[1].per_query["i2t_ranks"])
    text = (tmp_path / "comparison.md").read_text()
    assert "Broken failed: it is broken" in text
    assert f"{first['rsum']:.1f} ± {first['rsum std']:.1f}" in text
    assert (tmp_path / "comparison.csv").read_text().count("\n") == 4
