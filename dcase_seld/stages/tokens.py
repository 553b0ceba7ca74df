"""The stage `embed`: tokens of frozen encoders (CLAP, OWL-ViT, YAMNet, voice, any ONNX model) of a store's clips."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from dcase_seld.core.config import Config, Ref, RunTime
from dcase_seld.core.errors import SeldError
from dcase_seld.core.registry import SEMANTIC_ENCODERS
from dcase_seld.pretrained.encoder import OwlVitTokensConfig, TokensConfig, weights_of
from dcase_seld.recipe.stage import Context, Inputs, Stage

if TYPE_CHECKING:
    from dcase_seld.pretrained.encoder import SemanticEncoder
    from dcase_seld.store.store import Store
    from dcase_seld.store.tokens import TokenSpec

Split = Literal["train", "val", "test", "eval", "all"]


class EmbedConfig(Config):
    """Let a frozen encoder (CLAP, OWL-ViT, YAMNet, …) make tokens of a store's clips, for networks to read."""

    data: Annotated[str, Ref("store")] = Field(description="the prepare step whose clips are embedded")
    model: TokensConfig = Field(description="the encoder; kind: clap, owlvit, yamnet, voice or onnx")
    split: Split | tuple[Split, ...] = Field("all", description="clips to embed: a split, several, or all")
    mirror: Literal["none", "store", "grid_flip"] = Field(
        "none",
        description="tokens of mirrored frames, for augmentation and averaging by channel swap: store: computed too;"
        " grid_flip: the token grid is flipped at reading (approximate); sound tokens need none",
    )
    name: str | None = Field(
        None,
        min_length=1,
        max_length=40,
        pattern=r"^[A-Za-z][A-Za-z0-9_-]*$",
        description="what networks call these tokens in `fusion`; null: the encoder's kind",
    )
    hop_frames: int | None = Field(
        None,
        ge=1,
        le=600,
        description="label frames between windows of clips longer than one; null: as long as a window (a predict step "
        "with another hop needs tokens of its own)",
    )
    devices: Annotated[int, RunTime()] = Field(1, ge=1, le=64, description="devices (processes) per node")
    nodes: Annotated[int, RunTime()] = Field(1, ge=1, description="machines, started by torchrun or SLURM")

    @model_validator(mode="after")
    def _mirror_is_for_pictures(self) -> EmbedConfig:
        if self.mirror != "none" and not self.sees:
            raise ValueError("mirror: sound tokens do not change with the channel swap; leave it out")
        return self

    @property
    def sees(self) -> bool:
        """Return whether the encoder looks at pictures."""
        plugin = SEMANTIC_ENCODERS.plugin_of(self.model.kind)
        return isinstance(self.model, OwlVitTokensConfig) if plugin is None else self.entry.gives == "image"

    @property
    def entry(self) -> Any:
        """Return the registry's entry of the encoder."""
        return SEMANTIC_ENCODERS[self.model.kind]

    @property
    def weights(self) -> list[tuple[str, str]]:
        """Return the model that is read, and its kind."""
        return weights_of(self.model)


def fetch_models(configs: Sequence[Any], now: bool) -> str:
    """Fetch the models that steps read (their `weights`); see `recipe.stage.Fetch`."""
    from dcase_seld.pretrained.fetch import bring_models

    return bring_models([weights for config in configs for weights in config.weights], now)


def run_embed(config: EmbedConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write a token folder (see store.tokens) and return facts: shape, bytes, weights, missing frames."""
    import numpy as np

    from dcase_seld.store.tokens import TokenReader

    if config.devices * config.nodes == 1:
        from dcase_seld.infer.devices import single_device

        _embed(config, inputs["data"][0], out, context, str(single_device(context.device)), 0, 1)
    else:
        from dcase_seld.infer.devices import launch, open_fabric

        work = partial(_embed_on_rank, config=config, store=inputs["data"][0], out=out, context=context)
        launch(open_fabric(context.device, config.devices, config.nodes), work, out)
    reader = TokenReader.open(out)
    facts: dict[str, Any] = {
        "name": reader.spec.name,
        "kind": config.model.kind,
        "gives": reader.spec.gives,
        "model": reader.spec.model,
        "weights": reader.spec.fingerprint,
        "random_weights": [reader.spec.name] if reader.spec.random_weights else [],
        "encoder_parameters": reader.spec.parameters,
        "clips": len(set(reader.names)),
        "shape": list(reader.spec.shape),
        "bytes": sum(file.stat().st_size for file in out.glob("*.npy")),
    }
    if reader.spec.mask:
        facts["frames_missing"] = int((~reader.read_mask(np.arange(len(reader.names)))).sum())
    return facts


def _embed_on_rank(fabric: Any, config: EmbedConfig, store: Path, out: Path, context: Context) -> None:
    """Do this process' part; the first one plans before, and finishes after, the others."""
    rank, world = fabric.global_rank, fabric.world_size
    _embed(config, store, out, context, str(fabric.device), rank, world, barrier=fabric.barrier)


def _embed(
    config: EmbedConfig,
    store_folder: Path,
    out: Path,
    context: Context,
    device: str,
    rank: int,
    world: int,
    barrier: Any = lambda: None,
) -> None:
    """Write every `world`-th shard beginning with `rank`; rank 0 also plans, estimates and finishes."""
    from dcase_seld.core.task import sample_times
    from dcase_seld.core.work import progress, say
    from dcase_seld.infer.devices import kept_memory, pytorch_threads
    from dcase_seld.infer.embed import (
        SOUND_CLIPS_AT_ONCE,
        SOUND_CLIPS_PER_SHARD,
        embed_sound,
        embed_video,
        say_estimate,
    )
    from dcase_seld.pretrained.encoder import build_encoder
    from dcase_seld.store.source import StoreSource
    from dcase_seld.store.store import Store
    from dcase_seld.store.tokens import TokenWriter

    store = Store.open(store_folder)
    clips = store.indices(config.split)
    if not len(clips):
        raise SeldError("There is no clip to embed.", f"Check the split; the store has {store.counts}.")
    source = StoreSource(store, clips, hop_frames=config.hop_frames)
    encoder = build_encoder(config.model, store.sample_rate, device)
    pictures = encoder.gives == "image"
    times = sample_times(store.task.window_s, getattr(config.model, "fps", 1.0))
    if pictures and not any(store.videos[index] is not None for index in clips):
        raise SeldError(f"None of the {len(clips):,} clips has a video.", "Embed pictures of a corpus with videos.")
    spec = _spec(config, encoder, store, len(times))
    names, starts = [source.name_of(row) for row in range(len(source.windows))], source.windows[:, 1].tolist()
    if rank == 0:
        if encoder.random_weights:
            say(f"warning: the {spec.model} weights are RANDOM (made for tests); its tokens mean nothing.")
        out.mkdir(parents=True, exist_ok=True)
        say_estimate(spec, len(names), out, poolable=pictures)
        writer = TokenWriter(out, spec, names, None if pictures else SOUND_CLIPS_PER_SHARD, starts)
    barrier()
    if rank != 0:
        writer = TokenWriter(out, spec, names, None if pictures else SOUND_CLIPS_PER_SHARD, starts)
    mine = [(shard, part) for shard, part in writer.pending() if shard % world == rank]
    # Nobody starts before everybody has seen which shards are left.
    barrier()
    count = sum(len(part) for _, part in mine)
    cores = max(1, context.workers // world)
    # Clips are shared between threads on a CPU; a user's own encoder may mind that, and has threads in each clip.
    shared = not pictures and device == "cpu" and SEMANTIC_ENCODERS.plugin_of(config.model.kind) is None
    bar = progress("embed", count, "windows", context.quiet or rank != 0)
    with bar as advance, pytorch_threads(1 if shared else cores), kept_memory():
        if pictures:
            embed_video(source, encoder, writer, mine, times, advance, min(cores, 4))
        elif shared:
            embed_sound(source, encoder, writer, mine, advance, cores, SOUND_CLIPS_AT_ONCE // 4)
        else:
            embed_sound(source, encoder, writer, mine, advance)
    barrier()
    if rank == 0:
        writer.finish()
    # Nobody reads the folder before it is finished.
    barrier()


def _spec(config: EmbedConfig, encoder: SemanticEncoder, store: Store, frames: int) -> TokenSpec:
    """Return what the folder will hold."""
    import torch

    from dcase_seld.store.tokens import TokenSpec

    pictures, source = encoder.gives == "image", getattr(config.model, "source", "")
    tokens = encoder.tokens or int(encoder.encode(torch.zeros(1, 2, store.task.window_samples)).shape[1])
    return TokenSpec(
        name=config.name or config.model.kind,
        gives=encoder.gives,
        model=":".join([config.model.kind, *([Path(source).name] if source else [])]),
        fingerprint=encoder.fingerprint,
        random_weights=encoder.random_weights,
        shape=(frames, tokens, encoder.dimension) if pictures else (tokens, encoder.dimension),
        mirror=config.mirror != "none",
        mirror_by="grid_flip" if config.mirror == "grid_flip" else "stored",
        encoder=config.model.model_dump(mode="json", exclude={"batch"}),
        store=store.identity,
        parameters=encoder.parameters,
    )


EMBED_STAGE = Stage("embed", "tokens", EmbedConfig, run_embed, shared=True, fetch=fetch_models)
