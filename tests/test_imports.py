"""The directions of architecture: who may import whom, and who must do without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

ALLOWED = {
    "energy": set(),
    "learning": set(),
    "optim": {"energy"},
    "messaging": {"energy", "learning"},
    "edge_agent": {"energy", "learning", "messaging"},
    "generator_node": {"energy", "learning", "messaging"},
    "coordinator": {"energy", "optim", "learning", "messaging"},
    "testbed": {
        "energy", "optim", "learning", "messaging", "edge_agent", "generator_node", "coordinator",
    },
}  # fmt: skip

NEEDS_TORCH = {
    "learning.deployment",
    "learning.export",
    "learning.model_count",
    "learning.models",
    "learning.onnx_builder",
    "learning.onnx_convolution",
    "learning.onnx_convolution_gradients",
    "learning.onnx_elementwise",
    "learning.onnx_linear",
    "learning.onnx_lowering",
    "learning.onnx_norms",
    "learning.onnx_operators",
    "learning.onnx_pooling",
    "learning.onnx_shapes",
    "learning.onnx_tape",
    "learning.onnx_window",
    "learning.precision",
    "learning.torch_trainer",
}


def imported_packages(path: Path) -> set[str]:
    """First names of everything a file imports, wherever in the file it does."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_run_downwards_only(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        ours = imported_packages(path) & set(ALLOWED)
        assert ours <= ALLOWED[package] | {package}, f"{path.relative_to(ROOT)} imports {ours}"


def test_the_agents_side_imports_without_torch() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("energy", "messaging", "edge_agent", "learning")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.stem not in ("__init__", "mosquitto_main", "amqtt_main")
    ]
    light = [module for module in modules if module not in NEEDS_TORCH]
    light += ["testbed.cli", "testbed.devices", "testbed.agent_process", "testbed.emulated_fleet"]
    assert len(light) > 20
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'torchvision', 'diffusers', 'cvxpy', 'onnx'):\n"
        "            raise ImportError(f'{name} must not be imported')\n"
        "sys.meta_path.insert(0, Refuse())\n"
        f"for module in {light!r}: __import__(module)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_package_is_typed_and_has_a_map() -> None:
    for package in ALLOWED:
        assert (ROOT / package / "py.typed").is_file()
        text = (ROOT / package / "__init__.py").read_text(encoding="utf-8")
        map_ = ast.get_docstring(ast.parse(text)) or ""
        for path in (ROOT / package).glob("*.py"):
            if path.stem != "__init__":
                assert f"{package}.{path.stem}" in map_, f"{package}/__init__.py lacks {path.name}"


@pytest.mark.parametrize(
    "folder", ["edge_agent/doctor", "energy/meters", "energy/control", "energy/observe"]
)
def test_every_folder_of_a_package_has_a_map(folder: str) -> None:
    text = (ROOT / folder / "__init__.py").read_text(encoding="utf-8")
    map_ = ast.get_docstring(ast.parse(text)) or ""
    for path in (ROOT / folder).glob("*.py"):
        name = f"{folder.replace('/', '.')}.{path.stem}"
        assert path.stem == "__init__" or name in map_, f"{folder}/__init__.py lacks {path.name}"
