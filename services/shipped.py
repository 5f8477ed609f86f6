"""Where the files that come with the project lie: in a checkout, or in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from robot.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]


def policies_root() -> Path:
    """Folder of the shipped policy bundles."""
    checkout = ROOT / "policies"
    return checkout if checkout.is_dir() else ROOT / "services" / "share" / "policies"


def default_policy() -> Path:
    """The bundle that ``so101 serve`` runs.

    Raises:
        ConfigError: it is not there.
    """
    bundle = policies_root() / "pick_place"
    if (bundle / "manifest.json").is_file():
        return bundle
    raise ConfigError(
        "there is no shipped policy (policies/pick_place): give one with --policy, make one with "
        "`make policy`, or run without any: --policy none"
    )
