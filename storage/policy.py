"""What an image may be and which files it may be read through."""

import os
from dataclasses import dataclass

TIB = 1 << 40


@dataclass(frozen=True)
class Policy:
    """allow: directories whose files any image may name, at any depth below them.

    max_virtual_size: bytes, of each link. max_depth: links of a chain.
    """

    allow: tuple[str, ...] = ()
    max_virtual_size: int = 64 * TIB
    max_depth: int = 32

    def permits(self, path: str, folder: str | None) -> bool:
        """Whether an image in `folder` may name the file at the real path `path`.

        Yes when it lies in that folder itself (None: the image lies in no folder), or anywhere
        under an allowed one. Blocks: allowed directories are resolved.
        """
        if folder is not None and os.path.dirname(path) == folder:
            return True
        return any(_is_below(path, os.path.realpath(directory)) for directory in self.allow)


def _is_below(path: str, directory: str) -> bool:
    """By whole components: /srv/images2/x is not below /srv/images."""
    return path != directory and os.path.commonpath((path, directory)) == directory
