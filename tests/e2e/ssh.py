"""A real OpenSSH server on loopback: a high port, throwaway keys, its own configuration; nothing of the system's."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

_PRIVSEP = Path("/run/sshd")  # what a server started by root wants to be there, empty


class SshServer:
    """Lets this user in with a key that ``folder`` holds. Leave it as a context: server and sessions end."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/sbin")
        assert program, "needs sshd: apt-get install openssh-server"
        self.folder = folder
        folder.mkdir(mode=0o700)
        for name in ("host", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        shutil.copy(folder / "key.pub", folder / "authorized")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        settings = {
            "Port": self.port, "ListenAddress": "127.0.0.1", "HostKey": folder / "host", "PidFile": "none",
            "AuthorizedKeysFile": folder / "authorized", "StrictModes": "no", "UsePAM": "no",
            "PasswordAuthentication": "no", "KbdInteractiveAuthentication": "no", "PrintMotd": "no",
            "PermitRootLogin": "prohibit-password",
        }  # fmt: skip
        (folder / "config").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        self._made = os.getuid() == 0 and not _PRIVSEP.exists()
        if self._made:
            _PRIVSEP.mkdir(mode=0o755)
        self._process = subprocess.Popen(
            [program, "-D", "-e", "-f", folder / "config"], stderr=(folder / "log").open("wb")
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
                break
            except OSError:
                said = (folder / "log").read_text(errors="replace")
                assert self._process.poll() is None and time.monotonic() < deadline, said
                time.sleep(0.1)

    def command(self, remote: str, *, cwd: Path, env: Mapping[str, str]) -> str:
        """A shell line that runs ``remote`` over the line, in a terminal of its own there."""
        public = (self.folder / "host.pub").read_text().split()
        (self.folder / "known").write_text(f"[127.0.0.1]:{self.port} {public[0]} {public[1]}\n")
        settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in env.items() if key not in ("TERM", "HOME"))
        line = f"cd {shlex.quote(str(cwd))} && exec env {settings} {remote}"
        return shlex.join([
            "ssh", "-tt", "-F", "none", "-p", str(self.port), "-i", str(self.folder / "key"),
            "-o", f"UserKnownHostsFile={self.folder / 'known'}", "-o", "IdentitiesOnly=yes",
            f"{getpass.getuser()}@127.0.0.1", line,
        ])  # fmt: skip

    def drop(self) -> None:
        """Every line breaks: the processes that serve sessions are killed, the server goes on."""
        for pid in descendants(self._process.pid):
            if _name(pid).startswith("sshd"):
                os.kill(pid, signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()
        self._process.terminate()
        self._process.wait()
        if self._made:
            _PRIVSEP.rmdir()


def descendants(pid: int) -> list[int]:
    """Children of a process, and theirs."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [found for child in children for found in (child, *descendants(child))]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""
