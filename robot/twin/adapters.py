"""The twin's USB adapters: a wire for each arm, and stable names that lead to it as udev's do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from robot.twin.wire import PtyWire

PortKind = Literal["unplug", "replug", "rename", "swap"]
"""What can happen to an adapter."""


class Adapters:
    """Wires by arm, and a link for each that follows what happens to them.

    Args:
        wires: one for each arm.
        folder: where the links lie; it is made.

    Attributes:
        by_id: arm -> its link, the twin's ``/dev/serial/by-id/...``.
    """

    def __init__(self, wires: Mapping[str, PtyWire], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.by_id = {arm: str(folder / f"usb-so101-twin-{arm}") for arm in wires}
        self._wires = dict(wires)
        self._behind = {arm: arm for arm in wires}
        self._link()

    def happen(self, kind: PortKind, arm: str) -> None:
        """Let it happen to the adapter of this arm.

        unplug: whoever has the port open gets I/O errors, device and link are gone, the servos keep their
        power. replug: there is a new device behind the same link. rename: both at once. swap: the links of
        the two arms are exchanged, as after somebody has swapped the cables.
        """
        match kind:
            case "unplug":
                self._wires[arm].unplug()
            case "replug" if self._wires[arm].plugged:
                pass
            case "replug" | "rename":
                self._wires[arm].plug_in()
            case "swap":
                arms, wires = list(self._behind), list(self._behind.values())
                self._behind = dict(zip(arms, reversed(wires), strict=True))
        self._link()

    def mend(self) -> None:
        """Both adapters are plugged in, each behind its own link."""
        self._behind = {arm: arm for arm in self._behind}
        for arm in self._wires:
            self.happen("replug", arm)

    def close(self) -> None:
        """Unplug all."""
        for arm in self._wires:
            self.happen("unplug", arm)

    def _link(self) -> None:
        for arm, behind in self._behind.items():
            link, wire = Path(self.by_id[arm]), self._wires[behind]
            if not wire.plugged:
                link.unlink(missing_ok=True)
            elif not link.is_symlink() or str(link.readlink()) != wire.path:
                new = link.with_name(f".{link.name}")
                new.symlink_to(wire.path)
                new.replace(link)  # at no moment is there no link
