"""Augmentation on the training device, of sound, labels and tokens together.

Every function takes `which`, (B,) bool: the clips that undergo it. Waveforms are used where there are some, else the
front end's cached features. Random numbers are drawn on the CPU, so a seed gives the same clips on every device; they
travel there without waiting, and nothing is asked back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import gcd
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dcase_seld.core.errors import SeldError
from dcase_seld.core.geometry import ROTATIONS
from dcase_seld.core.registry import AUGMENTATIONS
from dcase_seld.model.frontend import FrontEnd, permuted
from dcase_seld.model.types import ModelInput, SeldTarget, Tokens
from dcase_seld.train.config import AugmentConfig

TOGETHER = (("left", "right"), ("mid", "side"), ("w", "y", "z", "x"))
"""Level maps whose differences say where a sound is: masks leave those as they are."""


class Augment:
    """Applies the configured augmentations to a batch: `augment(inputs, target, generator, mirror)`.

    Args:
        config: which, how often, how strongly.
        frontend: the network's front end: it says which channels features have, and extracts them where masks or
            filters act on features.
    """

    def __init__(self, config: AugmentConfig, frontend: FrontEnd) -> None:
        self.config, self.frontend = config, frontend
        if config.rotate and frontend.format.name != "foa":
            raise SeldError(
                f"augment.rotate turns the sphere; {frontend.format.name} recordings cannot be turned.",
                "Set augment.rotate: 0, or prepare Ambisonic recordings (task: dcase2024).",
            )

    def __call__(
        self, inputs: ModelInput, target: SeldTarget, generator: torch.Generator, mirror: ModelInput | None = None
    ) -> tuple[ModelInput, SeldTarget]:
        """Return the augmented batch.

        Args:
            inputs: the batch, on the training device.
            target: its reference.
            generator: a CPU generator; its state decides everything.
            mirror: tokens of the mirrored input, needed for swap where the input has tokens of pictures.

        Raises:
            SeldError: swap needs tokens of mirrored frames, or mixup needs waveforms, and they are not there.
        """
        config = self.config
        size = len(target.count)

        def drawn(probability: float) -> Tensor:
            return torch.rand(size, generator=generator) < probability

        if config.mixup and (which := drawn(config.mixup)).numpy().any():
            partner = torch.randperm(size, generator=generator)
            inputs, target, mirror = mix(inputs, target, which, partner, mirror)
        if config.swap and (which := drawn(config.swap)).numpy().any():
            inputs, target = swap(inputs, target, which, self.frontend, mirror)
        if config.rotate and (which := drawn(config.rotate)).numpy().any():
            pattern = torch.randint(len(ROTATIONS), (size,), generator=generator)
            inputs, target = rotate(inputs, target, torch.where(which, pattern, 0), self.frontend)
        if config.frame_swap and (which := drawn(config.frame_swap)).numpy().any():
            inputs, target = frame_swap(inputs, target, which, torch.rand(size, generator=generator))
        if config.gain and (which := drawn(config.gain)).numpy().any():
            level_db = (2 * torch.rand(size, generator=generator) - 1) * config.gain_db
            inputs = gain(inputs, torch.where(which, level_db, 0.0), self.frontend)
        for name, probability in config.own.items():
            if (which := drawn(probability)).numpy().any():
                given = AUGMENTATIONS[name](inputs, target, _there(which, target.count), generator)
                if not (isinstance(given, tuple) and [*map(type, given)] == [ModelInput, SeldTarget]):
                    raise SeldError(f"The augmentation {name} did not give x and target.", "Let it return both.")
                inputs, target = given
        if config.mask or config.filter:
            inputs = extracted(inputs, self.frontend)
            assert inputs.features is not None
            features = inputs.features
            if config.filter and (which := drawn(config.filter)).numpy().any():
                curve = filter_curves(size, features.shape[-1], config, generator)
                features = shift_levels(features, torch.where(which[:, None], curve, 0.0)[:, None], self.frontend)
            if config.mask and (which := drawn(config.mask)).numpy().any():
                hidden = mask_stripes(features, config, self.frontend.config.frames_per_label, generator)
                features = mask_levels(features, hidden, self.frontend, which)
            inputs = inputs.replace(features=features)
        return inputs, target


def swap(
    inputs: ModelInput, target: SeldTarget, which: Tensor, frontend: FrontEnd, mirror: ModelInput | None = None
) -> tuple[ModelInput, SeldTarget]:
    """Return clips with left and right exchanged: sound, the sign of y, and tokens of the mirrored pictures.

    Encoders of sound hear no direction, which the exchange changes alone: their tokens stay, unless `mirror` brings
    others.
    """
    changed: dict[str, Any] = {}
    if inputs.wave is not None:
        changed["wave"] = _choose(which, mirrored_wave(inputs.wave, frontend), inputs.wave)
    if inputs.features is not None:
        changed["features"] = _replaced(which, inputs.features, frontend.swap)
    others = {} if mirror is None else mirror.tokens
    blind = [name for name, one in inputs.tokens.items() if one.mask is not None and name not in others]
    if blind:
        raise SeldError(
            f"Augmentation by left-right swap needs {blind[0]} tokens of mirrored frames, and there are none.",
            "Set `mirror: store` in the embed step, or `swap: 0` in the augmentation.",
        )
    changed["tokens"] = {
        name: one._replace(values=_choose(which, others[name].values.to(one.values), one.values))
        if name in others
        else one
        for name, one in inputs.tokens.items()
    }
    direction = target.direction.clone()
    direction[..., 1] *= _there(torch.where(which, -1.0, 1.0), direction)[:, None, None, None]
    return inputs.replace(**changed), target._replace(direction=direction)


def rotate(
    inputs: ModelInput, target: SeldTarget, pattern: Tensor, frontend: FrontEnd
) -> tuple[ModelInput, SeldTarget]:
    """Return clips whose sphere is turned or mirrored, each by its `pattern` (B,) of `geometry.ROTATIONS`, on the CPU.

    Raises:
        SeldError: the input has tokens of pictures, which would have to turn too.
    """
    seen = [name for name, one in inputs.tokens.items() if one.mask is not None]
    if seen:
        raise SeldError(f"Pictures ({seen[0]} tokens) cannot be turned with the sound.", "Set augment.rotate: 0.")
    wave, features = inputs.wave, inputs.features
    if wave is not None:
        place, sign = (
            torch.tensor(table) for table in zip(*(r.of(frontend.format.names) for r in ROTATIONS), strict=True)
        )
        wave = permuted(wave, place[pattern], sign[pattern])
    if features is not None:
        features = frontend.rotate(features, pattern)
    order, sign = torch.tensor([r.order for r in ROTATIONS]), torch.tensor([r.sign for r in ROTATIONS])
    direction = permuted(target.direction, order[pattern], sign[pattern], -1)
    return inputs.replace(wave=wave, features=features), target._replace(direction=direction)


def mirrored_wave(wave: Tensor, frontend: FrontEnd) -> Tensor:
    """Return (B, channels, S), sound with left and right exchanged."""
    order, sign = frontend.format.mirror_order, frontend.format.mirror_sign
    return torch.stack([wave[:, row] if one > 0 else -wave[:, row] for row, one in zip(order, sign, strict=True)], 1)


def frame_swap(inputs: ModelInput, target: SeldTarget, which: Tensor, where: Tensor) -> tuple[ModelInput, SeldTarget]:
    """Return clips cut in two whose parts have changed places in time: sound, labels and tokens.

    The cut lies at a label frame at which a token's stretch of time begins too.

    Args:
        inputs: the batch.
        target: its reference.
        which: (B,) bool.
        where: (B,) in [0, 1), place of the cut.
    """
    steps = target.count.shape[1]
    for tokens in inputs.tokens.values():
        if tokens.values.shape[1] > 1:
            steps = gcd(steps, tokens.values.shape[1])
    if steps < 2:
        return inputs, target
    cut = 1 + (where * (steps - 1)).long().clamp(max=steps - 2)
    shift = _there(torch.where(which, cut, 0), target.count)[:, None]
    row = torch.arange(len(which), device=shift.device)[:, None]

    def rolled(value: Tensor, axis: int = 1) -> Tensor:
        if value.shape[axis] % steps:
            return value
        per_step = value.shape[axis] // steps
        place = (torch.arange(value.shape[axis], device=shift.device) + shift * per_step) % value.shape[axis]
        return value.movedim(axis, 1)[row, place].movedim(1, axis).contiguous()

    wave, features = (None if value is None else rolled(value, 2) for value in (inputs.wave, inputs.features))
    turned = {name: one.map(rolled) for name, one in inputs.tokens.items()}
    return ModelInput(wave, features, turned), target.map(rolled)


def gain(inputs: ModelInput, level_db: Tensor, frontend: FrontEnd) -> ModelInput:
    """Return clips louder by `level_db` (B,) dB, the same in both channels."""
    wave, features = inputs.wave, inputs.features
    if wave is not None:
        wave = wave * (10.0 ** (_there(level_db, wave).to(wave.dtype) / 20.0))[:, None, None]
    if features is not None:
        features = shift_levels(features, level_db[:, None, None], frontend)
    return inputs.replace(wave=wave, features=features)


def mix(
    inputs: ModelInput, target: SeldTarget, which: Tensor, partner: Tensor, mirror: ModelInput | None = None
) -> tuple[ModelInput, SeldTarget, ModelInput | None]:
    """Return clips to which another of the batch is added, labels merged, and the tokens of mirrored input likewise.

    A clip stays as it is where it is its own partner, or where in some frame a class would have more sources than there
    are tracks. The picture stays the first clip's: sources of the added clip are then off screen. Tokens of sound
    become the mean of both. A sum that exceeds full scale is made softer as a whole. Raises SeldError: the input has no
    waveforms.
    """
    if inputs.wave is None:
        raise SeldError("Augmentation by mixup needs waveforms; cached features cannot be added.", "Set mixup: 0.")
    device = target.count.device
    which, partner = _there(which, target.count), _there(partner, target.count)
    tracks = target.distance.shape[3]
    added = target.map(lambda field: field[partner])
    total = target.count + added.count
    own = torch.arange(len(partner), device=device) != partner
    which = which & own & (total.flatten(1).amax(1) <= tracks)
    if any(one.mask is not None for one in inputs.tokens.values()):
        added = added._replace(onscreen=torch.zeros_like(added.onscreen))
    track = torch.arange(tracks, device=device)
    first = target.count[..., None]
    later = (track - first).clamp(min=0)

    def merged(field: Tensor, other: Tensor) -> Tensor:
        place, mine, there = later, track < first, track < total[..., None]
        if field.ndim > place.ndim:
            place, mine, there = place[..., None].expand_as(other), mine[..., None], there[..., None]
        return _choose(which, torch.where(mine, field, other.gather(3, place)) * there, field)

    wave = inputs.wave + inputs.wave[partner]
    wave = wave / wave.abs().amax((1, 2), keepdim=True).clamp(min=1.0)

    def mean_tokens(tokens: Mapping[str, Tokens]) -> dict[str, Tokens]:
        return {
            name: one if one.mask is not None
            else Tokens(_choose(which, (one.values + one.values[partner]) / 2, one.values))
            for name, one in tokens.items()
        }  # fmt: skip

    mixed = inputs.replace(wave=_choose(which, wave, inputs.wave), tokens=mean_tokens(inputs.tokens))
    fields = [merged(field, other) for field, other in zip(target[1:], added[1:], strict=True)]
    new = SeldTarget(_choose(which, total, target.count), *fields)
    return mixed, new, None if mirror is None else mirror.replace(tokens=mean_tokens(mirror.tokens))


def extracted(inputs: ModelInput, frontend: FrontEnd) -> ModelInput:
    """Return the input with the front end's features in place of the waveform."""
    if inputs.features is not None:
        return inputs.replace(features=inputs.features.float())
    assert inputs.wave is not None
    with torch.autocast(inputs.wave.device.type, enabled=False):
        return inputs.replace(features=frontend.extract(inputs.wave.float()), wave=None)


def filter_curves(size: int, bands: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Return (B, F) filters in dB: straight lines over the mel bands between random points.

    Source: H. Nam et al., FilterAugment: an acoustic environmental data augmentation method, 2022 (its linear form).
    """
    nodes = torch.randint(2, config.filter_nodes + 1, (size,), generator=generator).numpy()
    # Of a clip the inner places are drawn, then all levels.
    sizes = 2 * nodes - 2
    drawn = torch.rand(int(sizes.sum()), generator=generator).double().numpy()
    row = np.repeat(np.arange(size), sizes)
    inner = np.arange(len(drawn)) - np.repeat(np.cumsum(sizes) - sizes, sizes) < nodes[row] - 2
    # One line through the points of all clips, one after the other: the device may be waiting meanwhile.
    ends = np.add.outer((0, bands - 1), bands * np.arange(size)).ravel()
    places = np.sort(np.concatenate([ends, bands * row[inner] + (bands - 1) * drawn[inner]]))
    levels = (2 * drawn[~inner] - 1) * config.filter_db
    curves = np.interp(np.arange(size * bands), places, levels).reshape(size, bands)
    return torch.from_numpy(curves.astype(np.float32))


def mask_stripes(features: Tensor, config: AugmentConfig, per_label: int, generator: torch.Generator) -> Tensor:
    """Return (B, T', F) bool: True inside random stripes of time and of mel bands.

    Source: D. S. Park et al., SpecAugment: a simple data augmentation method for automatic speech recognition, 2019.
    """
    steps, bands = features.shape[2:]
    longest, widest = min(steps, config.time_mask_frames * per_label), max(1, round(config.band_mask_share * bands))
    time = _stripes(config.time_masks, steps, longest, generator, features)
    band = _stripes(config.band_masks, bands, widest, generator, features)
    return time[:, :, None] | band[:, None, :]


def mask_levels(features: Tensor, hidden: Tensor, frontend: FrontEnd, which: Tensor | None = None) -> Tensor:
    """Return features (B, A, T', F) whose levels are the training set's mean where `hidden` (B, T', F).

    Left and right keep their difference (so do mid and side), and channels that are no levels stay as they are.
    `which`, (B,) bool on the CPU, are the clips that are masked; None: all.
    """
    which = torch.ones(len(features), dtype=torch.bool) if which is None else which
    mean = frontend.mean.to(features)

    def masked(few: Tensor) -> Tensor:
        inside = hidden.index_select(0, _rows(which, hidden))
        for pair in TOGETHER:
            rows = [frontend.channels.index(name) for name in pair if name in frontend.channels]
            if rows:
                # Adding two channels is several times as fast as a mean over their axis.
                common = sum((few[:, row] for row in rows[1:]), few[:, rows[0]]) / len(rows)
                level = torch.stack([mean[row] for row in rows]).mean(0)
                for row in rows:
                    few[:, row] = torch.where(inside, (few[:, row] - common).add_(level), few[:, row])
        return few

    return _replaced(which, features, masked)


def shift_levels(features: Tensor, level_db: Tensor, frontend: FrontEnd) -> Tensor:
    """Return features (B, A, T', F) whose level channels are raised by `level_db`, broadcast to (B, T', F)."""
    out, shift = features.clone(), _there(level_db, features).to(features.dtype)
    for index, name in enumerate(frontend.channels):
        if name in frontend.levels:
            out[:, index] += shift
    return out


def _stripes(count: int, length: int, widest: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """Return (B, length) bool, on the device of `like`, True inside `count` random stripes of at most `widest`."""
    width = 1 + (torch.rand(len(like), count, generator=generator) * widest).long().clamp(max=widest - 1)
    start = (torch.rand(len(like), count, generator=generator) * (length - width + 1)).long()
    first, stop = _there(torch.stack((start, start + width)), like)[..., None]
    place = torch.arange(length, device=like.device)
    return torch.any((place >= first) & (place < stop), 1)


def _replaced(which: Tensor, plain: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return `plain` with its clips in `which` (B,), on the CPU, replaced by what `change` makes of a copy of them."""
    rows = _rows(which, plain)
    return plain.index_copy(0, rows, change(plain.index_select(0, rows)))


def _choose(which: Tensor, changed: Tensor, plain: Tensor) -> Tensor:
    """Return `changed` for the clips in `which` (B,), `plain` for the others."""
    return torch.where(_there(which, plain).view(-1, *[1] * (plain.ndim - 1)), changed, plain)


def _rows(which: Tensor, like: Tensor) -> Tensor:
    """Return the numbers of the clips in `which` (B,), counted on the CPU, on the device of `like`."""
    return _there(torch.from_numpy(np.flatnonzero(which.numpy())), like)


def _there(drawn: Tensor, like: Tensor) -> Tensor:
    """Return numbers drawn on the CPU on the device of `like`, without waiting for it."""
    return drawn.to(like.device, non_blocking=True)
