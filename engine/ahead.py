"""What a start-up waits for longest, begun in threads beside its other work. Torch-free until torch is there.

Making a CUDA context and importing torch's compiler take seconds each, and neither needs the other: the context is made
by the driver itself while torch is still imported, the compiler is imported while the model is initialised.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import threading
from collections.abc import Callable


def begin(work: Callable[[], None]) -> threading.Thread:
    """Do that in a thread of its own, which keeps no process from ending."""
    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    return thread


def context(device: str) -> None:
    """Make the primary context of the GPU that ``train.device`` names, if it names one and there is one."""
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cuda") or not (index or "0").isdigit():
        return
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    number, made = ctypes.c_int(), ctypes.c_void_p()
    ordinal = int(index or os.environ.get("LOCAL_RANK", "0"))
    if cuda.cuInit(0) == 0 and cuda.cuDeviceGet(ctypes.byref(number), ordinal) == 0:
        cuda.cuDevicePrimaryCtxRetain(ctypes.byref(made), number)  # the one that torch takes; it lives with the process


def compiler() -> None:
    """Import what ``torch.compile`` imports when it is first called. Whatever fails here fails there, and is said."""
    for name in ("torch._dynamo", "torch._inductor.compile_fx", "torch._inductor.codegen.triton"):
        try:
            importlib.import_module(name)
        except ImportError:
            return
