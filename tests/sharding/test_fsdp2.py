"""FSDP2 over real processes trains as ddp does, and leaves the same files behind."""

import faulthandler
from pathlib import Path

import pytest
import torch
from torch import multiprocessing as mp

from itm_lightning import Matcher
from itm_lightning.errors import InputError
from tests.distributed.processes import join, once, preload
from tests.sharding.fits import FITS, STRATEGIES, WORLD, Fit, scenes, trained, trainer_of

FROZEN = "frozen, gradient cache"
IN_SUITE = ("plain", FROZEN)
SLOW = tuple(name for name in FITS if name not in IN_SUITE)


def refused(act):
    try:
        act()
    except InputError as error:
        return str(error)
    return None


def work(process, folder, text_folder, port, names):
    faulthandler.enable()  # a crash of torch's own code says where
    join(process, WORLD, port)
    folder = Path(folder)
    outcomes = {
        (name, strategy): trained(FITS[name], strategy, folder / name, text_folder)
        for name in names
        for strategy in STRATEGIES
    }
    if "plain" in names:
        outcomes |= of_its_checkpoints(folder, text_folder)
    torch.save(outcomes, folder / f"outcomes-{process}.pt")


def of_its_checkpoints(folder, text_folder):
    outcomes = {}
    for first in STRATEGIES:
        for second in STRATEGIES:
            how = folder / f"{first} then {second}", text_folder
            half = folder / "plain" / f"{first}.ckpt"
            outcomes[first, second] = trained(Fit(), second, *how, ckpt_path=half, max_epochs=2)
    matcher = Matcher.load_from_checkpoint(folder / "plain" / "ddp.ckpt")
    trainer = trainer_of("fsdp2", folder)
    outcomes["predict"] = refused(lambda: trainer.predict(matcher, datamodule=scenes()))
    return outcomes


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory, folders, free_port):
    """The folder in which some fits and their outcomes are."""

    def _of(names):
        def fit(folder):
            preload(__name__)
            arguments = str(folder), folders("bert"), free_port(), names
            mp.start_processes(work, args=arguments, nprocs=WORLD, start_method="forkserver")

        return once(tmp_path_factory, f"{__name__}-{names[0]}", fit)

    return _of


@pytest.fixture
def folder(folder_of):
    return folder_of(IN_SUITE)


def outcomes_in(folder):
    """Every process's outcomes of some fits, by fit and strategy."""
    return [torch.load(path) for path in sorted(folder.glob("outcomes-*.pt"))]


@pytest.fixture
def outcomes(folder):
    return outcomes_in(folder)


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def assert_alike(fsdp2, ddp, path):
    assert fsdp2["losses"] == pytest.approx(ddp["losses"], abs=1e-5)
    assert fsdp2["results"] == pytest.approx(ddp["results"], abs=1e-5)
    assert len(set(fsdp2["losses"])) > 1
    torch.testing.assert_close(
        weights(path / "fsdp2.ckpt"), weights(path / "ddp.ckpt"), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(
    "name", [*IN_SUITE, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_trains_and_scores_as_ddp(folder_of, name):
    folder = folder_of(IN_SUITE if name in IN_SUITE else SLOW)
    for process in outcomes_in(folder):
        assert process[name, "fsdp2"]["sharded"]
        assert not process[name, "ddp"]["sharded"]
        assert_alike(process[name, "fsdp2"], process[name, "ddp"], folder / name)


@pytest.mark.parametrize("first", STRATEGIES)
@pytest.mark.parametrize("second", STRATEGIES)
def test_goes_on_with_either_strategy(outcomes, folder, first, second):
    for process in outcomes:
        expected, found = process["ddp", "ddp"], process[first, second]
        assert found["losses"] == pytest.approx(expected["losses"], abs=1e-5)
    found = weights(folder / f"{first} then {second}" / f"{second}.ckpt")
    expected = weights(folder / "ddp then ddp" / "ddp.ckpt")
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_checkpoint_is_read_without_processes(outcomes, folder):
    matcher = Matcher.load_from_checkpoint(folder / FROZEN / "fsdp2.ckpt")
    trainable = {name for name, p in matcher.named_parameters() if p.requires_grad}
    assert trainable
    assert not any(name.startswith("image_encoder.network") for name in trainable)


def test_a_sharded_trunk_is_known_by_the_same_fingerprint(outcomes):
    seen = {p[FROZEN, strategy]["fingerprint"] for p in outcomes for strategy in STRATEGIES}
    assert len(seen) == 1


def test_several_processes_do_not_predict(outcomes):
    for process in outcomes:
        assert "set trainer.devices: 1" in process["predict"]
