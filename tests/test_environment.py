"""The project's frame: one set of versions, a light import, small files."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
MB = 1_000_000


def pins() -> dict[str, str]:
    """Version by package name, from constraints.txt."""
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    names_and_versions = (line.split("==") for line in lines if line)
    return {canonicalize_name(name): version for name, version in names_and_versions}


def declared() -> list[Requirement]:
    """Every requirement of pyproject.toml, those of its extras too, without the project itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    requirements = [Requirement(text) for texts in lists for text in texts]
    return [requirement for requirement in requirements if requirement.name != "lgcvd"]


def required_with(name: str, seen: set[str]) -> set[str]:
    """``seen`` with ``name`` and all that an installation of it brings, by the metadata installed here."""
    name = canonicalize_name(name)
    if name not in seen:
        seen.add(name)
        try:
            found = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:
            return seen
        for requirement in found:
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                required_with(requirement.name, seen)
    return seen


def tracked_files() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def imported_modules(path: Path) -> set[str]:
    """Top-level names of the modules that a Python file, or the code cells of a notebook, import by absolute name."""
    sources = [path.read_text()]
    if path.suffix == ".ipynb":
        sources = ["".join(cell["source"]) for cell in json.loads(sources[0])["cells"] if cell["cell_type"] == "code"]
    nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
    imported = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    imported += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.split(".")[0] for name in imported}


def test_every_imported_package_is_a_declared_dependency():
    files = [path for path in tracked_files() if path.suffix in {".py", ".ipynb"}]
    own = {path.stem for path in files} | {path.parent.name for path in files}
    imported = set[str]().union(*map(imported_modules, files)) - own - sys.stdlib_module_names
    assert "torch" in imported
    packages = {
        name: {canonicalize_name(found) for found in packages_distributions().get(name, [])} for name in imported
    }
    names = {canonicalize_name(requirement.name) for requirement in declared()}
    assert [name for name, found in packages.items() if found.isdisjoint(names)] == []


def test_every_dependency_is_pinned_in_constraints_and_nowhere_else():
    assert {canonicalize_name(requirement.name) for requirement in declared()} <= pins().keys()
    assert [str(requirement) for requirement in declared() if requirement.specifier] == []


def test_conda_environment_installs_the_constraints_and_names_no_version_of_its_own():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert environment["name"] == "lgcvd"
    assert conda == ["python=3.11", "pip"]
    assert pip == {"pip": ["-c constraints.txt", "-e .[all]"]}


def test_the_extra_all_holds_every_other_extra():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    def members(extra: str) -> set[str]:
        own = [Requirement(text) for text in extras[extra]]
        inner = [members(name) for requirement in own if requirement.name == "lgcvd" for name in requirement.extras]
        return {requirement.name for requirement in own if requirement.name != "lgcvd"}.union(*inner)

    assert members("all") == {
        requirement.name for texts in extras.values() for requirement in map(Requirement, texts)
    } - {"lgcvd"}


def test_nothing_brings_torchvision():
    brought: set[str] = set()
    for requirement in declared():
        required_with(requirement.name, brought)
    assert "torchvision" not in brought | pins().keys()


def test_import_loads_no_plotting_video_app_or_metric_package():
    heavy = {"accelerate", "av", "diffusers", "gradio", "imageio", "matplotlib", "tensorboard", "torchmetrics", "tyro"}
    code = "import sys, lgcvd; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "torch" in loaded.split()
    assert heavy.isdisjoint(loaded.split())


def test_every_top_level_entry_exists():
    names = "README.md LICENSE Makefile pyproject.toml constraints.txt environment.yml .ci/run demo_app.py"
    folders = "lgcvd data_tools notebooks tests benchmarks"
    assert [name for name in names.split() if not (ROOT / name).is_file()] == []
    assert [name for name in folders.split() if not (ROOT / name).is_dir()] == []


def test_no_tracked_file_is_over_30_megabytes():
    assert [path.name for path in tracked_files() if path.stat().st_size > 30 * MB] == []


def test_weights_stay_under_120_megabytes_together():
    weights = [path for path in tracked_files() if path.suffix in {".safetensors", ".pt", ".ckpt", ".npz"}]
    assert weights
    assert sum(path.stat().st_size for path in weights) < 120 * MB
