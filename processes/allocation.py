"""Where an image holds data, in bounded memory: a crafted image may have millions of extents."""

import errno
import os

PARTS = 4096
CHUNK = 64 << 10
SMALLEST = 1 << 20  # bytes of a part; a finer picture of a small image tells nothing
EXTENTS = 1 << 20  # of a file, that are looked at: about a second


class Allocation:
    """Bytes of data in each of up to 4096 equal parts of an image of `size` bytes.

    total: bytes of data. in_chunks: bytes of all chunks of `chunk` bytes that hold some.
    """

    def __init__(self, size: int, chunk: int = CHUNK) -> None:
        self.size = size
        self.total = 0
        self.in_chunks = 0
        self._chunk = chunk
        self._last = -1  # chunk that was counted
        self._part = max(SMALLEST, -(-size // PARTS))
        self._data = [0] * (-(-size // self._part))
        self._sums: list[int] | None = None

    def add(self, start: int, length: int) -> None:
        """Count `length` bytes of data at `start`; what lies outside of the image is ignored.

        In the order of their places; else a chunk may be counted twice, and never too few are.
        """
        end = min(start + length, self.size)
        position = max(0, start)
        self._count_chunks(position, end)
        while position < end:
            index = position // self._part
            piece = min(end, (index + 1) * self._part) - position
            self._data[index] += piece
            self.total += piece
            position += piece
        self._sums = None

    def _count_chunks(self, start: int, end: int) -> None:
        if start >= end:
            return
        first, last = start // self._chunk, (end - 1) // self._chunk
        if first == self._last:
            first += 1
        self.in_chunks += (last + 1 - first) * self._chunk
        self._last = last

    def upto(self, position: float) -> int:
        """Bytes of data before `position`, exact at the borders of parts, linear between them."""
        whole, rest = divmod(min(max(position, 0), self.size), self._part)
        index = int(whole)
        if index >= len(self._data):
            return self.total
        length = min(self._part, self.size - index * self._part)  # the last one may be shorter
        return self._before(index) + int(self._data[index] * rest / length)

    def _before(self, index: int) -> int:
        if self._sums is None:
            self._sums = [0]
            for data in self._data:
                self._sums.append(self._sums[-1] + data)
        return self._sums[index]


def of_file(path: str, size: int, chunk: int = CHUNK) -> Allocation:
    """Where the first `size` bytes of a file hold data, as its file system tells. Blocks.

    What lies behind very many extents is taken for data. Raises OSError.
    Source: lseek(2), SEEK_DATA and SEEK_HOLE.
    """
    found = Allocation(size, chunk)
    end = 0
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(EXTENTS):
            start = os.lseek(fd, end, os.SEEK_DATA)
            if start >= size:
                return found
            end = os.lseek(fd, start, os.SEEK_HOLE)
            found.add(start, end - start)
    except OSError as e:
        if e.errno != errno.ENXIO:  # there is no more data
            raise
        return found
    finally:
        os.close(fd)
    found.add(end, size - end)
    return found
