"""First-order Ambisonics to the challenge's stereo: turn to the viewing angle, then two coincident cardioids.

Channels are in ACN order W, Y, Z, X (Y to the left, Z up, X to the front), as STARSS23 stores them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dcase_seld.errors import SeldError

PEAK_LIMIT = 0.9999
"""A converted clip whose absolute peak exceeds this is discarded. Source: the challenge's stereo data generator."""


def foa_to_stereo(foa: npt.NDArray[np.float32], viewing_angle_deg: float) -> npt.NDArray[np.float32]:
    """Return (2, S) left and right of a (4, S) first-order recording at a viewing angle φ in degrees.

    Y' = sin φ · X + cos φ · Y; L = W + Y', R = W - Y'. Source: the challenge's stereo data generator.

    Raises:
        SeldError: the recording has not four channels.
    """
    if foa.ndim != 2 or foa.shape[0] != 4:
        raise SeldError(
            f"A first-order Ambisonics recording has 4 channels (W, Y, Z, X); got an array of shape {foa.shape}.",
            "Give the FOA file, not the stereo or microphone-array one.",
        )
    angle = np.radians(viewing_angle_deg)
    omni, left, _, front = foa
    side = np.float32(np.sin(angle)) * front + np.float32(np.cos(angle)) * left
    return np.stack([omni + side, omni - side])
