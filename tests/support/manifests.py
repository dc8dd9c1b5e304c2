"""Manifests of models that nobody has converted."""

from __future__ import annotations

from datetime import UTC, datetime

from libs.models.manifest import CheckResult, Manifest


def manifest(name: str, repo: str | None = None, revision: str | None = None) -> Manifest:
    """Return the manifest of a model of that name."""
    checked = CheckResult(
        tokens=480, positions=48, computed_in="float32", largest=0.0, root_mean_square=0.0, bound=0.01,
        bound_on="largest", same_first_choice=1.0,
    )  # fmt: skip
    return Manifest(
        name=name, repo=repo, folder=None, revision=revision, licence=None, licence_page=None, family="qwen2",
        parameters=1, window=2048, compute_type="int8", size=1, files={}, source_files={}, check=checked,
        made_at=datetime.now(UTC), made_with={}, converter="perpetua",
    )  # fmt: skip
