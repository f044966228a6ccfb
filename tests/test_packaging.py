"""What the package says of itself agrees, wherever it says it."""

import inspect
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import sklearn_mae

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
DEPENDENCIES = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = [
    Requirement(line)
    for lines in PROJECT["optional-dependencies"].values()
    for line in lines
]


def read_pins(path):
    lines = (ROOT / path).read_text().splitlines()
    pins = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pins}


def test_floors_are_the_oldest_versions_tested():
    floors = {
        canonicalize_name(requirement.name): Version(specifier.version)
        for requirement in DEPENDENCIES
        for specifier in requirement.specifier
        if specifier.operator == ">="
    }

    assert len(floors) == len(DEPENDENCIES)
    assert floors == read_pins(".ci/minimum.txt")


@pytest.mark.parametrize("path", [".ci/minimum.txt", "constraints.txt"])
def test_ranges_admit_the_tested_versions(path):
    pins = read_pins(path)

    for requirement in DEPENDENCIES:
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), requirement


def test_every_extra_is_pinned():
    pins = read_pins("constraints.txt")

    for requirement in EXTRAS:
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin), requirement


def test_version_is_said_once():
    assert "version" in PROJECT["dynamic"]
    source = PYPROJECT["tool"]["setuptools"]["dynamic"]["version"]
    assert source == {"attr": "sklearn_mae.__version__"}


def test_citation_and_changelog_know_the_version():
    citation = (ROOT / "CITATION.cff").read_text()
    cited = re.search(r"^version: (\S+)$", citation, flags=re.MULTILINE)[1]
    changelog = (ROOT / "CHANGELOG.md").read_text()

    assert cited == sklearn_mae.__version__
    assert f"## [{sklearn_mae.__version__}]" in changelog


def test_types_are_shipped():
    assert (ROOT / "sklearn_mae" / "py.typed").is_file()
    assert PYPROJECT["tool"]["setuptools"]["package-data"] == {
        "sklearn_mae": ["py.typed"]
    }


def test_hooks_run_what_ci_runs():
    run = (ROOT / ".ci" / "run").read_text()
    lint = run.partition('begin_stage "lint"')[2].partition("begin_stage")[0]
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    tools = [
        re.findall(pattern, text)
        for pattern, text in (
            (r'"\$tested" -m (\w+(?: [a-z]+)?)', lint),
            (r"entry: python -m (\w+(?: [a-z]+)?)", hooks),
        )
    ]

    assert tools[0]
    assert tools[0] == tools[1]
    assert "rev:" not in hooks, "versions are those of constraints.txt"


PAGES = ("README.md", "benchmarks/README.md")


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_links_lead_somewhere(page):
    text = (ROOT / page).read_text()
    scripts = re.findall(r"python ((?:benchmarks|examples)/\w+\.py)", text)
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)

    assert scripts
    for script in scripts:
        assert (ROOT / script).is_file(), script
    for link in links:
        assert (ROOT / page).parent.joinpath(link).is_file(), link


def test_every_benchmark_has_its_section():
    text = (ROOT / "benchmarks" / "README.md").read_text()
    named = re.findall(r"^## `(bench_\w+\.py)`", text, flags=re.MULTILINE)

    assert sorted(named) == sorted(
        path.name for path in (ROOT / "benchmarks").glob("bench_*.py")
    )


def anchor(heading):
    """What GitHub calls a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_to_the_figures_hit_a_heading(page):
    figures = (ROOT / "benchmarks" / "README.md").read_text()
    anchors = {
        anchor(heading) for heading in re.findall(r"^## (.+)$", figures, re.MULTILINE)
    }
    links = re.findall(
        r"\]\((?:benchmarks/README\.md)?#([^)]+)\)", (ROOT / page).read_text()
    )

    assert links
    assert set(links) <= anchors


def public_functions(module):
    """Yield the full name and the function of all that users call in a module."""
    for name in module.__all__:
        member = getattr(module, name)
        if isinstance(member, ModuleType):
            yield from public_functions(member)
        elif inspect.isclass(member):
            for method, value in vars(member).items():
                function = inspect.unwrap(getattr(value, "__func__", value))
                public = method == "__init__" or not method.startswith("_")
                if public and inspect.isfunction(function):
                    yield f"{module.__name__}.{name}.{method}", function
        else:
            yield f"{module.__name__}.{name}", inspect.unwrap(member)


PUBLIC_FUNCTIONS = dict(public_functions(sklearn_mae))


@pytest.mark.parametrize("name", PUBLIC_FUNCTIONS)
def test_public_functions_are_annotated(name):
    signature = inspect.signature(PUBLIC_FUNCTIONS[name])
    empty = inspect.Signature.empty
    missing = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is empty and parameter.name not in ("self", "cls")
    ]
    if signature.return_annotation is empty:
        missing.append("what it returns")

    assert not missing


@pytest.mark.parametrize("name", PUBLIC_FUNCTIONS)
def test_signatures_can_be_read(name):
    """numpy's ArrayLike is a union that fills a screen where it is written out."""
    signature = inspect.signature(PUBLIC_FUNCTIONS[name])
    annotations = [each.annotation for each in signature.parameters.values()]

    for annotation in (*annotations, signature.return_annotation):
        assert len(inspect.formatannotation(annotation)) <= 80


def test_what_examples_write_is_ignored_by_git():
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    scripts = sorted((ROOT / "examples").glob("*.py"))
    written = [
        name
        for script in scripts
        for name in re.findall(r'savefig\("(\S+)"', script.read_text())
    ]

    assert len(written) == len(scripts)
    for name in written:
        assert any(fnmatch(f"/{name}", pattern) for pattern in ignored), name


LAZY = """
import sys
import sklearn_mae

name = sys.argv[1]
module = f"sklearn_mae.{name}"
print(module in sys.modules, "matplotlib" in sys.modules)
print(name in dir(sklearn_mae), module in sys.modules)
print(getattr(sklearn_mae, name) is sys.modules[module], "matplotlib" in sys.modules)
"""


@pytest.mark.parametrize("name", ["datasets", "plotting"])
def test_public_modules_are_imported_when_asked_for(name):
    run = subprocess.run(
        [sys.executable, "-c", LAZY, name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["False False", "True False", "True False"]


def test_every_public_name_is_there():
    assert set(sklearn_mae.__all__) <= set(dir(sklearn_mae))
    for name in sklearn_mae.__all__:
        getattr(sklearn_mae, name)


def test_unknown_names_are_refused_as_python_does():
    with pytest.raises(
        AttributeError, match="module 'sklearn_mae' has no attribute 'plots'"
    ):
        _ = sklearn_mae.plots
