"""Which augmentations a training uses, and how often; imports no torch."""

from __future__ import annotations

from pydantic import Field

from dcase_seld.config import Config


class AugmentConfig(Config):
    """Augmentations, each with the probability with which a clip undergoes it; 0 turns it off."""

    swap: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Left and right exchanged: sound, azimuth signs and (from tokens of mirrored frames) the picture.",
    )
    frame_swap: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="The clip is cut in two at a random label frame and the parts change places: all of it together.",
    )
    gain: float = Field(default=0.0, ge=0, le=1, description="Both channels louder or softer by the same factor.")
    gain_db: float = Field(default=6.0, gt=0, description="Largest change of level in dB, up or down.")
    mixup: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Another clip of the batch is added, labels merged; not where a class would have too many sources. "
        "Needs waveforms: no cache of features.",
    )
    mask: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="SpecAugment: stripes of time and of mel bands lose their level; level differences stay.",
    )
    time_masks: int = Field(default=2, ge=0, description="Stripes of time of one clip.")
    time_mask_frames: int = Field(default=4, ge=1, description="Largest width of a stripe of time in label frames.")
    band_masks: int = Field(default=2, ge=0, description="Stripes of mel bands of one clip.")
    band_mask_share: float = Field(
        default=0.15, gt=0, le=1, description="Largest width of one as a share of all bands."
    )
    filter: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="FilterAugment: a random smooth filter, the same for left and right.",
    )
    filter_db: float = Field(default=6.0, gt=0, description="Largest boost or cut of the filter in dB.")
    filter_nodes: int = Field(default=5, ge=2, description="Most points between which the filter is interpolated.")

    @property
    def needs_wave(self) -> bool:
        """Return whether features cannot be taken from a cache."""
        return self.mixup > 0

    @property
    def active(self) -> bool:
        """Return whether any augmentation is on."""
        return any((self.swap, self.frame_swap, self.gain, self.mixup, self.mask, self.filter))
