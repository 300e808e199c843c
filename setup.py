"""What pyproject.toml has no word for: a wheel carries the experiments without their outputs, and stubs of its doors."""
import ast, json
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

EXPERIMENTS = Path("nbs/experiments")

def without_outputs(notebook):
    "A notebook's text as it is before it is run"
    nb = json.loads(notebook.read_text("utf-8"))
    for cell in nb["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    return json.dumps(nb, ensure_ascii=False, indent=1) + "\n"

def stub(door):
    "What a type checker reads in place of a door whose names are loaded when they are used"
    calls = [node for node in ast.walk(ast.parse(door.read_text("utf-8"))) if isinstance(node, ast.Call)]
    given = [k.value for call in calls for k in call.keywords if k.arg == "submod_attrs"]
    names = ast.literal_eval(given[0]) if given else {}
    lines = [f"from .{module} import {name} as {name}" for module, listed in names.items() for name in listed]
    version = ["__version__: str"] if "__version__ =" in door.read_text("utf-8") else []
    return "\n".join([*lines, *version, ""])

class BuildWithExperiments(build_py):
    "The experiments and their params beside the modules, a stub beside each door"
    def run(self):
        super().run()
        if self.editable_mode:
            return   # nbs/ is there
        target = Path(self.build_lib) / "attnattack/experiments"
        (target / "params").mkdir(parents=True, exist_ok=True)
        for notebook in EXPERIMENTS.glob("*.ipynb"):
            (target / notebook.name).write_text(without_outputs(notebook), "utf-8")
        for params in EXPERIMENTS.glob("params/*.yaml"):
            self.copy_file(str(params), str(target / "params" / params.name))
        for door in (Path(self.build_lib) / "attnattack").rglob("__init__.py"):
            door.with_suffix(".pyi").write_text(stub(door), "utf-8")

setup(cmdclass={"build_py": BuildWithExperiments})
