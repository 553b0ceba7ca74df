"""How a network is trained: the fields that a recipe's `train` step may set. Imports no torch."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from dcase_seld.core.config import Config, Names, RunTime
from dcase_seld.core.registry import AUGMENTATIONS, LOSS_TERMS, Registry
from dcase_seld.model.config import ModelConfig, SeldConfig

Share = Annotated[float, Field(ge=0, le=1)]


class AugmentConfig(Config):
    """Augmentations, each with the probability with which a clip undergoes it; 0 turns it off.

    The names of plug-ins' augmentations are keys too.
    """

    model_config = ConfigDict(extra="allow")

    more_keys: ClassVar[Registry | None] = AUGMENTATIONS

    swap: Share = Field(
        default=0.5,
        description="Left and right exchanged: sound, azimuth signs and (from tokens of mirrored frames) the picture.",
    )
    rotate: Share = Field(
        default=0.0,
        description="One of the 16 turns and mirrorings of the sphere, for Ambisonic recordings: sound and directions.",
    )
    frame_swap: Share = Field(
        default=0.0,
        description="The clip is cut in two at a random label frame and the parts change places: all of it together.",
    )
    gain: Share = Field(default=0.0, description="Both channels louder or softer by the same factor.")
    gain_db: float = Field(default=6.0, gt=0, description="Largest change of level in dB, up or down.")
    mixup: Share = Field(
        default=0.0,
        description="Another clip of the batch is added, labels merged; not where a class would have too many sources. "
        "Needs waveforms: no cache of features.",
    )
    mask: Share = Field(
        default=0.0,
        description="SpecAugment: stripes of time and of mel bands lose their level; level differences stay.",
    )
    time_masks: int = Field(default=2, ge=0, le=1_000, description="Stripes of time of one clip.")
    time_mask_frames: int = Field(default=4, ge=1, description="Largest width of a stripe of time in label frames.")
    band_masks: int = Field(default=2, ge=0, le=1_000, description="Stripes of mel bands of one clip.")
    band_mask_share: float = Field(
        default=0.15, gt=0, le=1, description="Largest width of one as a share of all bands."
    )
    filter: Share = Field(
        default=0.0, description="FilterAugment: a random smooth filter, the same for left and right."
    )
    filter_db: float = Field(default=6.0, gt=0, description="Largest boost or cut of the filter in dB.")
    filter_nodes: int = Field(default=5, ge=2, le=99, description="Most points between which a filter is interpolated.")

    @model_validator(mode="after")
    def _known(self) -> AugmentConfig:
        for name, probability in self.own.items():
            if name not in AUGMENTATIONS:
                names = (*type(self).model_fields, *AUGMENTATIONS.names)
                near = difflib.get_close_matches(name, names, n=1)
                raise ValueError(f"{name}: unknown key" + (f"; did you mean {near[0]!r}?" if near else ""))
            if not isinstance(probability, (int, float)) or not 0 <= probability <= 1:
                raise ValueError(f"{name}: a probability is a number from 0 to 1, got {probability!r}")
        return self

    @property
    def own(self) -> dict[str, float]:
        """Return the augmentations of plug-ins and their probabilities."""
        return dict(self.model_extra or {})

    @property
    def needs_wave(self) -> bool:
        """Return whether features cannot be taken from a cache."""
        return self.mixup > 0 or any(self.own.values())

    @property
    def active(self) -> bool:
        """Return whether any augmentation is on."""
        return any(
            (self.swap, self.rotate, self.frame_swap, self.gain, self.mixup, self.mask, self.filter, *self.own.values())
        )


class LossConfig(Config):
    """The training loss: ADPIT over direction and distance, and the on-screen term."""

    terms: Annotated[dict[str, float], Names(LOSS_TERMS)] = Field(
        default={"adpit": 1.0},
        description="terms of the loss and their weights: adpit, angle (the mean angle to the source, every degree "
        "alike), and those that plug-ins bring",
    )

    teacher_weight: float = Field(
        default=1.0, ge=0, description="weight of the distance to the teacher's output, where a teacher is given"
    )
    onscreen_loss: Literal["masked", "official", "none"] = Field(
        default="masked",
        description="masked: only where a source is active, weighted; official: as the challenge's baseline",
    )
    onscreen_weight: float | None = Field(
        default=None, ge=0, description="weight of the on-screen term; null: 0.1 (masked) or 1 (official)"
    )
    positive_weight: float | Literal["auto"] = Field(
        default="auto",
        description="weight of on-screen sources; auto: off-screen / on-screen ratio of the training labels",
    )
    active_weight: float = Field(
        default=1.0,
        gt=0,
        description="weight of direction and distance errors where a class is active; above 1 (4 for short trainings) "
        "networks learn to speak up sooner; 1: the official loss",
    )
    distance_loss: Literal["everywhere", "active"] = Field(
        default="everywhere",
        description="everywhere: a silent class should have distance 0 (the official loss); active: silence leaves the "
        "distance alone",
    )


class ScheduleConfig(Config):
    """The learning rate over training, a closed form of the step (so that resuming needs no state)."""

    kind: Literal["cosine", "one-cycle", "constant"] = Field(
        default="cosine", description="cosine: warm-up, then cosine decay; one-cycle: half-cosine up and down; constant"
    )
    warmup: float = Field(default=0.05, ge=0, lt=1, description="share of all steps with a rising learning rate")
    final: Share = Field(default=0.01, description="last learning rate as a share of the peak")


class TrainConfig(Config):
    """Everything that decides a training's result, and how it is run."""

    model: ModelConfig = Field(
        default=SeldConfig(), description="the network; kind: conformer (default) or crnn; without it that of `init`"
    )
    epochs: int = Field(default=20, ge=1, le=1_000_000, description="passes over the training clips")
    batch_size: int = Field(
        default=64, ge=1, le=1_000_000, description="clips per weight update, over all devices and accumulation steps"
    )
    accumulate: int = Field(default=1, ge=1, le=9_999, description="parts that a batch is computed in, to save memory")
    epoch_clips: int | None = Field(
        default=None, ge=1, le=100_000_000, description="clips per epoch; null: as many as the training split has"
    )
    weights: tuple[float, ...] | None = Field(
        default=None, description="share of each store's clips in an epoch when several are mixed; null: by their sizes"
    )
    class_balance: Share = Field(
        default=0.0,
        description="0: every clip once an epoch; 1: rare classes are shown about as often as frequent ones",
    )
    train_on: tuple[Literal["train", "val", "test"], ...] = Field(
        ("train",), min_length=1, description="splits that are trained on; with val among them nothing is validated"
    )
    lr: float = Field(default=1e-3, gt=0, description="peak learning rate of AdamW")
    schedule: ScheduleConfig = Field(default=ScheduleConfig(), description="learning rate over time")
    weight_decay: float = Field(
        default=0.01, ge=0, description="AdamW's decay of matrices and kernels, not of biases and norms"
    )
    clip_norm: float = Field(default=5.0, ge=0, description="largest norm of the gradient; 0: no clipping")
    ema: float = Field(
        default=0.0, ge=0, lt=1, description="decay per step of the weight average that is validated; 0: none"
    )
    freeze: tuple[str, ...] = Field(default=(), description="parameters whose names start so are not trained")
    freeze_batch_norm: bool = Field(default=False, description="keep batch norm's statistics fixed")
    sync_batch_norm: bool = Field(
        default=True, description="share batch norm's statistics between devices (CUDA, several)"
    )
    loss: LossConfig = Field(default=LossConfig(), description="terms of the loss")
    augment: AugmentConfig = Field(default=AugmentConfig(), description="changes of the training clips")
    precision: Literal["fp32", "bf16", "fp16"] = Field(default="fp32", description="arithmetic of the forward pass")
    criterion: Literal["f_score", "f_score_onscreen"] = Field(
        default="f_score", description="validation score of 'best'"
    )
    threshold: float = Field(default=0.5, gt=0, lt=1, description="activity threshold of validation")
    validate_every: int = Field(
        default=1, ge=1, description="epochs between validations (the last epoch always validates)"
    )
    patience: int = Field(
        default=0, ge=0, description="stop after so many validations without a better score; 0: never"
    )
    keep_top: int = Field(default=0, ge=0, description="best validated epochs whose weights are kept in top/")
    cache_features: Literal["auto", "yes", "no"] = Field(
        default="auto",
        description="keep the front end's output on disk; auto: on a CPU when the augmentation allows it",
    )
    seed: int = Field(default=0, ge=0, description="seed of weights, order, augmentation and dropout")
    devices: Annotated[int, RunTime()] = Field(
        default=1, ge=1, le=64, description="devices per node; several train data-parallel"
    )
    nodes: Annotated[int, RunTime()] = Field(default=1, ge=1, description="machines, started by torchrun or SLURM")
    checkpoint_steps: Annotated[int, RunTime()] = Field(
        default=200,
        ge=1,
        description="weight updates between checkpoints; one is also written at the end of each epoch",
    )
    compile: Annotated[bool, RunTime()] = Field(
        default=False,
        description="fuse the network's kernels (torch.compile): the first updates of each shape are slow, unless the "
        "cache has them; pays on GPUs",
    )
    cuda_graphs: Annotated[bool, RunTime()] = Field(
        default=False,
        description="with compile, on one CUDA device: an update's kernels are recorded once and replayed together, "
        "where small ones wait for the program; takes more memory",
    )
    deterministic: Annotated[bool, RunTime()] = Field(
        default=False,
        description="only kernels that give the same bits each time, also on a GPU (slower there); a CPU's always do",
    )
    data_on: Annotated[Literal["auto", "device", "host"], RunTime()] = Field(
        default="auto",
        description="where the stores' sound lives: on the training device, or in files; auto: on a CUDA device whose "
        "free memory it fits into `data_share` times",
    )
    data_share: Annotated[float, RunTime()] = Field(
        default=0.4, gt=0, le=0.9, description="share of the device's free memory that the sound may take"
    )
    tensorboard: Annotated[bool, RunTime()] = Field(default=True, description="write TensorBoard curves")

    @field_validator("model", mode="before")
    @classmethod
    def _default_kind(cls, value: Any) -> Any:
        return {"kind": "conformer", **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not divisible by accumulate {self.accumulate}")
        if self.weights is not None and (min(self.weights, default=0) < 0 or sum(self.weights) <= 0):
            raise ValueError("weights must be at least 0, and one above 0")
        if self.cuda_graphs and (not self.compile or self.accumulate > 1):
            raise ValueError("cuda_graphs needs compile: true and accumulate: 1")
        return self
