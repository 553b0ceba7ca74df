"""What 0.1 wrote, read as what is written today: the one file that knows its names.

0.1 called every sound encoder `clap` and every picture encoder `vision`, whatever it was; networks had one place for
each (`cmc1`, `cmc2`), and stores and checkpoints stated classes and sample rate instead of a task.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SOUND, IMAGE = "clap", "vision"
"""0.1's kinds of tokens."""


def token_name(kind: str, encoder: Mapping[str, Any] | None = None) -> str:
    """Return the name of the encoder that made tokens of one of 0.1's kinds, as far as its configuration says."""
    default = {SOUND: "clap", IMAGE: "owlvit"}.get(kind, kind)
    return str((encoder or {}).get("kind", default)) if kind in (SOUND, IMAGE) else kind


def tokens_spec(data: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of today's TokenSpec for those of 0.1 (today's: as they are)."""
    if "kind" not in data:
        return data
    kind = data["kind"]
    gives = {SOUND: "sound", IMAGE: "image"}.get(kind, kind)
    rest = {key: value for key, value in data.items() if key not in ("kind", "mask")}
    return {**rest, "name": token_name(kind, data.get("encoder")), "gives": gives}


def task_of(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task of a store.json or model.json as plain data: stated, or 0.1's with its classes and rate."""
    if "task" in about:
        return dict(about["task"])
    config = about.get("config")
    frontend = config.get("frontend", {}) if isinstance(config, Mapping) else {}
    rate = about.get("sample_rate", frontend.get("sample_rate") if isinstance(frontend, Mapping) else None)
    return {"classes": about["taxonomy"], **({} if rate is None else {"sample_rate": rate})}


def facts_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a checkpoint's facts with tokens, and encoders with random weights, under their encoders' names."""
    out = dict(facts)
    tokens = out.get("tokens")
    if isinstance(tokens, Mapping) and any("kind" in spec for spec in tokens.values() if isinstance(spec, Mapping)):
        specs = [tokens_spec(dict(spec)) for spec in tokens.values()]
        names = {kind: spec["name"] for kind, spec in zip(tokens, specs, strict=True)}
        out["tokens"] = {spec["name"]: spec for spec in specs}
        out["random_weights"] = [names.get(kind, kind) for kind in out.get("random_weights", ())]
    return out


def model_config(config: Mapping[str, Any], names: Mapping[str, str] | None = None) -> tuple[dict[str, Any], list[str]]:
    """Return a network's configuration with today's keys, and notes of those that were renamed.

    `names`: kinds of tokens of 0.1 → names of the encoders that made them.
    """
    out = dict(config)
    notes = []
    if out.get("kind") == "cmc":
        out["kind"] = "conformer"
        notes.append("kind: cmc is conformer now")
    if "plain_without_clap" in out:
        out["plain_without_sound"] = out.pop("plain_without_clap")
        notes.append("plain_without_clap is plain_without_sound now")
    fusion = out.get("fusion", ())
    cross = out.get("cross_modal", {})
    cross = dict(cross) if isinstance(cross, Mapping) else cross
    crnn = out.get("kind") == "crnn"
    holder = out if crnn else cross
    old = [key for key in holder if isinstance(holder, dict) and key in _FUSION_KEYS]
    if isinstance(fusion, (list, tuple)) and (old or IMAGE in fusion or (names and SOUND in fusion)):
        said: dict[str, dict[str, Any]] = {SOUND: {}, IMAGE: {"width": 49} if crnn else {}}
        for key in old:
            kind, field = _FUSION_KEYS[key]
            value = holder.pop(key)
            if field is not None:
                said[kind][field] = value
        made = {}
        for kind in (SOUND, IMAGE):  # 0.1's order, whatever the list says
            if kind in fusion:
                name = (names or {}).get(kind, token_name(kind))
                made[name] = {"gives": "sound" if kind == SOUND else "image", **said[kind]}
        out["fusion"] = made
        notes += [f"{key} belongs to fusion now" for key in old]
        if fusion:
            notes.append(f"fusion: [{', '.join(map(str, fusion))}] is {', '.join(made)} now")
    if not crnn and "cross_modal" in out:
        out["cross_modal"] = cross
    return out, notes


_FUSION_KEYS: dict[str, tuple[str, str | None]] = {
    "clap_tokens": (SOUND, None),
    "clap_attention": (SOUND, "attention"),
    "clap_width": (SOUND, "width"),
    "vision_width": (IMAGE, "width"),
    "vision_attention": (IMAGE, "attention"),
    "vision_dropout": (IMAGE, "dropout"),
}
"""0.1's keys about tokens → whose they were, and what they are called in `fusion` (None: the tokens say it)."""


def model_json(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model.json says, with today's keys."""
    if "task" in about:
        return dict(about)
    facts = about.get("facts") or {}
    tokens = facts.get("tokens") if isinstance(facts, Mapping) else None
    specs = tokens.items() if isinstance(tokens, Mapping) else ()
    names = {kind: token_name(kind, spec.get("encoder")) for kind, spec in specs if isinstance(spec, Mapping)}
    config = about["config"]
    if isinstance(config, Mapping):
        config, _ = model_config(config, names or {SOUND: "clap", IMAGE: "owlvit"})
    return {**about, "config": config, "task": task_of(about), "facts": facts_of(facts)}


def weight_names(names: Iterator[str] | list[str], about: Mapping[str, Any]) -> dict[str, str]:
    """Return file's name of a weight → today's, for a checkpoint whose (translated) model.json is `about`."""
    fusion = about["config"].get("fusion", {}) if isinstance(about.get("config"), Mapping) else {}
    fusion = {k: v for k, v in fusion.items() if isinstance(v, Mapping)} if isinstance(fusion, Mapping) else {}
    place = {
        "cmc1": next((f"fusion.{name}" for name, one in fusion.items() if one.get("gives") == "sound"), "cmc1"),
        "cmc2": next((f"fusion.{name}" for name, one in fusion.items() if one.get("gives") == "image"), "cmc2"),
    }
    out = {}
    for name in names:
        head, _, rest = name.partition(".")
        out[name] = f"{place[head]}.{rest}" if head in place else name
    return out


def recipe_steps(steps: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a recipe's steps with today's keys, and one note per key that was renamed.

    `fusion: [clap]` of a train step means the sound encoder whose tokens the step reads.
    """
    out, notes = {}, []
    for name, step in steps.items():
        out[name] = step
        model = step.get("model") if isinstance(step, Mapping) else None
        if not isinstance(model, Mapping) or step.get("stage") != "train":
            continue
        names, called = {}, set()
        listed = step.get("tokens", ())
        for other in [listed] if isinstance(listed, str) else listed if isinstance(listed, (list, tuple)) else ():
            embed = steps.get(other) if isinstance(other, str) else None
            encoder = embed.get("model") if isinstance(embed, Mapping) else None
            if isinstance(embed, Mapping) and isinstance(encoder, Mapping) and encoder.get("kind"):
                kind = IMAGE if encoder["kind"] == "owlvit" else SOUND
                names[kind] = token_name(kind, encoder)
                called.add(embed.get("name") or names[kind])
        fusion = model.get("fusion", ())
        stale = isinstance(fusion, (list, tuple)) and SOUND in fusion and SOUND in names and SOUND not in called
        changed, found = model_config(model, names if stale else None)
        if found:
            out[name] = {**step, "model": changed}
            notes += [f"{name}.model: {note}" for note in found]
    return out, notes
