"""dcase_seld: sound event localization and detection in ordinary video, from dry sounds to a challenge submission."""

__version__ = "0.1.0"
