"""Shared memory between one writer and many readers, without locks on the readers' side.

A *segment* is a file below ``/dev/shm`` that both sides map. It is a ring of slots; each write goes into the
slot after the newest one, so a reader always has a complete older value and a writer never waits::

    header   magic, slots, slot_size, head, four words that belong to the user of the ring
    slot     sequence, length, crc32, -, payload          (slots times)

A slot is valid where its sequence is the expected one before and after the copy and the checksum over
sequence and payload agrees. The checksum is what makes this right on processors that reorder stores
(ARM): a reader may see the sequence before the payload, but then the sum does not match and it looks again.

A writer that was killed leaves at most one invalid slot. The next writer *adopts* the segment: it continues
after the highest valid sequence, and readers that are attached notice nothing. Plain files are used instead
of ``multiprocessing.shared_memory`` because its resource tracker unlinks segments that others still use.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import tempfile
import zlib
from pathlib import Path
from types import TracebackType

from robot.errors import SegmentError

Buffer = bytes | bytearray | memoryview
"""What can be written; a numpy array is passed as ``array.data``."""

_MAGIC = 0x31_4C53_3130_3153_4F  # "SO101SL1"
_WORD = 8
_HEADER_WORDS = 8
_HEAD = 3
_USER = 4
_USER_WORDS = 4
_SLOT_WORDS = 4
_ATTEMPTS = 1000
"""Torn reads in a row after which a reader gives up; one retry is the norm, two are rare."""


def segment_path(name: str) -> Path:
    """File behind a segment: below ``/dev/shm`` where there is one, else in the temporary folder."""
    shm = Path("/dev/shm")  # noqa: S108  memory, not a temporary file
    return (shm if shm.is_dir() else Path(tempfile.gettempdir())) / name


def _checksum(sequence: int, payload: Buffer) -> int:
    return zlib.crc32(payload, zlib.crc32(sequence.to_bytes(_WORD, "little")))


class SlotRing:
    """Ring of checked slots; :meth:`create` for the one writer, :meth:`attach` for readers."""

    def __init__(self, path: Path, descriptor: int, *, writer: bool) -> None:
        self._path = path
        self._descriptor = descriptor
        self._writer = writer
        size = os.fstat(descriptor).st_size
        access = mmap.ACCESS_WRITE if writer else mmap.ACCESS_READ
        self._map = mmap.mmap(descriptor, size, access=access)
        self._bytes = memoryview(self._map)
        self._words = self._bytes.cast("Q")
        self.slots = int(self._words[1])
        self.slot_size = int(self._words[2])
        self._stride = _SLOT_WORDS * _WORD + self.slot_size

    @classmethod
    def create(
        cls, name: str, *, slots: int, slot_size: int, user_words: tuple[int, ...] = (0, 0, 0, 0)
    ) -> SlotRing:
        """Open a ring for writing: adopt the segment of that name if it has this form, else replace it.

        Args:
            name: segment name.
            slots: number of slots, at least 2.
            slot_size: largest payload in bytes; rounded up to whole words.
            user_words: up to four unsigned numbers that readers can compare.

        Raises:
            SegmentError: another live process writes this segment, or there is no memory for it.
        """
        slot_size = -(-slot_size // _WORD) * _WORD
        words = (_MAGIC, slots, slot_size, 0, *user_words)
        path = segment_path(name)
        descriptor = _open(path, os.O_RDWR)
        if descriptor is not None:
            _lock(descriptor, path)
            if _matches(descriptor, words):
                ring = cls(path, descriptor, writer=True)
                ring._repair()
                return ring
            path.unlink(missing_ok=True)
            os.close(descriptor)
        return cls(path, _new_segment(path, words), writer=True)

    @classmethod
    def attach(cls, name: str) -> SlotRing:
        """Open a ring for reading.

        Raises:
            SegmentError: there is no such segment, or it is not one of ours.
        """
        path = segment_path(name)
        descriptor = _open(path, os.O_RDONLY)
        if descriptor is None:
            raise SegmentError(f"no shared memory segment {path}: start the process that writes it")
        header = os.pread(descriptor, _HEADER_WORDS * _WORD, 0)
        if int.from_bytes(header[:_WORD], "little") != _MAGIC:
            os.close(descriptor)
            raise SegmentError(f"{path} is not a segment of this version: delete it and restart its writer")
        return cls(path, descriptor, writer=False)

    @property
    def head(self) -> int:
        """Sequence of the newest complete write; 0 before the first."""
        return int(self._words[_HEAD])

    @property
    def user_words(self) -> tuple[int, ...]:
        """The four words given at creation."""
        return tuple(int(word) for word in self._words[_USER : _USER + _USER_WORDS])

    def write(self, *parts: Buffer) -> int:
        """Store one payload, given in parts that are laid end to end; returns its sequence.

        Raises:
            SegmentError: the payload is larger than a slot.
        """
        views = [memoryview(part).cast("B") for part in parts]
        length = sum(view.nbytes for view in views)
        if length > self.slot_size:
            raise SegmentError(f"{length} bytes do not fit a slot of {self.slot_size} in {self._path.name}")
        sequence = self.head + 1
        first, start = self._slot(sequence)
        self._words[first] = 0
        position = start
        for view in views:
            self._bytes[position : position + view.nbytes] = view
            position += view.nbytes
        self._words[first + 1] = length
        self._words[first + 2] = _checksum(sequence, self._bytes[start:position])
        self._words[first] = sequence
        self._words[_HEAD] = sequence
        return sequence

    def read(self, sequence: int) -> bytearray | None:
        """Copy of the payload with that sequence; ``None`` if it is torn, overwritten or not yet written."""
        first, start = self._slot(sequence)
        if self._words[first] != sequence:
            return None
        length, checksum = int(self._words[first + 1]), self._words[first + 2]
        if length > self.slot_size:
            return None
        payload = bytearray(self._bytes[start : start + length])
        intact = self._words[first] == sequence and _checksum(sequence, payload) == checksum
        return payload if intact else None

    def newest(self) -> tuple[int, bytearray] | None:
        """Sequence and payload of the newest write; ``None`` before the first.

        Raises:
            SegmentError: a thousand looks in a row met a half-written slot, so the memory is damaged.
        """
        for _ in range(_ATTEMPTS):
            sequence = self.head
            if sequence == 0:
                return None
            payload = self.read(sequence)
            if payload is not None:
                return sequence, payload
        raise SegmentError(f"shared memory {self._path} is damaged: restart the process that writes it")

    def replaced(self) -> bool:
        """Whether the segment was unlinked or replaced since it was opened, so that one should re-attach."""
        try:
            return self._path.stat().st_ino != os.fstat(self._descriptor).st_ino
        except FileNotFoundError:
            return True

    def close(self) -> None:
        """Unmap; the segment stays for others. Safe to call twice."""
        if self._descriptor < 0:
            return
        self._words.release()
        self._bytes.release()
        self._map.close()
        os.close(self._descriptor)
        self._descriptor = -1

    def unlink(self) -> None:
        """Remove the segment's name; whoever has it mapped keeps the memory."""
        self._path.unlink(missing_ok=True)

    def _slot(self, sequence: int) -> tuple[int, int]:
        """Index of the slot's first header word, and of its first payload byte."""
        offset = _HEADER_WORDS * _WORD + sequence % self.slots * self._stride
        return offset // _WORD, offset + _SLOT_WORDS * _WORD

    def _repair(self) -> None:
        """Continue after the highest slot that is intact (the former writer may have died in any line)."""
        stored = (int(self._words[self._slot(index)[0]]) for index in range(self.slots))
        valid = [sequence for sequence in stored if sequence and self.read(sequence) is not None]
        self._words[_HEAD] = max(valid, default=0)


class SharedBlock:
    """One value of bytes: the newest that was written."""

    _SLOTS = 4  # a reader has the time of three writes for its copy

    def __init__(self, ring: SlotRing) -> None:
        self._ring = ring

    @classmethod
    def create(cls, name: str, size: int) -> SharedBlock:
        """Open for writing values of up to ``size`` bytes; adopts what a killed writer left. See SlotRing."""
        return cls(SlotRing.create(name, slots=cls._SLOTS, slot_size=size))

    @classmethod
    def attach(cls, name: str) -> SharedBlock:
        """Open for reading. Raises SegmentError where there is no such segment."""
        return cls(SlotRing.attach(name))

    @property
    def sequence(self) -> int:
        """Counts writes; a reader that knows it can tell whether there is anything new."""
        return self._ring.head

    def write(self, payload: Buffer) -> None:
        """Publish one value. Raises SegmentError if it is too large."""
        self._ring.write(payload)

    def read(self) -> bytes | None:
        """The newest value, whole; ``None`` before the first write."""
        newest = self._ring.newest()
        return None if newest is None else bytes(newest[1])

    def replaced(self) -> bool:
        """Whether the segment was unlinked or replaced, so that one should re-attach."""
        return self._ring.replaced()

    def close(self) -> None:
        """Unmap; the segment stays."""
        self._ring.close()

    def unlink(self) -> None:
        """Remove the segment's name."""
        self._ring.unlink()

    def __enter__(self) -> SharedBlock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(path: Path, flags: int) -> int | None:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SegmentError(f"shared memory {path} cannot be opened: {error.strerror}") from error


def _lock(descriptor: int, path: Path) -> None:
    """Become the writer; the kernel lets go of the lock however this process ends."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise SegmentError(f"{path} already has a writer: stop the other process first") from error


def _matches(descriptor: int, words: tuple[int, ...]) -> bool:
    """Whether an existing segment has the wanted form (all header words but the head)."""
    if os.fstat(descriptor).st_size != _total_size(words):
        return False
    header = os.pread(descriptor, _HEADER_WORDS * _WORD, 0)
    return all(
        int.from_bytes(header[i * _WORD : (i + 1) * _WORD], "little") == word
        for i, word in enumerate(words)
        if i != _HEAD
    )


def _total_size(words: tuple[int, ...]) -> int:
    _, slots, slot_size, *_ = words
    return _HEADER_WORDS * _WORD + slots * (_SLOT_WORDS * _WORD + slot_size)


def _new_segment(path: Path, words: tuple[int, ...]) -> int:
    """Make the file under another name first: whoever attaches finds it complete or not at all."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        # Reserved now: writing to a full /dev/shm later would be SIGBUS, not an error.
        os.posix_fallocate(descriptor, 0, _total_size(words))
        os.pwrite(descriptor, b"".join(word.to_bytes(_WORD, "little") for word in words), 0)
        _lock(descriptor, path)
        draft.rename(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        os.close(descriptor)
        raise SegmentError(
            f"no room for {_total_size(words)} bytes of shared memory at {path} ({error.strerror}); "
            "in a container give it more, for instance --shm-size 256m"
        ) from error
    return descriptor
