"""Settings for all tests: one thread per process, so that parallel tests do not fight for the cores."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items):
    """Keep torch, once imported by a test module, at one thread."""
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def make_corpus():
    from corpus_made import write_corpus

    return write_corpus


@pytest.fixture(scope="session")
def corpus_root(tmp_path_factory):
    from corpus_made import RECORDINGS, write_corpus

    return write_corpus(tmp_path_factory.mktemp("corpus"), RECORDINGS)


@pytest.fixture(scope="session")
def store(corpus_root, tmp_path_factory):
    from dcase_seld.recipe.stage import Context
    from dcase_seld.stages.data import PREPARE_STAGE as STAGE
    from dcase_seld.stages.data import PrepareConfig
    from dcase_seld.store.store import Store

    out = tmp_path_factory.mktemp("store")
    STAGE.run(PrepareConfig(corpus=str(corpus_root)), {}, out, Context(workers=2))
    return Store.open(out)


@pytest.fixture(scope="session")
def pose_model():
    """The folder of the pose model, in the user's cache; built from a package where it is not there yet."""
    from dcase_seld.pretrained.pose import pull_pose

    return pull_pose("full", publisher=False)


@pytest.fixture(scope="session")
def portrait():
    """(H, W, 3) BGR picture of Grace Hopper, and the column and row of her nose as fractions."""
    import cv2
    import matplotlib
    import numpy as np

    image = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    assert image is not None
    return image, np.array([0.521, 0.389])
