"""An arrow of import goes down only: the shape of the package, tested on the imports themselves."""

import ast
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "itm_lightning"
FILES = sorted(PACKAGE.rglob("*.py"))

BASE = {"errors", "types", "ground_truth", "registry", "part", "utils", "distributed"}
#: What each room may import, lowest first: a room imports only from rooms above it in this list.
#: A room is a folder or a file of the package's root.
ALLOWED = {
    "errors": set(),
    "types": {"errors"},
    "ground_truth": set(),
    "registry": {"errors"},
    "part": {"errors"},
    "utils": {"errors"},
    "distributed": {"errors", "types"},
    "pooling": BASE,
    "encoders": BASE | {"pooling"},
    "data": BASE | {"encoders"},
    "similarity": BASE,
    "objectives": BASE | {"encoders", "similarity"},
    "ranking": BASE | {"similarity"},
    "metrics": BASE | {"similarity", "ranking"},
    "resume": BASE,
    "extract": BASE | {"encoders", "data"},
    "evaluating": BASE | {"data", "similarity", "ranking", "metrics"},
    "sharding": BASE | {"encoders", "evaluating"},
    "training": BASE | {"encoders", "data", "similarity", "objectives", "evaluating", "sharding"},
    "matcher": BASE
    | {"encoders", "similarity", "objectives", "evaluating", "sharding", "training"},
    "ensemble": BASE | {"similarity", "evaluating", "sharding", "training", "matcher"},
    "callbacks": BASE | {"encoders", "data", "similarity", "ranking", "metrics", "evaluating"},
    "captioning": BASE | {"objectives", "matcher"},
    "explain": BASE
    | {"pooling", "encoders", "data", "similarity", "ranking", "metrics", "evaluating", "matcher"},
    "compare": BASE
    | {
        *("data", "similarity", "ranking", "metrics", "resume", "evaluating"),
        *("matcher", "ensemble", "callbacks", "explain"),
    },
    "__init__": BASE
    | {"pooling", "encoders", "data", "similarity", "objectives", "metrics", "matcher", "ensemble"},
    "cli": BASE
    | {
        *("data", "similarity", "metrics", "training", "resume", "extract", "evaluating"),
        *("matcher", "ensemble", "callbacks", "compare", "explain", "__init__"),
    },
    "__main__": {"cli"},
}
MAY_IMPORT_LIGHTNING = {
    "callbacks/measurements.py",
    "callbacks/predictions.py",
    "callbacks/progress.py",
    "callbacks/results.py",
    "callbacks/wandb_media.py",
    "callbacks/wandb_run.py",
    "cli/checkpoint_config.py",
    "cli/checkpoint_sections.py",
    "cli/command.py",
    "cli/console.py",
    "cli/errors.py",
    "cli/loggers.py",
    "cli/stopping.py",
    "cli/trainer.py",
    "data/datamodule.py",
    "evaluating.py",
    "matcher.py",
    "resume/best_checkpoint.py",
    "resume/last_checkpoint.py",
    "resume/progress.py",
    "sharding/rules.py",
    "sharding/trunks.py",
    "training/rbm_pretraining.py",
    "training/trainer_rules.py",
    "utils/internals.py",
}
#: The only file that may use private names of other packages.
INTERNALS = "utils/internals.py"
PUBLIC_ALL_THE_SAME = {"_asdict", "_replace", "_fields"}  # of every NamedTuple
SLOW_TO_IMPORT = {"torchvision", "transformers", "datasets", "wandb"}
MOST_FILES, MOST_IN_ROOT, MOST_LINES = 270, 10, 300


def name_of(path):
    return path.relative_to(PACKAGE).as_posix()


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


every_file = pytest.mark.parametrize("path", FILES, ids=name_of)


@cache
def tree_of(path):
    return ast.parse(path.read_text())


def module_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports(nodes):
    """Dotted names of what is imported, as far down as a module: within functions, for types, …"""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in names)


@cache
def files_imported_by(path):
    return {MODULES[name] for name in imports(ast.walk(tree_of(path))) if name in MODULES}


def packages(nodes):
    return {name.split(".")[0] for name in imports(nodes)}


def test_every_room_is_listed_and_arrows_go_down():
    there = {path.name for path in PACKAGE.iterdir()} - {"__pycache__", "py.typed"}
    assert {name.removesuffix(".py") for name in there} == set(ALLOWED)
    below = set()
    for room, allowed in ALLOWED.items():
        assert allowed - BASE <= below, f"{room} imports from above"
        below.add(room)


@every_file
def test_imports_go_down_only(path):
    room = room_of(path)
    rooms = {room_of(other) for other in files_imported_by(path)} - {room}
    assert rooms <= ALLOWED[room], f"{name_of(path)} imports {sorted(rooms - ALLOWED[room])}"


def test_no_file_imports_itself_by_way_of_others():
    reached = {path: set(files_imported_by(path)) for path in FILES}
    for middle in FILES:  # Warshall (1962), A theorem on Boolean matrices
        for path in FILES:
            if middle in reached[path]:
                reached[path] |= reached[middle]
    assert not [name_of(path) for path in FILES if path in reached[path]]


def test_few_files_import_lightning():
    every = {name_of(path): packages(ast.walk(tree_of(path))) for path in FILES}
    assert not [name for name, found in every.items() if "lightning" in found]
    found = {name for name, found in every.items() if "pytorch_lightning" in found}
    assert found == MAY_IMPORT_LIGHTNING


@every_file
def test_slow_packages_are_imported_where_they_are_used(path):
    assert not SLOW_TO_IMPORT & packages(tree_of(path).body)


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name not in PUBLIC_ALL_THE_SAME


@cache
def own_private_names():
    """Private names that the package defines: functions, classes, variables and ``self._name``."""
    nodes = [node for path in FILES for node in ast.walk(tree_of(path))]
    defined = {n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    variables = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    attributes = {
        n.attr for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)
    }
    return {name for name in defined | variables | attributes if is_private(name)}


def private_names_of_others(tree):
    """Private names in a file that are not the package's own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            if node.attr not in own_private_names():
                yield ast.unparse(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            yield from (name for name in names if any(map(is_private, name.split("."))))


@every_file
def test_private_names_of_other_packages_are_in_one_file(path):
    if name_of(path) != INTERNALS:
        assert not list(private_names_of_others(tree_of(path)))


@pytest.mark.parametrize(
    "line",
    [
        "import torch._dynamo",
        "from torch._C import Graph",
        "from torch.nn import _reduction",
        "trainer._accelerator_connector",
        "self.trainer.fit_loop._data_fetcher = None",
    ],
)
def test_private_names_are_found(line):
    assert list(private_names_of_others(ast.parse(line)))


def test_files_are_few_and_short():
    assert len(FILES) <= MOST_FILES
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_IN_ROOT
    lines = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}
