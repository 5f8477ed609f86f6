"""The numbers of a take while it is recorded: one record a frame, each with a checksum of its own.

A record is the frame's number, the features in the order of the dataset, and the CRC-32 of both, all little
endian and without gaps. So a log that was cut, or whose last pages never reached the disk, is read up to its
last whole record.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.errors import DatasetError
from robot.recording.features import Feature

_FRAME = "frame"
_CRC = "crc"


class RowLayout:
    """How the features of one frame lie in a record."""

    def __init__(self, features: Iterable[Feature]) -> None:
        self._features = tuple(features)
        values = [
            (f"value {k}", np.dtype(f.dtype).newbyteorder("<"), f.shape) for k, f in enumerate(self._features)
        ]
        self._dtype = np.dtype([(_FRAME, "<u4"), *values, (_CRC, "<u4")])

    @property
    def record_bytes(self) -> int:
        """Size of one record."""
        return self._dtype.itemsize

    def pack(self, frame: int, values: Mapping[str, NDArray[Any]]) -> bytes:
        """The record of a frame from its checked values by feature name."""
        record = np.zeros(1, self._dtype)
        record[_FRAME] = frame
        for k, feature in enumerate(self._features):
            record[f"value {k}"] = values[feature.name]
        record[_CRC] = zlib.crc32(record.tobytes()[:-4])
        return record.tobytes()

    def read(self, path: Path) -> tuple[dict[str, NDArray[Any]], int]:
        """All rows from the first to the last before a broken one.

        Returns:
            Feature name -> array of shape (rows, n), and the number of rows.

        Raises:
            OSError: the file cannot be read; one that is absent has no rows.
        """
        content = path.read_bytes() if path.exists() else b""
        size = self.record_bytes
        records = np.frombuffer(content, self._dtype, count=len(content) // size)
        whole = 0
        for record in records:
            start = whole * size
            if record[_FRAME] != whole or record[_CRC] != zlib.crc32(content[start : start + size - 4]):
                break
            whole += 1
        columns = {
            feature.name: records[f"value {k}"][:whole].astype(feature.dtype)
            for k, feature in enumerate(self._features)
        }
        return columns, whole


class RowLog:
    """Appends the rows of a take to a file."""

    def __init__(self, path: Path, layout: RowLayout) -> None:
        """Begin a new file; raises OSError where there is one or it cannot be written."""
        self._path = path
        self._layout = layout
        self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o644)
        self.rows = 0
        """Rows appended so far."""

    def append(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Append a row; one that does not fit on the disk leaves the file as it was.

        Raises:
            DatasetError: the disk is full or failed.
        """
        record = self._layout.pack(self.rows, values)
        try:
            rest = record
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            self._cut()
            raise DatasetError(f"{self._path} cannot be written: {error}") from error
        self.rows += 1

    def sync(self) -> None:
        """Wait until the rows are on the disk; raises OSError where the disk fails."""
        os.fdatasync(self._file)

    def close(self) -> None:
        """Let go of the file; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _cut(self) -> None:
        try:
            os.truncate(self._path, self.rows * self._layout.record_bytes)
        except OSError:
            return  # A part of a record at the end is passed over when the file is read.
