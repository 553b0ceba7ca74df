"""The real pose model, and a real person: the portrait that matplotlib ships (public domain)."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest

from dcase_seld.model.pose_models import pull_pose


@pytest.fixture(scope="session")
def pose_model():
    """The folder of the pose model, in the user's cache; built from a package where it is not there yet."""
    return pull_pose("full", publisher=False)


@pytest.fixture(scope="session")
def portrait():
    """(H, W, 3) BGR picture of Grace Hopper, and the column and row of her nose as fractions."""
    image = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))
    assert image is not None
    return image, np.array([0.521, 0.389])
