"""Prediction: members' outputs for the clips of a store, averaged and decoded batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.events import Events
from dcase_seld.core.work import progress
from dcase_seld.infer.collect import EventCollector, stitched
from dcase_seld.infer.devices import kept_memory
from dcase_seld.infer.settings import EnsembleSettings, Member, read_ensemble, refuse_overlap
from dcase_seld.infer.tracks import average_outputs, swap_output
from dcase_seld.model.network import SeldNetwork, network_features
from dcase_seld.model.types import ModelInput, SeldOutput
from dcase_seld.model.weights import count_parameters, load_model, model_folder, read_facts
from dcase_seld.store.batches import Batch, Batches
from dcase_seld.store.source import ClipSource, tokens_of
from dcase_seld.store.store import Store
from dcase_seld.store.tokens import TokenReader

Tta = Literal["none", "swap"]


@dataclass(frozen=True)
class Predictor:
    """Networks that answer together.

    Attributes:
        networks: in evaluation mode, on one device; all know the same classes.
        settings: their weights, thresholds and test-time augmentation.
        token_weights: by kind of tokens, the fingerprints of the encoders that the members were trained with, where
            they were noted.
    """

    networks: tuple[SeldNetwork, ...]
    settings: EnsembleSettings
    token_weights: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @staticmethod
    def load(folders: Sequence[Path], device: torch.device | str = "cpu", tta: Tta | None = None) -> Predictor:
        """Return the networks of checkpoints, or of one ensemble with its tuned settings.

        Args:
            folders: checkpoints; or a single ensemble folder.
            device: where the networks run.
            tta: test-time augmentation; None: what the ensemble says, "none" for checkpoints.

        Raises:
            SeldError: a folder holds no network, an ensemble is mixed with others, or classes differ.
        """
        settings = read_ensemble(folders[0]) if folders else None
        if settings is None or len(folders) > 1:
            tuned = [folder for folder in folders if read_ensemble(folder) is not None]
            if tuned:
                raise SeldError(
                    f"{tuned[0]} is an ensemble with settings of its own; it cannot be mixed with other members.",
                    "Name the checkpoints themselves as members, or the ensemble alone.",
                )
            settings = EnsembleSettings(members=tuple(Member(folder=str(folder)) for folder in folders))
        if tta is not None:
            settings = settings.model_copy(update={"tta": tta})
        if not settings.members:
            raise SeldError("There is no member to predict with.", "Name at least one checkpoint.")
        networks = tuple(load_model(model_folder(Path(member.folder)), device) for member in settings.members)
        classes = {network.taxonomy.classes for network in networks}
        rates = {network.config.frontend.sample_rate for network in networks}
        if len(classes) > 1 or len(rates) > 1:
            raise SeldError(
                f"The members know different classes or sample rates ({len(classes)} lists, {sorted(rates)} Hz).",
                "Average networks that were trained on one taxonomy.",
            )
        made: dict[str, frozenset[str]] = {}
        for member in settings.members:
            trained = read_facts(model_folder(Path(member.folder))).get("facts", {}).get("tokens", {})
            for kind, spec in trained.items():
                made[kind] = made.get(kind, frozenset()) | {spec["fingerprint"]}
        return Predictor(networks, settings, made)

    @property
    def needs(self) -> frozenset[str]:
        """Return the kinds of tokens that the members read."""
        return frozenset().union(*(network.needs for network in self.networks))

    @property
    def parameters(self) -> int:
        """Return the number of parameters of all members together."""
        return sum(count_parameters(network) for network in self.networks)

    @torch.no_grad()
    def output(self, inputs: ModelInput, mirror: ModelInput | None = None) -> SeldOutput:
        """Return the members' averaged output for a batch, on their device.

        Args:
            inputs: waveforms and tokens; on any device.
            mirror: tokens of the left-right mirrored input, for test-time augmentation of members that see.
        """
        outputs = self.member_outputs(inputs, mirror)
        return average_outputs(outputs, [member.weight for member in self.settings.members])

    @torch.no_grad()
    def member_outputs(self, inputs: ModelInput, mirror: ModelInput | None = None) -> list[SeldOutput]:
        """Return each member's output; with tta "swap" its mean with the mirrored-back output for mirrored input."""
        device = self.networks[0].frontend.mean.device
        made: dict[str, torch.Tensor] = {}
        outputs = []
        for network in self.networks:
            # Members with the same front end share its work.
            key = network.frontend.fingerprint()
            if key not in made:
                made[key] = network_features(network, inputs.features, inputs.wave, device)
            few = inputs._replace(wave=None, features=None).to(device)._replace(features=made[key])
            output = network(few)
            if self.settings.tta == "swap":
                swapped = few._replace(features=network.frontend.swap(made[key]))
                if mirror is not None:
                    fields = {name: value for name, value in mirror._asdict().items() if value is not None}
                    swapped = swapped._replace(**fields).to(device)
                output = average_outputs([output, swap_output(network(swapped))])
            outputs.append(output)
        return outputs


def open_clips(
    store: Store, split: str | Sequence[str], tokens: Sequence[Path], predictor: Predictor, video: bool = True
) -> tuple[ClipSource, bool]:
    """Return the clips of a split with the tokens that the members read, and whether mirrored tokens are needed.

    Args:
        store: the data.
        split: one split or several.
        tokens: folders of frozen tokens.
        predictor: the members.
        video: False: as if no clip had a video.

    Raises:
        SeldError: there is no such clip, the store does not fit the members, or tokens are missing or of other weights.
    """
    first = predictor.networks[0]
    if store.sample_rate != first.config.frontend.sample_rate:
        raise SeldError(
            f"{store.folder} has {store.sample_rate} Hz; the members hear {first.config.frontend.sample_rate} Hz.",
            "Prepare the store at the members' sample rate.",
        )
    if store.taxonomy.classes != first.taxonomy.classes:
        raise SeldError(
            f"{store.folder} has {len(store.taxonomy)} classes ({listing(store.taxonomy.classes)}), the members know "
            f"{len(first.taxonomy)} ({listing(first.taxonomy.classes)}).",
            "Predict with networks that were trained on the same taxonomy.",
        )
    indices = store.indices(split)
    if not len(indices):
        raise SeldError(f"{store.folder} has no clip in split {split!r}.", f"It has {store.counts}.")
    needs = predictor.needs if video else predictor.needs - {"vision"}
    found = tokens_of(store, {store.names[index] for index in indices}, [TokenReader.open(path) for path in tokens])
    readers = {kind: reader for kind, reader in found.items() if kind in needs}
    missing = sorted(needs - readers.keys())
    if missing:
        raise SeldError(
            f"The members read {listing(missing)} tokens, and no tokens folder holds those of all clips of split "
            f"{split!r} of {store.folder}.",
            "Name an embed step on the same store in tokens.",
        )
    for kind, reader in readers.items():
        if strange := predictor.token_weights.get(kind, frozenset()) - {reader.spec.fingerprint}:
            raise SeldError(
                f"{reader.folder} was made by a {kind} encoder with other weights ({reader.spec.fingerprint}) than the "
                f"tokens that the members were trained on ({listing(sorted(strange))}).",
                "Embed these clips with the encoder of the training.",
            )
    mirror = predictor.settings.tta == "swap" and "vision" in readers
    if mirror and not readers["vision"].spec.mirror:
        raise SeldError(
            f"tta swap needs the vision tokens of mirrored pictures; {readers['vision'].folder} has none.",
            "Set mirror: true in the embed step, or tta: none.",
        )
    return ClipSource(store, indices, [readers[kind] for kind in sorted(readers)]), mirror


@kept_memory()
def predict_store(
    predictor: Predictor,
    store: Store,
    split: str | Sequence[str],
    *,
    tokens: Sequence[Path] = (),
    batch_size: int = 32,
    hop_frames: int | None = None,
    video: bool = True,
    allow_tuned: bool = False,
    quiet: bool = True,
) -> Events:
    """Return the events of a split's clips, with activity and on-screen probability; memory does not grow with outputs.

    Args:
        predictor: the members.
        store: the data.
        split: one split or several.
        tokens: folders of frozen tokens of these clips.
        batch_size: windows computed at once.
        hop_frames: label frames between windows of clips longer than one window; where windows overlap, their outputs
            are averaged. None: no overlap.
        video: False: as if no clip had a video.
        allow_tuned: predict recordings too that the ensemble was tuned on: for tuning a later step, not for scores.
        quiet: draw no progress.

    Raises:
        SeldError: see `open_clips`; or the members were tuned on recordings among these clips.
    """
    source, mirror = open_clips(store, split, tokens, predictor, video)
    names = [store.names[index] for index in source.indices]
    if not allow_tuned:
        refuse_overlap(predictor.settings.tuned_on, names, "Predictions are asked for")
    collector = EventCollector([source])
    settings = predictor.settings
    options = {
        "thresholds": settings.class_thresholds(len(store.taxonomy)),
        "unify_deg": settings.unify_deg,
        "onscreen_threshold": settings.onscreen_threshold,
    }
    batches = Batches([source], batch_size=batch_size, targets=False, mirror=mirror, hop_frames=hop_frames)
    with progress("predict", len(source.windows), "windows", quiet) as advance:

        def outputs() -> Iterator[tuple[SeldOutput, Batch]]:
            for batch in batches.epoch(0):
                yield predictor.output(batch.input, batch.mirror), batch
                advance(len(batch.index))

        for output, batch in stitched(outputs(), store) if hop_frames else outputs():
            collector.add(output, batch, **options)
    return collector.events()
