"""A file system of a test's own that can be full, read-only or gone; without root, what comes nearest."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOMY = 400 << 20


def _root(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@dataclass
class Disk:
    """``limit``: where nothing could be mounted, the bytes that a file may have instead; pass it to each program."""

    path: Path
    limit: int | None
    mounted: bool

    def grow(self) -> None:
        """Make room."""
        if self.mounted:
            assert _root("mount", "-o", f"remount,size={ROOMY}", str(self.path))
        self.limit = None

    def read_only(self, on: bool = True) -> None:
        """Refuse writing, or allow it again."""
        if self.mounted:
            assert _root("mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.path))
        else:
            for folder in [self.path, *(p for p in self.path.rglob("*") if p.is_dir())]:
                folder.chmod(0o500 if on else 0o700)

    def vanish(self) -> None:
        """Be gone, while programs still hold files open in it."""
        if self.mounted:
            assert _root("umount", "-l", str(self.path))
            self.mounted = False
        else:
            self.path.rename(self.path.with_name(f"{self.path.name}-gone"))
            self.path.mkdir()

    @property
    def reason(self) -> str:
        """What a program says that finds it full."""
        return "No space left on device" if self.mounted else "File too large"


@contextlib.contextmanager
def disk(path: Path, size: int = ROOMY) -> Iterator[Disk]:
    """A small file system at a new folder."""
    path.mkdir(parents=True)
    mounted = _root("mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(path))
    made = Disk(path, None if mounted else size // 4, mounted)
    try:
        yield made
    finally:
        if made.mounted:
            made.read_only(False)
            _root("umount", "-l", str(path))


def parses(path: Path) -> bool:
    """Whether a JSON file is whole."""
    try:
        json.loads(path.read_text("utf-8"))
    except ValueError:
        return False
    return True
