"""Augmentation on the training device, of sound, labels and tokens together.

Every function takes `which`, (B,) bool: the clips that undergo it. Waveforms are used where there are some, else the
front end's cached features. Random numbers are drawn on the CPU, so a seed gives the same clips on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd

import numpy as np
import torch
from torch import Tensor

from dcase_seld.core.errors import SeldError
from dcase_seld.model.features import LEVEL_CHANNELS
from dcase_seld.model.frontend import FrontEnd
from dcase_seld.model.types import ModelInput, SeldTarget
from dcase_seld.train.config import AugmentConfig

PAIRS = (("left", "right"), ("mid", "side"))
"""Level channels whose difference says where a sound is: masks leave it as it is."""


class Augment:
    """Applies the configured augmentations to a batch: `augment(inputs, target, generator, mirror)`.

    Args:
        config: which, how often, how strongly.
        frontend: the network's front end: it says which channels features have, and extracts them where masks or
            filters act on features.
    """

    def __init__(self, config: AugmentConfig, frontend: FrontEnd) -> None:
        self.config, self.frontend = config, frontend

    def __call__(
        self, inputs: ModelInput, target: SeldTarget, generator: torch.Generator, mirror: ModelInput | None = None
    ) -> tuple[ModelInput, SeldTarget]:
        """Return the augmented batch.

        Args:
            inputs: the batch, on the training device.
            target: its reference.
            generator: a CPU generator; its state decides everything.
            mirror: tokens of the mirrored input, needed for swap where the input has vision tokens.

        Raises:
            SeldError: swap needs tokens of mirrored frames, or mixup needs waveforms, and they are not there.
        """
        config = self.config
        size = len(target.number)

        def drawn(probability: float) -> Tensor:
            return torch.rand(size, generator=generator) < probability

        if config.mixup and (which := drawn(config.mixup)).any():
            partner = torch.randperm(size, generator=generator)
            inputs, target, mirror = mix(inputs, target, which, partner, mirror)
        if config.swap and (which := drawn(config.swap)).any():
            inputs, target = swap(inputs, target, which, self.frontend, mirror)
        if config.frame_swap and (which := drawn(config.frame_swap)).any():
            inputs, target = frame_swap(inputs, target, which, torch.rand(size, generator=generator))
        if config.gain and (which := drawn(config.gain)).any():
            level_db = (2 * torch.rand(size, generator=generator) - 1) * config.gain_db
            inputs = gain(inputs, torch.where(which, level_db, 0.0), self.frontend)
        if config.mask or config.filter:
            inputs = extracted(inputs, self.frontend)
            assert inputs.features is not None
            features = inputs.features
            if config.filter and (which := drawn(config.filter)).any():
                curve = filter_curves(size, features.shape[-1], config, generator)
                features = shift_levels(features, torch.where(which[:, None], curve, 0.0)[:, None], self.frontend)
            if config.mask and (which := drawn(config.mask)).any():
                hidden = mask_stripes(features, config, self.frontend.config.frames_per_label, generator)
                features = mask_levels(features, hidden & which[:, None, None], self.frontend)
            inputs = inputs._replace(features=features)
        return inputs, target


def swap(
    inputs: ModelInput, target: SeldTarget, which: Tensor, frontend: FrontEnd, mirror: ModelInput | None = None
) -> tuple[ModelInput, SeldTarget]:
    """Return clips with left and right exchanged: sound, the sign of y, and vision tokens of the mirrored frames.

    CLAP hears (L + R) / 2, which the exchange leaves as it is: its tokens stay, unless `mirror` brings others.
    """
    changed: dict[str, Tensor] = {}
    if inputs.wave is not None:
        changed["wave"] = _choose(which, inputs.wave.flip(1), inputs.wave)
    if inputs.features is not None:
        changed["features"] = _replaced(which, inputs.features, frontend.swap)
    if inputs.vision is not None and (mirror is None or mirror.vision is None):
        raise SeldError(
            "Augmentation by left-right swap needs vision tokens of mirrored frames, and there are none.",
            "Set `mirror: true` in the embed step, or `swap: 0` in the augmentation.",
        )
    for name in ("clap", "vision"):
        plain, mirrored = getattr(inputs, name), getattr(mirror, name, None)
        if plain is not None and mirrored is not None:
            changed[name] = _choose(which, mirrored.to(plain), plain)
    source = target.source.clone()
    source[..., 1] *= torch.where(which, -1.0, 1.0).to(source)[:, None, None, None]
    return inputs._replace(**changed), target._replace(source=source)


def frame_swap(inputs: ModelInput, target: SeldTarget, which: Tensor, where: Tensor) -> tuple[ModelInput, SeldTarget]:
    """Return clips cut in two whose parts have changed places in time: sound, labels and tokens.

    The cut lies at a label frame at which a video frame (and a CLAP window, where there are several) begins too.

    Args:
        inputs: the batch.
        target: its reference.
        which: (B,) bool.
        where: (B,) in [0, 1), place of the cut.
    """
    steps = target.number.shape[1]
    for tokens in (inputs.vision, inputs.clap):
        if tokens is not None and tokens.shape[1] > 1:
            steps = gcd(steps, tokens.shape[1])
    if steps < 2:
        return inputs, target
    cut = 1 + (where * (steps - 1)).long().clamp(max=steps - 2)
    shift = torch.where(which, cut, 0).tolist()

    def rolled(value: Tensor | None, axis: int) -> Tensor | None:
        if value is None or value.shape[axis] % steps:
            return value
        per_step = value.shape[axis] // steps
        return torch.stack(
            [torch.roll(v, -s * per_step, axis - 1) if s else v for v, s in zip(value, shift, strict=True)]
        )

    return (
        ModelInput(
            wave=rolled(inputs.wave, 2),
            features=rolled(inputs.features, 2),
            clap=rolled(inputs.clap, 1),
            vision=rolled(inputs.vision, 1),
            vision_mask=rolled(inputs.vision_mask, 1),
        ),
        SeldTarget(*(torch.as_tensor(rolled(value, 1)) for value in target)),
    )


def gain(inputs: ModelInput, level_db: Tensor, frontend: FrontEnd) -> ModelInput:
    """Return clips louder by `level_db` (B,) dB, the same in both channels."""
    wave, features = inputs.wave, inputs.features
    if wave is not None:
        wave = wave * (10.0 ** (level_db.to(wave) / 20.0))[:, None, None]
    if features is not None:
        features = shift_levels(features, level_db[:, None, None], frontend)
    return inputs._replace(wave=wave, features=features)


def mix(
    inputs: ModelInput, target: SeldTarget, which: Tensor, partner: Tensor, mirror: ModelInput | None = None
) -> tuple[ModelInput, SeldTarget, ModelInput | None]:
    """Return clips to which another of the batch is added, labels merged, and the tokens of mirrored input likewise.

    A clip stays as it is where it is its own partner, or where in some frame a class would have more sources than
    there are tracks. The picture stays the first clip's: sources of the added clip are then off screen. CLAP tokens
    become the mean of both. A sum that exceeds full scale is made softer as a whole.

    Raises:
        SeldError: the input has no waveforms.
    """
    if inputs.wave is None:
        raise SeldError("Augmentation by mixup needs waveforms; cached features cannot be added.", "Set mixup: 0.")
    device = target.number.device
    which, partner = which.to(device), partner.to(device)
    tracks = target.source.shape[3]
    added_number, added_source = target.number[partner], target.source[partner]
    total = target.number + added_number
    own = torch.arange(len(partner), device=device) != partner
    which = which & own & (total.flatten(1).amax(1) <= tracks)
    if inputs.vision is not None:
        added_source = added_source.clone()
        added_source[..., 3] = 0.0
    track = torch.arange(tracks, device=device)
    first = target.number[..., None]
    later = (track - first).clamp(min=0)[..., None].expand_as(added_source)
    merged = torch.where((track < first)[..., None], target.source, added_source.gather(3, later))
    merged = merged * (track < total[..., None])[..., None]
    wave = inputs.wave + inputs.wave[partner]
    wave = wave / wave.abs().amax((1, 2), keepdim=True).clamp(min=1.0)

    def mean_tokens(clap: Tensor | None) -> Tensor | None:
        return None if clap is None else _choose(which, (clap + clap[partner]) / 2, clap)

    mixed = inputs._replace(wave=_choose(which, wave, inputs.wave), clap=mean_tokens(inputs.clap))
    new = SeldTarget(_choose(which, total, target.number), _choose(which, merged, target.source))
    return mixed, new, mirror._replace(clap=mean_tokens(mirror.clap)) if mirror is not None else None


def extracted(inputs: ModelInput, frontend: FrontEnd) -> ModelInput:
    """Return the input with the front end's features in place of the waveform."""
    if inputs.features is not None:
        return inputs._replace(features=inputs.features.float())
    assert inputs.wave is not None
    with torch.autocast(inputs.wave.device.type, enabled=False):
        return inputs._replace(features=frontend.extract(inputs.wave.float()), wave=None)


def filter_curves(size: int, bands: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Return (B, F) filters in dB: straight lines over the mel bands between random points.

    Source: H. Nam et al., FilterAugment: an acoustic environmental data augmentation method, 2022 (its linear form).
    """
    curves = np.empty((size, bands), np.float32)
    nodes = torch.randint(2, config.filter_nodes + 1, (size,), generator=generator).tolist()
    for row, count in enumerate(nodes):
        places = np.sort(torch.rand(count - 2, generator=generator).numpy()) * (bands - 1)
        levels = (2 * torch.rand(count, generator=generator).numpy() - 1) * config.filter_db
        curves[row] = np.interp(np.arange(bands), [0, *places, bands - 1], levels)
    return torch.from_numpy(curves)


def mask_stripes(features: Tensor, config: AugmentConfig, per_label: int, generator: torch.Generator) -> Tensor:
    """Return (B, T', F) bool on the CPU: True inside random stripes of time and of mel bands.

    Source: D. S. Park et al., SpecAugment: a simple data augmentation method for automatic speech recognition, 2019.
    """
    size, _, steps, bands = features.shape
    time = _stripes(size, config.time_masks, steps, min(steps, config.time_mask_frames * per_label), generator)
    band = _stripes(size, config.band_masks, bands, max(1, round(config.band_mask_share * bands)), generator)
    return time[:, :, None] | band[:, None, :]


def mask_levels(features: Tensor, hidden: Tensor, frontend: FrontEnd) -> Tensor:
    """Return features (B, A, T', F) whose levels are the training set's mean where `hidden` (B, T', F).

    Left and right keep their difference (so do mid and side), and channels that are no levels stay as they are.
    """
    which = hidden.flatten(1).any(1)
    mean = frontend.mean.to(features)

    def masked(few: Tensor) -> Tensor:
        inside = hidden[which].to(few.device)
        for pair in PAIRS:
            rows = [frontend.channels.index(name) for name in pair if name in frontend.channels]
            if rows:
                # Adding two channels is several times as fast as a mean over their axis.
                common = sum((few[:, row] for row in rows[1:]), few[:, rows[0]]) / len(rows)
                level = mean[rows].mean(0)
                for row in rows:
                    few[:, row] = torch.where(inside, (few[:, row] - common).add_(level), few[:, row])
        return few

    return _replaced(which, features, masked)


def shift_levels(features: Tensor, level_db: Tensor, frontend: FrontEnd) -> Tensor:
    """Return features (B, A, T', F) whose level channels are raised by `level_db`, broadcast to (B, T', F)."""
    rows = [index for index, name in enumerate(frontend.channels) if name in LEVEL_CHANNELS]
    out = features.clone()
    out[:, rows] = features[:, rows] + level_db.to(features)[:, None]
    return out


def _stripes(size: int, count: int, length: int, widest: int, generator: torch.Generator) -> Tensor:
    """Return (B, length) bool, True inside `count` random stripes of at most `widest`."""
    width = 1 + (torch.rand(size, count, generator=generator) * widest).long().clamp(max=widest - 1)
    start = (torch.rand(size, count, generator=generator) * (length - width + 1)).long()
    place = torch.arange(length)
    inside = (place >= start[..., None]) & (place < (start + width)[..., None])
    return inside.any(1)


def _replaced(which: Tensor, plain: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return `plain` with its clips in `which` (B,), on the CPU, replaced by what `change` makes of a copy of them."""
    rows = which.nonzero()[:, 0].to(plain.device)
    return plain.index_copy(0, rows, change(plain.index_select(0, rows)))


def _choose(which: Tensor, changed: Tensor, plain: Tensor) -> Tensor:
    """Return `changed` for the clips in `which` (B,), `plain` for the others."""
    return torch.where(which.to(plain.device).view(-1, *[1] * (plain.ndim - 1)), changed, plain)
