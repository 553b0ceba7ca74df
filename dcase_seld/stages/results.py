"""The stages `score`, `compare`, `report` and `package`: from CSV files to figures, a page and the zip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from dcase_seld.core.config import Config, Outside, Ref
from dcase_seld.core.errors import SeldError
from dcase_seld.recipe.stage import Context, Inputs, Stage
from dcase_seld.scoring.figures import EDITION_FIGURES, format_table, scored_as


class RowConfig(Config):
    """One row."""

    label: str = Field(description="what the table calls it")
    score: Annotated[str, Ref("scores")] = Field(description="the score step")
    against: str | None = Field(
        default=None, description="label of the row that it is compared with; null: the first row"
    )


class CompareConfig(Config):
    """Put several scores into one table, with their differences."""

    rows: tuple[RowConfig, ...] = Field(min_length=1, description="in the order of the table")

    @model_validator(mode="after")
    def _labels_fit(self) -> CompareConfig:
        labels = [row.label for row in self.rows]
        if len(set(labels)) != len(labels):
            raise ValueError("rows: two have one label")
        for row in self.rows:
            if row.against is not None and row.against not in labels:
                raise ValueError(f"rows: against {row.against!r} is no row; the rows are {', '.join(labels)}")
        return self


def run_compare(config: CompareConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write compare.json, and return the table as `show`."""
    from dcase_seld.core.files import write_json
    from dcase_seld.report.gather import gather
    from dcase_seld.report.run import difference

    runs = {row.label: gather(inputs[f"rows.{place}.score"])[0] for place, row in enumerate(config.rows)}
    first = next(iter(runs.values()))
    if any(one.task != first.task for one in runs.values()):
        raise SeldError("The scores are of different editions.", "Compare those of one edition.")
    rows = []
    for row, (label, one) in zip(config.rows, runs.items(), strict=True):
        scores = one.scores.to_json()
        bounds = {name: (scores["jackknife"][name] or {}).get("interval", (None, None)) for name in scores["jackknife"]}
        base = row.against or config.rows[0].label
        rows.append(
            {
                "row": label,
                "against": None if base == label else base,
                "clips": scores["clips"],
                "unit": one.unit,
                "figures": {
                    name: {"value": scores[name], "low": low, "high": high} for name, (low, high) in bounds.items()
                },
                "difference": {} if base == label else difference(runs[base], one),
            }
        )
    write_json(out / "compare.json", rows)
    return {"rows": list(runs), "show": format_table(rows, EDITION_FIGURES.get(first.task))}


COMPARE_STAGE = Stage("compare", "comparison", CompareConfig, run_compare, measures=True)


class ScoreConfig(Config):
    """Score CSV files against a store's labels with the challenge's figures."""

    csv: Annotated[str, Ref("csv")] = Field(description="Step whose CSV files are scored.")
    data: Annotated[str, Ref("store")] = Field(description="Step whose store holds the labels.")
    split: Literal["train", "val", "test", "all"] = Field("test", description="Clips of the store that are scored.")
    track: Literal["a", "b"] = Field("b", description="b, or a (audio only: no on-screen figures).")
    average: Literal["macro", "micro"] = Field("macro", description="Mean over classes, or all classes pooled.")
    protocol: Literal["official", "complete"] = Field(
        "official", description="The challenge's scorer exactly, or every frame of every clip."
    )
    jackknife: Literal["none", "clip", "recording"] = Field(
        "none", description="95 % intervals by leaving out one clip, or all windows of one recording, at a time."
    )


def run_score(config: ScoreConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write scores.json; return the overall figures and, as `show`, the table that a run ends with.

    Raises:
        SeldError: a clip of the split has no CSV file, or a CSV file no labelled clip.
    """
    from dcase_seld.core.event_files import list_csv, names_of
    from dcase_seld.core.files import write_json
    from dcase_seld.core.work import say
    from dcase_seld.scoring.official import check_clips, format_scores, score_clips
    from dcase_seld.store.store import Store

    data, csv = inputs["data"][0], inputs["csv"][0]
    store = Store.open(data)
    classes, task = store.taxonomy.classes, scored_as(store.task)
    indices = [index for index in store.indices(config.split) if store.labelled[index]]
    names = [store.names[index] for index in indices]
    elsewhere = set(store.names) - set(names)  # clips of other splits, or without labels: not what is asked for
    prediction = [file for file in list_csv(csv) if file[0] not in elsewhere]
    remedy = "Predict every clip of the split, or set protocol: complete, which counts them as missed."
    check_clips(names_of(prediction), tuple(names), csv, data, None if config.protocol == "complete" else remedy)
    scores, notes = score_clips(
        prediction,
        store.events.select_clips(names),
        task=task,
        n_classes=len(classes),
        frames=max((int(store.frames[index]) for index in indices), default=0) or None,
        form="polar",
        average=config.average,
        protocol=config.protocol,
        track=config.track,
        jackknife=None if config.jackknife == "none" else config.jackknife,
    )
    for note in notes:
        say(f"note: {note}")
    plain = scores.to_json()
    write_json(out / "scores.json", plain)
    return {
        **({"track": config.track} if scores.track else {"task": scores.task}),
        "split": config.split,
        "clips": scores.clips,
        "classes": list(classes),
        **{name: plain[name] for name in scores.figures},
        "show": format_scores(scores, classes, EDITION_FIGURES.get(task)),
    }


SCORE_STAGE = Stage("score", "scores", ScoreConfig, run_score, measures=True)


class ReportConfig(Config):
    """Write one HTML page of scores, errors and examples of one or more runs."""

    scores: Annotated[list[str], Ref("scores")] = Field(
        min_length=1, description="Score steps; the first is the one that the others are compared with."
    )
    examples: int = Field(3, ge=0, le=50, description="How many of the best and of the worst clips are shown.")
    title: str = Field("", description="Heading; the names of the runs by default.")
    about: str = Field("", description="A sentence below the heading; what the recipe says of itself by default.")


def run_report(config: ReportConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write report.html, which needs no other file."""
    from dcase_seld.report.gather import gather
    from dcase_seld.report.page import write_report

    runs = gather(inputs["scores"])
    write_report(runs, out / "report.html", config.examples, config.title, config.about)
    return {"runs": [one.name for one in runs]}


REPORT_STAGE = Stage("report", "report", ReportConfig, run_report, measures=True)


class PackageConfig(Config):
    """Make the zip that the challenge takes, and check it."""

    csv: Annotated[list[str], Ref("csv")] = Field(
        description="Export steps, one per system, in the order of the systems' numbers.", min_length=1
    )
    tracks: list[Literal["a", "b"]] = Field(description="Track of each export step.", min_length=1)
    scores: Annotated[list[str], Ref("scores"), Outside()] = Field(
        default=[],
        description="Development scores of each system, in the same order: a score step, or the path of one or of a "
        "scores.json; by default the score step of its networks, or of the ensemble whose settings they took over.",
    )
    members: Annotated[list[str], Ref("checkpoint", "ensemble")] = Field(
        default=[], description="Steps whose networks are counted where the export steps do not come from any."
    )
    team: Annotated[Path | None, Outside()] = Field(
        default=None, description="Team file (see submission/team.yaml); by default the example that comes along."
    )
    report: Annotated[Path | None, Outside()] = Field(
        default=None, description="Technical report as a PDF; without it a skeleton is written beside the zip."
    )
    templates: Annotated[Path | None, Outside()] = Field(
        default=None, description="Folder whose layout.yaml, meta.yaml, report.md and report.tex replace the own ones."
    )
    layout: Literal["dcase2025", "dcase2024"] = Field(
        default="dcase2025", description="Edition whose layout the zip has; a layout.yaml in templates goes before it."
    )
    name: str = Field(default="submission", description="Name of the zip.", pattern=r"^[\w-]+$")
    force_random_weights: bool = Field(default=False, description="Package networks that were never trained.")

    @field_validator("team", "report", "templates", mode="before")
    @classmethod
    def _nothing_is_none(cls, value: Any) -> Any:
        return None if value == "" else value  # as in `report: "${REPORT:-}"`

    @model_validator(mode="after")
    def _one_track_per_system(self) -> Self:
        if len(self.tracks) != len(self.csv):
            raise ValueError(f"tracks must name one track per csv step: {len(self.csv)}, got {len(self.tracks)}")
        if self.scores and len(self.scores) != len(self.csv):
            raise ValueError(f"scores must name one step per csv step: {len(self.csv)}, got {len(self.scores)}")
        return self


def run_package(config: PackageConfig, inputs: Inputs, out: Path, context: Context) -> dict[str, Any]:
    """Write NAME.zip (and NAME_report/ where no report is given) and say what is missing; return labels and findings.

    Raises:
        SeldError: a system cannot be packaged.
    """
    from dcase_seld.submission.deliver import deliver
    from dcase_seld.submission.systems import collect

    scores: list[Path | None] = [*inputs.get("scores", [])] or [None] * len(config.csv)
    members = inputs.get("members", [])
    runs = [
        (collect(csv, score, members, track), track)
        for csv, score, track in zip(inputs["csv"], scores, config.tracks, strict=True)
    ]
    zip_file = out / f"{config.name}.zip"
    findings, lines = deliver(
        zip_file,
        runs,
        config.team,
        reports={} if config.report is None else dict.fromkeys(config.tracks, config.report),
        templates=config.templates,
        edition=config.layout,
        force_random_weights=config.force_random_weights,
        quiet=context.quiet,
    )
    return {
        "zip": zip_file.name,
        "errors": sorted(findings.rules("error")),
        "warnings": sorted(findings.rules("warning")),
        "show": "\n".join(lines),
    }


PACKAGE_STAGE = Stage("package", "package", PackageConfig, run_package)
