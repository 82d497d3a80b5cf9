"""``gptbench doctor``: what would go wrong here, before it does."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import locale
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from data.packed import default_cache
from workbench.errors import UserError
from workbench.runs.store import runs_root
from workbench.text import plain

PACKAGES = ("gptbench", "torch", "textual", "rich", "pyarrow", "tiktoken", "duckdb", "plotext", "numpy", "safetensors")
LOW_DISK = 5 * 2**30
DRIVER = Path("/proc/driver/nvidia/version")
# Asked in a process of its own: importing torch takes seconds, and a broken driver may take the process with it.
_PROBE = """
import json, torch
built = bool(torch.version.cuda or torch.version.hip)
cuda = torch.cuda.is_available()
gpus = [{"name": torch.cuda.get_device_name(i), "memory": torch.cuda.get_device_properties(i).total_memory,
         "bf16": torch.cuda.is_bf16_supported()} for i in range(torch.cuda.device_count() if cuda else 0)]
mps = torch.backends.mps.is_available()
print(json.dumps({"built": built, "mps": mps, "gpus": gpus, "threads": torch.get_num_threads()}))
"""


def doctor(args: argparse.Namespace) -> int:
    """Check terminal, device, versions and disk; exit 1 if something would not work."""
    checks = [
        _python(),
        *_packages(),
        _device(),
        _encoding(),
        *_terminal(),
        _runs_folder(args.runs),
        _disk("packs", default_cache()),
    ]
    broken = [check for check in checks if check["level"] == "error"]
    if args.json:
        print(json.dumps({"ok": not broken, "checks": checks}, indent=1))
    else:
        marks = {"ok": "ok   ", "warning": "WARN ", "error": "ERROR"}
        for check in checks:
            print(f"{marks[check['level']]} {check['what']:<12} {plain(check['text'])}")
    return 1 if broken else 0


def _check(level: str, what: str, text: str) -> dict[str, str]:
    return {"level": level, "what": what, "text": text}


def _python() -> dict[str, str]:
    return _check(
        "ok",
        "python",
        f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    )


def _packages() -> list[dict[str, str]]:
    versions, missing = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    found = _check("ok", "packages", ", ".join(versions))
    return [found] + [_check("error", "packages", f"{name} is not installed: pip install {name}") for name in missing]


def _device() -> dict[str, str]:
    try:
        asked = subprocess.run(
            [sys.executable, "-P", "-c", _PROBE], capture_output=True, text=True, timeout=120, check=False
        )
        found = json.loads(asked.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return _check("error", "device", "torch cannot be started: python -c 'import torch' shows why")
    if found["gpus"]:
        return _check(
            "ok",
            "device",
            "; ".join(
                f"{g['name']}, {g['memory'] / 2**30:.0f} GiB" + ("" if g["bf16"] else ", no bf16: float32 is used")
                for g in found["gpus"]
            ),
        )
    if found["mps"]:
        return _check("ok", "device", "Apple GPU (mps)")
    if DRIVER.exists():
        why = (
            "torch cannot use it: python -c 'import torch; torch.cuda.init()' says why"
            if found["built"]
            else "this torch is built without CUDA: https://pytorch.org/get-started names the one with it"
        )
        return _check("warning", "device", f"there is an NVIDIA driver, but {why}")
    return _check(
        "warning", "device", f"no GPU: runs train on the CPU with {found['threads']} threads, for small models only"
    )


def _encoding() -> dict[str, str]:
    from data.encoding import load

    try:
        load("gpt2")
    except ValueError as error:
        return _check("error", "encoding", str(error))
    return _check("ok", "encoding", "gpt2 at hand, without network")


def _terminal() -> list[dict[str, str]]:
    if not sys.stdout.isatty():
        return [_check("warning", "terminal", "none here: the workbench needs one, the verbs do not")]
    size = shutil.get_terminal_size()
    checks = []
    if size.columns < 80 or size.lines < 24:
        checks.append(_check("warning", "terminal", f"{size.columns}×{size.lines} is less than 80×24"))
    if "utf" not in (sys.stdout.encoding or locale.getpreferredencoding()).lower():
        checks.append(_check("warning", "terminal", "no UTF-8: charts are drawn in braille; set LANG=C.UTF-8"))
    over = "over SSH, " if os.environ.get("SSH_CONNECTION") else ""
    colours = os.environ.get("COLORTERM") or os.environ.get("TERM", "unknown")
    checks.append(
        _check(
            "ok",
            "terminal",
            f"{over}{size.columns}×{size.lines}, {colours}" + (", NO_COLOR" if "NO_COLOR" in os.environ else ""),
        )
    )
    return checks


def _runs_folder(given: str | None) -> dict[str, str]:
    try:
        return _disk("runs folder", runs_root(given))
    except UserError as error:
        return _check("error", "runs folder", str(error))


def _disk(what: str, folder: Path) -> dict[str, str]:
    there = folder
    while not there.exists():
        there = there.parent
    if not (there.is_dir() and os.access(there, os.W_OK)):
        return _check("error", what, f"{folder} cannot be written: choose another (--runs, $GPTBENCH_CACHE)")
    free = shutil.disk_usage(there).free
    text = f"{folder}, {free / 2**30:.1f} GiB free"
    return _check(
        "ok" if free >= LOW_DISK else "warning",
        what,
        text + ("" if free >= LOW_DISK else ": checkpoints and packs may not fit"),
    )
