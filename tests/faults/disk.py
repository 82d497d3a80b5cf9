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
    _over: bool = False

    def grow(self) -> None:
        """Make room."""
        if self.mounted:
            assert _root("mount", "-o", f"remount,size={ROOMY}", str(self.path))
        self.limit = None

    def read_only(self, on: bool = True) -> None:
        """Refuse writing, or allow it again. A file that a program holds open for writing goes on being written."""
        if not self.mounted:
            for folder in [self.path, *(p for p in self.path.rglob("*") if p.is_dir())]:
                folder.chmod(0o500 if on else 0o700)
        elif self._over:
            assert _root("umount", "-l", str(self.path))
            self._over = False
        elif not _root("mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.path)):  # busy: over it, read-only
            assert _root("mount", "--bind", str(self.path), str(self.path))
            assert _root("mount", "-o", "remount,bind,ro", str(self.path))
            self._over = True

    @property
    def _away(self) -> Path:
        return self.path.with_name(f"{self.path.name}-away")

    def vanish(self) -> None:
        """Be gone, while programs still hold files open in it."""
        if self.mounted:
            self._away.mkdir()
            assert _root("mount", "--bind", str(self.path), str(self._away))
            assert _root("umount", "-l", str(self.path))
        else:
            self.path.rename(self._away)
            self.path.mkdir()

    def back(self) -> None:
        """Be there again, with all that it held."""
        if self.mounted:
            assert _root("mount", "--bind", str(self._away), str(self.path))
            assert _root("umount", "-l", str(self._away))
            self._away.rmdir()
        else:
            self.path.rmdir()
            self._away.rename(self.path)

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
        if made._away.exists():
            made.back()
        made.read_only(False)
        if made.mounted:
            _root("umount", "-l", str(path))


def parses(path: Path) -> bool:
    """Whether a JSON file is whole."""
    try:
        json.loads(path.read_text("utf-8"))
    except ValueError:
        return False
    return True
