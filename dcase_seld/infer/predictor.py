"""Prediction: networks that answer together, for clips of a store and for any recording, on one path."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from dcase_seld.core.config import find_network
from dcase_seld.core.errors import SeldError, listing
from dcase_seld.core.events import Events
from dcase_seld.core.geometry import CHANNELS, ROTATIONS
from dcase_seld.core.task import FARTHEST_M, Task
from dcase_seld.core.work import progress
from dcase_seld.infer.collect import EventCollector, average_outputs, average_turns, swap_output, turn_back
from dcase_seld.infer.devices import kept_memory
from dcase_seld.infer.recording_source import ComputeTime, Embedder, RecordingSource, open_embedders
from dcase_seld.infer.settings import EnsembleSettings, Member, check_leakage, read_ensemble
from dcase_seld.media.audio import VIDEOS, Mono
from dcase_seld.media.recordings import Recording as Recording
from dcase_seld.media.recordings import read_recording
from dcase_seld.model.network import SeldNetwork, network_features
from dcase_seld.model.types import ModelInput, SeldOutput
from dcase_seld.model.weights import FACTS_FILE, count_parameters, load_model, model_folder, read_facts
from dcase_seld.store.batches import Batch, Batches
from dcase_seld.store.source import Source, StoreSource, fitting_readers
from dcase_seld.store.store import Store
from dcase_seld.store.tokens import TokenReader

Tta = Literal["none", "swap", "rotate"]


@dataclass(frozen=True)
class Predictor:
    """Networks that answer together.

    Attributes:
        networks: in evaluation mode, on one device; all know the same classes.
        settings: their weights, thresholds and test-time augmentation.
        specs: by encoder, what is noted of the tokens that each member was trained with.
        correct: what changes the events of a recording after the networks, e.g. by people in its pictures; None.
    """

    networks: tuple[SeldNetwork, ...]
    settings: EnsembleSettings
    specs: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    correct: Correction | None = None

    def __repr__(self) -> str:
        settings, reads = self.settings, f", reads {listing(sorted(self.needs))}" if self.needs else ""
        bounds = sorted({min(settings.thresholds), max(settings.thresholds)})
        how = f"threshold {'–'.join(f'{value:g}' for value in bounds)}, tta {settings.tta}{reads}"
        what = f"{len(self.networks)} network(s), {self.parameters:,} parameters, {len(self.task.classes)} classes"
        return f"Predictor({what}, {how})"

    @staticmethod
    def load(folders: Sequence[Path], device: torch.device | str = "cpu", tta: Tta | None = None) -> Predictor:
        """Return the networks of checkpoints, or of one ensemble with its tuned settings.

        `folders`: checkpoints, names of networks that the package carries, or a single ensemble; `tta` None: what that
        says. Raises SeldError: a folder holds no network, an ensemble is mixed with others, or classes differ.
        """
        folders = [find_network(folder) for folder in folders]
        settings = read_ensemble(folders[0]) if folders else None
        if settings is None or len(folders) > 1:
            # A network of the package is also a plain member: its settings are for when it answers alone.
            tuned = [f for f in folders if read_ensemble(f) is not None and not (f / FACTS_FILE).is_file()]
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
        for network in networks[1:]:
            if different := networks[0].task.differences(network.task):
                raise SeldError(
                    f"The members were made for different tasks: {'; '.join(different)}.",
                    "Average networks that were trained for one task.",
                )
        for member, network in zip(settings.members, networks, strict=True):
            if settings.tta == "rotate" and (network.task.channels != "foa" or network.sees):
                what = "sees pictures, which cannot be turned" if network.sees else f"hears {network.task.channels}"
                raise SeldError(f"tta rotate turns Ambisonic sound; {member.folder} {what}.", "Use tta: swap or none.")
        specs: dict[str, list[Mapping[str, Any]]] = {}
        for member in settings.members:
            for name, spec in read_facts(model_folder(Path(member.folder)))["facts"].get("tokens", {}).items():
                specs.setdefault(name, []).append(spec)
        return Predictor(networks, settings, specs)

    @property
    def task(self) -> Task:
        """Return what the networks were made for."""
        return self.networks[0].task

    @property
    def needs(self) -> frozenset[str]:
        """Return the encoders whose tokens the members read."""
        return frozenset().union(*(network.needs for network in self.networks))

    @property
    def sees(self) -> frozenset[str]:
        """Return those encoders that look at pictures."""
        return frozenset().union(*(network.sees for network in self.networks))

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
        return self._averaged(self.member_outputs(inputs, mirror))

    def _averaged(self, outputs: list[SeldOutput]) -> SeldOutput:
        return average_outputs(outputs, [member.weight for member in self.settings.members])

    @torch.no_grad()
    def member_outputs(self, inputs: ModelInput, mirror: ModelInput | None = None) -> list[SeldOutput]:
        """Return each member's output; with tta the mean over mirrored or turned input, turned back."""
        device = self.networks[0].frontend.mean.device
        made: dict[str, torch.Tensor] = {}
        outputs = []
        for network in self.networks:
            # Members with the same front end share its work.
            key = network.frontend.fingerprint()
            if key not in made:
                made[key] = network_features(network, inputs.features, inputs.wave, device)
            few = inputs.replace(wave=None, features=None).to(device).replace(features=made[key])
            output = network(few)
            if self.settings.tta == "swap":
                swapped = few.replace(features=network.frontend.swap(made[key]))
                if mirror is not None:
                    swapped = swapped.replace(tokens={**few.tokens, **mirror.to(device).tokens})
                output = average_outputs([output, swap_output(network(swapped))])
            elif self.settings.tta == "rotate":
                turned = [output]
                for number, rotation in enumerate(ROTATIONS[1:], 1):
                    pattern = torch.full((len(made[key]),), number)
                    seen = few.replace(features=network.frontend.rotate(made[key], pattern))
                    turned.append(turn_back(network(seen), rotation))
                output = average_turns(turned)
            outputs.append(output)
        return outputs

    def judged(self, outputs: list[SeldOutput], batch: Batch, source: Source) -> list[SeldOutput]:
        """Return the members' outputs for a batch.

        Raises:
            SeldError: one of them cannot be, as of weights that are broken though they are numbers.
        """
        for member, output in zip(self.settings.members, outputs, strict=True):
            activity, screen = output.activity(), 0.0 if output.onscreen is None else output.onscreen
            what, ill = "is no number", ~(activity + output.distance + screen).isfinite()
            if not ill.any():
                far = output.distance > FARTHEST_M
                what, ill = f"lies beyond {FARTHEST_M:,.0f} m", far & (activity > min(self.settings.thresholds))
            if ill.any():
                row = int(ill.flatten(1).any(1).nonzero()[0])
                clip = source.names[source.clips.tolist().index(int(batch.index[row]))]
                raise SeldError(
                    f"What the network in {member.folder} says of {clip} {what}: its weights are broken.",
                    "Take an earlier checkpoint of its training, or train again with a smaller lr.",
                )
        return outputs

    def with_threshold(self, threshold: float | None) -> Predictor:
        """Return the predictor with one activity threshold for all classes (None: as it is)."""
        if threshold is None:
            return self
        if not 0 <= threshold <= 1:
            raise SeldError(f"The threshold is {threshold:g}; an activity is 0 to 1.", "Give e.g. 0.5.")
        return replace(self, settings=self.settings.model_copy(update={"thresholds": (threshold,)}))

    def open_store(
        self,
        store: Store,
        split: str | Sequence[str],
        tokens: Sequence[Path] = (),
        *,
        video: bool = True,
        hop_frames: int | None = None,
        allow_tuned: bool = False,
    ) -> StoreSource:
        """Return the clips of a split with the tokens that the members read.

        Args:
            store: the data.
            split: one split or several.
            tokens: folders of frozen tokens.
            video: False: as if no clip had a video.
            hop_frames: label frames between windows of clips longer than one; where they overlap, outputs are averaged.
            allow_tuned: recordings too that the ensemble was tuned on: for tuning a later step, not for scores.

        Raises:
            SeldError: there is no such clip, the store is of another task, tokens are missing or of other weights, or
                the members were tuned on recordings among these clips.
        """
        if different := store.task.differences(self.task):
            raise SeldError(
                f"{store.folder} and the members were made for different tasks: {'; '.join(different)}.",
                "Prepare the store as for the members' training, or predict with other networks.",
            )
        clips = store.indices(split)
        if not len(clips):
            raise SeldError(f"{store.folder} has no clip in split {split!r}.", f"It has {store.counts}.")
        needs = self.needs if video else self.needs - self.sees
        readers = fitting_readers(store, clips, [TokenReader.open(path) for path in tokens], needs, "The members read")
        for reader in readers:
            known = {spec["fingerprint"] for spec in self.specs.get(reader.spec.name, ())}
            if strange := known - {reader.spec.fingerprint}:
                raise SeldError(
                    f"{reader.folder} was made by a {reader.spec.name} encoder with other weights "
                    f"({reader.spec.fingerprint}) than the tokens that the members were trained on "
                    f"({listing(sorted(strange))}).",
                    "Embed these clips with the encoder of the training.",
                )
            if self.settings.tta == "swap" and reader.spec.name in self.sees and not reader.spec.mirror:
                raise SeldError(
                    f"tta swap needs the {reader.spec.name} tokens of mirrored pictures; {reader.folder} has none.",
                    "Set `mirror: store` in the embed step, or tta: none.",
                )
        source = StoreSource(store, clips, readers, hop_frames=hop_frames)
        if not allow_tuned:
            check_leakage(self.settings.tuned_on, source.names, "Predictions are asked for")
        return source

    def batches(self, source: Source, batch_size: int) -> Batches:
        """Return the batches of a source's windows, with the tokens of mirrored pictures where those are needed."""
        return Batches(source, batch_size, targets=False, mirror=self.settings.tta == "swap" and bool(self.sees))

    def outputs(
        self, source: Source, batch_size: int = 32, quiet: bool = True, title: str = "predict"
    ) -> Iterator[tuple[SeldOutput, Batch]]:
        """Yield the averaged output of every batch of a source's windows."""
        with progress(title, len(source.windows), "windows", quiet) as advance, kept_memory():
            for batch in self.batches(source, batch_size).epoch(0):
                outputs = self.judged(self.member_outputs(batch.input, batch.mirror), batch, source)
                yield self._averaged(outputs), batch
                advance(len(batch.index))

    def events(self, source: Source, batch_size: int = 32, quiet: bool = True, title: str = "predict") -> Events:
        """Return the events of a source's clips, with activity and on-screen probability.

        Memory does not grow with outputs; where windows of a clip overlap, their outputs are averaged.
        """
        settings = self.settings
        same = settings.model_dump(include={"unify_deg", "onscreen_threshold", "distance_scale", "smooth_frames"})
        collector = EventCollector([source], thresholds=settings.class_thresholds(len(self.task.classes)), **same)
        for output, batch in self.outputs(source, batch_size, quiet, title):
            collector.add(output, batch)
        return collector.events()

    def predict(
        self,
        recording: Recording,
        embedders: Mapping[str, Embedder] | None = None,
        *,
        hop_frames: int | None = None,
        batch_size: int = 8,
        quiet: bool = True,
        spent: ComputeTime | None = None,
    ) -> Events:
        """Return the events of a recording of any length; its pictures correct them where the predictor has `correct`.

        Args:
            recording: what is heard and seen.
            embedders: by encoder, makers of the tokens that the members read; None: made now, as the trainings say.
            hop_frames: label frames between windows; None: half a window.
            batch_size: windows computed at once.
            quiet: draw no progress.
            spent: receives the computing time by part.
        """
        if embedders is None:
            embedders = open_embedders(self.specs, self.needs, self.task, str(self.networks[0].frontend.mean.device))
        hop = hop_frames or self.task.hop_frames(0.5)
        source = RecordingSource(recording, self.task, embedders, hop, spent)
        began = time.perf_counter()
        events = self.events(source, batch_size, quiet, recording.name)
        if spent is not None:
            spent.network += time.perf_counter() - began - source.seconds
        events = replace(events, taxonomy=self.task.classes)
        return events if self.correct is None else self.correct(events, recording)


def read_for(
    predictor: Predictor,
    path: Path,
    video: Path | None = None,
    *,
    mono: Mono = "refuse",
    foa_angle_deg: float | None = None,
) -> Recording:
    """Return a recording at the predictor's sample rate and in its channels; a video file brings its own pictures.

    Raises:
        SeldError: the file is broken, mono, or has another number of channels.
    """
    task = predictor.task
    pictures = video if video is not None else path if path.suffix.lower() in VIDEOS else None
    channels = CHANNELS[task.channels].count
    return read_recording(path, pictures, task.sample_rate, mono=mono, foa_angle_deg=foa_angle_deg, channels=channels)


Correction = Callable[[Events, Recording], Events]
"""correct(events, recording) → events: what pictures say about the events of a recording."""
