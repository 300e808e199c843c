"""A function in a process of its own: its result, its error, its end."""
import os

import pytest
from attnattack.base.measure import in_own_process


def test_result_comes_from_another_process():
    assert in_own_process(os.getpid) != os.getpid()


def test_error_is_passed_on():
    with pytest.raises(RuntimeError, match="listdir: FileNotFoundError"):
        in_own_process(os.listdir, path="/no such folder")


def test_killed_process_is_said():
    with pytest.raises(RuntimeError, match="_exit: the process was killed"):
        in_own_process(os._exit, status=9)
