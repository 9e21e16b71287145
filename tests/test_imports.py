"""The directions of architecture: who may import whom, and who must do without torch."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ALLOWED = {
    "energy": set(),
    "learning": set(),
    "optim": {"energy"},
    "messaging": {"energy", "learning"},
    "record": {"energy", "optim", "learning", "messaging"},
    "edge_agent": {"energy", "learning", "messaging"},
    "generator_node": {"energy", "learning", "messaging"},
    "coordinator": {"energy", "optim", "learning", "messaging", "record"},
    "report": {"energy", "learning", "messaging", "record"},
    "monitor": {"energy", "learning", "messaging", "optim", "record", "report"},
    "testbed": {
        "energy", "optim", "learning", "messaging", "record", "edge_agent", "generator_node",
        "coordinator", "report", "monitor",
    },
}  # fmt: skip

MORTAR = {
    "fimi.children",
    "fimi.errors",
    "fimi.files",
    "fimi.fork_server",
    "fimi.own_parts",
    "fimi.plural",
    "fimi.sources",
}
"""Modules in the folder ``fimi`` itself that every room may import; they import no room."""

LARGEST_SHARE = 0.24
"""Of the product's lines that one package may hold: energy is what the toolkit is about."""

LARGEST_FOLDER = 0.14
"""Of them that the modules of one folder may hold, without those of the folders in it."""

NEEDS_TORCH = {
    "fimi.learning.training.deployment",
    "fimi.learning.onnx.export",
    "fimi.learning.networks.counted_cost",
    "fimi.learning.networks.models",
    "fimi.learning.onnx.builder",
    "fimi.learning.onnx.convolution",
    "fimi.learning.onnx.convolution_gradients",
    "fimi.learning.onnx.draws",
    "fimi.learning.onnx.elementwise",
    "fimi.learning.onnx.linear",
    "fimi.learning.onnx.lowering",
    "fimi.learning.onnx.norms",
    "fimi.learning.onnx.operators",
    "fimi.learning.onnx.pooling",
    "fimi.learning.onnx.shapes",
    "fimi.learning.onnx.tape",
    "fimi.learning.onnx.window",
    "fimi.learning.training.precision",
    "fimi.learning.training.torch_trainer",
}


@cache
def modules() -> dict[str, Path]:
    """Every module of the product by its name, packages included."""
    found = {
        name: path
        for name in sorted(MORTAR)
        if (path := ROOT / "fimi" / f"{name.removeprefix('fimi.')}.py").exists()
    }
    for package in ALLOWED:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(("fimi", *(p for p in parts if p != "__init__")))] = path
    return found


def imports(path: Path) -> set[str]:
    """Names of all modules that a file imports, wherever in the file it does."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                names.add(submodule if submodule in modules() else node.module)
    return names


def names_of_modules_in_strings(path: Path) -> set[str]:
    """Modules whose contents a file names as ``"module:name"``, to import them later."""
    constants = (
        node.value
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return {text.split(":")[0] for text in constants if ":" in text} & set(modules())


def test_what_is_ours_is_imported_below_fimi_only() -> None:
    folders = [*ALLOWED, "tests", "benchmarks", "examples", "fimi"]
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    for path in files:
        wrong = {name for name in imports(path) if name.split(".")[0] in ALLOWED}
        assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_run_downwards_only(package: str) -> None:
    allowed = {f"fimi.{name}" for name in ALLOWED[package] | {package}} | MORTAR
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        ours = {".".join(n.split(".")[:2]) for n in imports(path) if n.split(".")[0] == "fimi"}
        assert ours <= allowed, f"{path.relative_to(ROOT)} imports {ours - allowed}"


def test_mortar_imports_no_room() -> None:
    found = {path.stem for path in (ROOT / "fimi").glob("*.py")} - {"__init__"}
    assert found
    assert {f"fimi.{name}" for name in found} <= MORTAR
    for name in found:
        ours = {n for n in imports(ROOT / "fimi" / f"{name}.py") if n.split(".")[0] == "fimi"}
        assert ours <= MORTAR, f"fimi/{name}.py imports {ours - MORTAR}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Neither at once nor later, inside a function, nor by a name in a string."""
    graph = {
        name: ((imports(path) | names_of_modules_in_strings(path)) & set(modules())) - {name}
        for name, path in modules().items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_no_public_class_name_stands_twice() -> None:
    places: dict[str, list[str]] = {}
    for name, path in modules().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(name)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_package_is_most_of_the_house() -> None:
    lines = {
        package: sum(
            len(path.read_text(encoding="utf-8").splitlines())
            for path in (ROOT / package).rglob("*.py")
        )
        for package in ALLOWED
    }
    shares = {package: count / sum(lines.values()) for package, count in lines.items()}
    assert max(shares.values()) <= LARGEST_SHARE, shares
    folders: dict[Path, int] = {}
    for package in ALLOWED:
        for path in (ROOT / package).rglob("*.py"):
            count = len(path.read_text(encoding="utf-8").splitlines())
            folders[path.parent] = folders.get(path.parent, 0) + count
    largest = max(folders, key=folders.__getitem__)
    assert folders[largest] <= LARGEST_FOLDER * sum(lines.values()), largest


def test_the_agents_side_imports_without_torch() -> None:
    light = [
        name
        for name, path in modules().items()
        if name.split(".")[1] in ("energy", "messaging", "edge_agent", "learning")
        and path.stem not in ("__init__", "mosquitto_main", "amqtt_main")
        and name not in NEEDS_TORCH
    ]
    light += [
        "fimi.testbed.cli",
        "fimi.testbed.processes.devices",
        "fimi.testbed.processes.agent",
        "fimi.testbed.processes.emulated_fleet",
    ]
    light += [name for name in modules() if name.startswith("fimi.testbed.fleet.")]
    light.remove("fimi.testbed.fleet.watching")  # needs rich
    assert len(light) > 20
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'torchvision', 'diffusers', 'cvxpy', 'onnx',"
        " 'rich'):\n"
        "            raise ImportError(f'{name} must not be imported')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        f"for module in {light!r}: __import__(module)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_package_is_typed_and_linked() -> None:
    for package in ALLOWED:
        assert (ROOT / package / "py.typed").is_file()
        assert (ROOT / "fimi" / package).resolve() == ROOT / package


def test_every_folder_has_a_map_of_what_is_in_it() -> None:
    for name, path in modules().items():
        if path.stem == "__init__":
            map_ = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            inside = [n for n in modules() if n.rpartition(".")[0] == name]
            missing = [n for n in inside if f"`~{n}`" not in map_ and f"`{n}`" not in map_]
            assert not missing, f"{name} does not say what is in {missing}"


def test_benchmarks_import_what_there_is() -> None:
    """They run seldom: a module or name that has moved shows here first."""
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fimi"):
                module = importlib.import_module(str(node.module))
                for name in node.names:
                    there = hasattr(module, name.name) or importlib.util.find_spec(
                        f"{node.module}.{name.name}"
                    )
                    assert there, f"{path.name}: {node.module} has no {name.name}"
