"""Names under which the processes of one running service find each other.

A runtime folder (mode 0700) holds the sockets and ``runtime.json``; shared memory segments carry the
folder's random token in their names. Every child process gets the folder's path as its only argument.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Runtime:
    """Paths and names of one running service."""

    folder: Path

    @classmethod
    def create(cls, parent: Path) -> Runtime:
        """Make a new runtime folder below ``parent``."""
        folder = parent / f"so101-{secrets.token_hex(4)}"
        folder.mkdir(mode=0o700, parents=True)
        return cls(folder)

    @property
    def token(self) -> str:
        """Random part of the folder's name, shared by all segment names."""
        return self.folder.name

    @property
    def description(self) -> Path:
        """JSON that the supervisor wrote for its children: robot, policy, twin."""
        return self.folder / "runtime.json"

    @property
    def controller_socket(self) -> Path:
        """Datagram socket on which the controller takes commands."""
        return self.folder / "controller.sock"

    @property
    def chunk_socket(self) -> Path:
        """Datagram socket on which the controller's policy source takes chunks."""
        return self.folder / "chunks.sock"

    @property
    def teleop_socket(self) -> Path:
        """Datagram socket on which the controller's teleop source takes intents."""
        return self.folder / "teleop.sock"

    @property
    def worker_socket(self) -> Path:
        """Datagram socket on which the policy worker takes commands."""
        return self.folder / "worker.sock"

    @property
    def telemetry_name(self) -> str:
        """Shared memory ring of telemetry records, written by the controller each tick."""
        return f"{self.token}-telemetry"

    @property
    def status_name(self) -> str:
        """Shared memory text: the controller's mode, run and faults as JSON, written on change."""
        return f"{self.token}-status"

    @property
    def worker_status_name(self) -> str:
        """Shared memory text: the policy worker's state as JSON."""
        return f"{self.token}-worker"

    @property
    def supervisor_socket(self) -> Path:
        """Datagram socket on which the supervisor takes commands (clearing its faults)."""
        return self.folder / "supervisor.sock"

    @property
    def recorder_socket(self) -> Path:
        """Datagram socket on which the recorder takes commands."""
        return self.folder / "recorder.sock"

    @property
    def recorder_status_name(self) -> str:
        """Shared memory text: the recording session's state as JSON."""
        return f"{self.token}-recorder"

    @property
    def service_status_name(self) -> str:
        """Shared memory text: the supervisor's processes, events and faults as JSON."""
        return f"{self.token}-service"

    @property
    def pickup_journal(self) -> Path:
        """JSON lines: every pickup of this service as it began and as it ended."""
        return self.folder / "pickups.jsonl"

    @property
    def cameras_status_name(self) -> str:
        """Shared memory text: the camera process's state of each camera as JSON."""
        return f"{self.token}-cameras"

    def frame_name(self, camera: str) -> str:
        """Shared memory ring of one camera's frames."""
        return f"{self.token}-frames-{camera}"
