"The command in a process of its own"
import os, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

def _environment(**env):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | dict(PYTHONPATH=path, PYTHONIOENCODING="utf-8", HF_HUB_OFFLINE="1") | env

def start(*args, cwd, **env):
    "`attnattack` as a process that runs"
    pipes = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    return subprocess.Popen([sys.executable, "-m", "attnattack.cli", *map(str, args)], cwd=cwd, env=_environment(**env), **pipes)

@pytest.fixture
def command(tmp_path):
    "Runs `attnattack` in an empty folder; gives exit code, stdout, stderr"
    def run(*args, seconds=300, **env):
        process = start(*args, cwd=tmp_path, **env)
        out, err = process.communicate(timeout=seconds)
        return process.returncode, out, err
    return run
