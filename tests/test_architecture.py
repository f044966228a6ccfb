"""The rooms of the package: who may import whom, how large they may grow.

Read from the source, so that a broken import is found even where it would work.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

from sklearn_mae.families import COLUMN_FAMILIES, ROW_FAMILIES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sklearn_mae"

# A room is a file of the package, or a folder that a file grew into.
LEVELS = {
    "model": 0,
    "gradients": 1,
    "noise": 0,
    "parameters": 0,
    "records": 0,
    "columns": 1,
    "datasets": 1,
    "text": 1,
    "encoders": 1,
    "information": 1,
    "families": 2,
    "training": 3,
    "evaluation": 2,
    "imputation": 3,
    "estimator": 4,
    "scoring": 5,
    "path": 5,
    "plotting": 6,
    "__init__": 7,
}
WITHOUT_TORCH = {"columns", "text", "noise", "parameters", "records", "datasets"}
MAX_LINES_OF_CODE = 400

FILES = sorted(PACKAGE.rglob("*.py"))
every_file = pytest.mark.parametrize(
    "path", FILES, ids=[str(path.relative_to(PACKAGE)) for path in FILES]
)


def room_of(path):
    return Path(path.relative_to(PACKAGE).parts[0]).stem


def parse(path):
    return ast.parse(path.read_text(), filename=str(path))


def imported_modules(tree):
    """Full names of all modules imported anywhere below a node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            if node.module == "sklearn_mae":
                yield from (f"sklearn_mae.{alias.name}" for alias in node.names)
            else:
                yield node.module


def imported_rooms(tree):
    for name in imported_modules(tree):
        top, _, rest = name.partition(".")
        if top == "sklearn_mae":
            room = rest.partition(".")[0]
            # any other name than a room's can only come from the top
            yield room if room in LEVELS else "__init__"


def lines_of_code(source):
    """Count the lines that are neither blank, nor comment, nor docstring."""
    not_code = {
        tokenize.COMMENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
        tokenize.INDENT,
        tokenize.NEWLINE,
        tokenize.NL,
    }
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in not_code:
            lines.update(range(token.start[0], token.end[0] + 1))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            docstring = node.body[0]
            lines.difference_update(range(docstring.lineno, docstring.end_lineno + 1))
    return len(lines)


def declared_names(tree):
    """Return what ``__all__`` lists, or None."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets) == "__all__":
            return ast.literal_eval(node.value)
    return None


def test_lines_of_code_counts_only_code():
    source = '''"""Module.

More.
"""
# comment

def f():  # counted
    """Docstring."""
    return """
    counted
    """
'''
    assert lines_of_code(source) == 4


@every_file
def test_file_has_a_room(path):
    assert room_of(path) in LEVELS, "say in LEVELS which level it belongs to"


@every_file
def test_imports_go_down(path):
    room = room_of(path)
    wrong = {
        other
        for other in imported_rooms(parse(path))
        if other != room and LEVELS[other] >= LEVELS[room]
    }

    assert not wrong, f"{room} (level {LEVELS[room]}) imports {sorted(wrong)}"


@every_file
def test_no_relative_imports(path):
    nodes = ast.walk(parse(path))

    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in nodes)


@pytest.mark.parametrize(
    "path", [path for path in FILES if room_of(path) in WITHOUT_TORCH], ids=room_of
)
def test_no_torch(path):
    tops = {name.partition(".")[0] for name in imported_modules(parse(path))}

    assert tops.isdisjoint({"torch", "skorch"})


@every_file
def test_file_is_short(path):
    assert lines_of_code(path.read_text()) <= MAX_LINES_OF_CODE, (
        "make it a folder of the same name"
    )


@every_file
def test_all_exists_and_is_sorted(path):
    names = declared_names(parse(path))

    assert names is not None, "declare __all__"
    # as ruff sorts it: constants, classes, the rest
    assert names == sorted(
        names, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    assert len(names) == len(set(names))


# --- what is public -------------------------------------------------------------------

PUBLIC_NAMES = declared_names(parse(PACKAGE / "__init__.py"))
PUBLIC_MODULES = {
    "sklearn_mae",
    *(f"sklearn_mae.{name}" for name in PUBLIC_NAMES if name in LEVELS),
}


@pytest.mark.parametrize(
    "path", ["README.md", "CONTRIBUTING.md", "sklearn_mae/__init__.py"]
)
def test_documents_list_the_public_modules(path):
    _, listed = (ROOT / path).read_text().split("Public modules: ")
    paragraph = listed.partition("\n\n")[0]

    assert set(re.findall(r"`(sklearn_mae[\w.]*)`", paragraph)) == PUBLIC_MODULES


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem
)
def test_examples_import_what_is_public(path):
    ours = {name for name in imported_modules(parse(path)) if "sklearn_mae" in name}

    assert ours
    assert ours <= PUBLIC_MODULES | {f"sklearn_mae.{name}" for name in PUBLIC_NAMES}


# --- nobody asks which family it is ---------------------------------------------------

# an encoder has that name, too
NAMES = {*COLUMN_FAMILIES, *ROW_FAMILIES} - {"gaussian"}


def mentions(node, name):
    """Whether a variable or an attribute below a node has that name."""
    return any(
        name in (getattr(part, "id", None), getattr(part, "attr", None))
        for part in ast.walk(node)
    )


def holds_string(node):
    return any(
        isinstance(part, ast.Constant) and isinstance(part.value, str)
        for part in ast.walk(node)
    )


def names_from_families(tree):
    """Names that a module has for what it imports from ``families``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            package = f"{node.module}."
            for alias in node.names:
                if f"{package}{alias.name}.".startswith("sklearn_mae.families."):
                    yield alias.asname or alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if f"{alias.name}.".startswith("sklearn_mae.families."):
                    yield alias.asname or "families"


def questions(tree):
    """Yield each piece of code that asks for a kind of data.

    By a likelihood's name; by the class of what ``families`` exports; by the flag
    ``slow``, which one of them alone would set.
    """
    ours = set(names_from_families(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(value)):
                found = value in NAMES or value == "slow"
            case ast.Compare(left=left, comparators=others):
                sides = [left, *others]
                found = (
                    any(mentions(side, "likelihood") for side in sides)
                    and any(holds_string(side) for side in sides)
                ) or (
                    any(mentions(side, "type") for side in sides)
                    and any(mentions(side, name) for side in sides for name in ours)
                )
            case ast.Match(subject=subject, cases=cases):
                patterns = [case.pattern for case in cases]
                found = mentions(subject, "likelihood") and any(
                    holds_string(pattern) for pattern in patterns
                )
            case ast.MatchClass(cls=kind):
                found = any(mentions(kind, name) for name in ours)
            case ast.Call(
                func=ast.Name(id="isinstance" | "issubclass"), args=[_, kinds]
            ):
                found = any(mentions(kinds, name) for name in ours)
            case ast.Attribute(attr="slow") | ast.Name(id="slow"):
                found = True
            case ast.keyword(arg="slow") | ast.arg(arg="slow"):
                found = True
            case _:
                found = False
        if found:
            yield ast.unparse(node)


@pytest.mark.parametrize(
    "source",
    [
        "params.likelihood == 'gaussian'",
        "'gaussian' != self.likelihood",
        "if structure.likelihood in ('gaussian', 'flow'): pass",
        "kind = 'bernoulli'",
        "names = {'sequence': 3}",
        "name == 'categorical'",
        "match params.likelihood:\n    case 'gaussian' | None: pass",
        "from sklearn_mae.families import Table as Rows\nisinstance(family, Rows)",
        "from sklearn_mae.families.lstm import SequenceFilter\n"
        "isinstance(model.posterior, (int, SequenceFilter))",
        "from sklearn_mae import families\nissubclass(kind, families.Table)",
        "import sklearn_mae.families.table\n"
        "isinstance(x, sklearn_mae.families.table.Table)",
        "from sklearn_mae.families.table import Table\ntype(family) is Table",
        "from sklearn_mae.families import Table\nmatch x:\n    case Table(): pass",
        "n = 3 if model.likelihood.slow else 4",
        "getattr(model.likelihood, 'slow', False)",
        "def f(slow): pass",
        "slow = True",
    ],
)
def test_a_question_is_found(source):
    assert list(questions(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        '"""A likelihood such as sequence is slow."""',
        "raise ValueError(f'for likelihood={params.likelihood!r} set slow')",
        "encoder == 'gaussian'",
        "family.schedule.upwards == 'infomax'",
        "row_family(structure.likelihood).discrete",
        "structure.likelihood in likelihood_names()",
        "OneOf(*likelihood_names())",
        "model.likelihood(z).log_prob(x) if part == 'likelihood' else None",
        "from sklearn_mae.families import Structure\nisinstance(x, int)",
        "from sklearn_mae.model import draw\nisinstance(x, draw)",
        "mae.log_likelihood(X) > mae.score(X)",
    ],
)
def test_what_is_no_question(source):
    assert not list(questions(ast.parse(source)))


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if room_of(path) != "families"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_nobody_asks_which_family_it_is(path):
    found = list(questions(parse(path)))

    assert not found, "let the family declare it: see families/base.py"


# --- importing ------------------------------------------------------------------------

SIDE_EFFECTS = """
import importlib, random, sys, warnings
import numpy as np, torch

def state():
    return {
        "random": random.getstate(),
        "numpy's generator": repr(np.random.get_state(legacy=False)),
        "numpy's error state": np.geterr(),
        "torch's generator": torch.get_rng_state().tolist(),
        "default dtype": torch.get_default_dtype(),
        "default device": torch.get_default_device(),
        "number of threads": torch.get_num_threads(),
        "gradients enabled": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "validate_args": torch.distributions.Distribution._validate_args,
        "warnings filters": list(warnings.filters),
    }

for name in sys.argv[1:]:  # what others do to the globals is not our doing
    importlib.import_module(name)
before = state()
for name in ("sklearn_mae", *sys.stdin.read().split()):
    importlib.import_module(name)
after = state()
print([name for name in before if before[name] != after[name]])
"""


def test_import_changes_nothing_global():
    at_import = [
        node
        for path in FILES
        for node in parse(path).body
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    foreign = {
        name
        for name in imported_modules(ast.Module(at_import, []))
        if not name.startswith("sklearn_mae")
    }
    rooms = [f"sklearn_mae.{room_of(path)}" for path in FILES]

    run = subprocess.run(
        [sys.executable, "-c", SIDE_EFFECTS, *sorted(foreign)],
        input=" ".join(room for room in rooms if not room.endswith("__init__")),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "[]"
