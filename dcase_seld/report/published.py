"""What others reached on the development test set of DCASE 2025 Task 3, for comparison."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One published row.

    Attributes:
        system: who, and where it is described.
        track: "a" or "b".
        figures: names as in `metrics.official.FIGURES`; fractions are 0–1.
    """

    system: str
    track: str
    figures: dict[str, float]


PUBLISHED = (
    Published(
        "official baseline, audio",
        "a",
        {"f_score": 0.2278, "doa_error_deg": 24.5, "relative_distance_error": 0.41},
    ),
    Published(
        "official baseline, audio-visual",
        "b",
        {
            "f_score": 0.2677,
            "f_score_onscreen": 0.200,
            "doa_error_deg": 23.8,
            "relative_distance_error": 0.40,
            "onscreen_accuracy": 0.80,
        },
    ),
    Published("Berghi & Jackson, audio (arXiv 2507.04845)", "a", {"f_score": 0.457, "doa_error_deg": 15.0}),
    Published(
        "Berghi & Jackson, audio-visual (arXiv 2507.04845)",
        "b",
        {"f_score": 0.444, "doa_error_deg": 15.6, "onscreen_accuracy": 0.805},
    ),
    Published(
        "Yeow, NTU, audio (arXiv 2507.00874)",
        "a",
        {"f_score": 0.453, "doa_error_deg": 13.2, "relative_distance_error": 0.262},
    ),
)
"""Source: the DCASE 2025 Challenge Task 3 description and the named papers."""
