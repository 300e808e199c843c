"""The one step that pyproject.toml has no word for: a wheel carries the experiments, without their outputs."""
import json
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

class BuildWithExperiments(build_py):
    "attnattack/experiments/*.ipynb and attnattack/experiments/params/*.yaml, beside the modules"
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

setup(cmdclass={"build_py": BuildWithExperiments})
