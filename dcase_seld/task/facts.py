"""Constants of DCASE 2025 Challenge Task 3, stereo SELD in regular video. Source: the challenge's task description."""

from __future__ import annotations

SAMPLE_RATE = 24_000
"""Samples per second of every clip."""
LABEL_RATE = 10
"""Label frames per second (one frame is 100 ms)."""
CLIP_SECONDS = 5
"""Length of a challenge clip in seconds."""
CLIP_FRAMES = CLIP_SECONDS * LABEL_RATE
"""Label frames of a challenge clip, 50."""
CLIP_SAMPLES = CLIP_SECONDS * SAMPLE_RATE
"""Samples per channel of a challenge clip, 120,000."""
SAMPLES_PER_FRAME = SAMPLE_RATE // LABEL_RATE
"""Samples of one label frame, 2,400."""
MAX_TRACKS = 3
"""Tracks (N) of the multi-ACCDOA output: simultaneous sources of one class that it can tell."""

VIDEO_WIDTH, VIDEO_HEIGHT = 640, 360
"""Size of the perspective video in pixels."""
VIDEO_FPS = 30_000 / 1_001
"""Frames per second of the perspective video, 29.97."""
HORIZONTAL_FOV_DEG = 100.0
"""Horizontal field of view of the perspective video in degrees."""
VERTICAL_FOV_DEG = 67.67
"""Vertical field of view of the perspective video in degrees, rounded as published."""
ONSCREEN_LIMIT_DEG = 51.0
"""No source whose folded |azimuth| is above this is ever labelled on screen (degrees)."""

DOA_THRESHOLD_DEG = 20.0
"""Largest azimuth error of a true positive (degrees, inclusive)."""
RELATIVE_DISTANCE_THRESHOLD = 1.0
"""Largest relative distance error of a true positive (inclusive)."""
