"""An arrow of import goes down only: the shape of the house, held by the imports themselves."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "itm_lightning"
LEAVES = {
    *("types", "errors", "registry", "part", "distributed"),
    *("precision", "lifted", "hyperbolic", "replay", "durable", "seeds"),
}
ROOMS = {"data", "encoders", "pooling", "similarity", "objectives", "metrics"}
ALLOWED = {
    **dict.fromkeys(LEAVES, LEAVES),
    **{room: LEAVES | {room} for room in ROOMS},
    "encoders": LEAVES | {"encoders", "pooling"},
    "ranking": LEAVES | {"ranking", "similarity"},
    "metrics": LEAVES | {"metrics", "ranking", "similarity"},
    "projection": LEAVES,
    "schedules": LEAVES,
    "training": LEAVES | {"training", "encoders", "objectives", "sharding", "similarity"},
    "evaluating": LEAVES | {"data", "metrics", "ranking", "similarity"},
    "resume": LEAVES | {"resume"},
    "sharding": LEAVES | {"sharding"},
    "extract": LEAVES | {"extract", "data", "encoders"},
}
MAY_IMPORT_LIGHTNING = {
    "evaluating.py",
    "matcher.py",
    "data/datamodule.py",
    "callbacks.py",
    "cli/command.py",
    "cli/errors.py",
    "cli/summary.py",
    "cli/loggers.py",
    "cli/stopping.py",
    "cli/trainer.py",
    "utils/internals.py",
    "sharding/rules.py",
    "sharding/trunks.py",
    "training/trainer_rules.py",
    "resume/best_checkpoint.py",
    "resume/last_checkpoint.py",
    "resume/progress.py",
}
SLOW_TO_IMPORT = {"torchvision", "transformers", "datasets", "wandb"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path, top_level_only=False):
    """Dotted names that a file imports when it runs (those for type checkers left out)."""
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for_types = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in nodes:
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down_only(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room not in ALLOWED:
        return  # matcher, cli, callbacks and the package itself stand at the top
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("itm_lightning.")}
    assert ours <= ALLOWED[room], f"{name_of(path)} imports {sorted(ours - ALLOWED[room])}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_lightning_is_imported_at_the_top_of_the_house_only(path):
    packages = {name.split(".")[0] for name in imports(path)}
    assert "lightning" not in packages
    if name_of(path) not in MAY_IMPORT_LIGHTNING:
        assert "pytorch_lightning" not in packages


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_slow_packages_are_imported_where_they_are_used(path):
    assert not SLOW_TO_IMPORT & {name.split(".")[0] for name in imports(path, top_level_only=True)}


def test_the_rules_name_rooms_that_exist():
    there = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}
    assert there >= set(ALLOWED)
