"""Runs nanoGPT's published ``train.py`` (karpathy/nanoGPT), given its folder, as it would run from a command line.

``python nanogpt.py FOLDER SEED FAULT --option=value …``. Its text is changed in so far as is said here: the seed, no
checkpoint is written, and the fault. Faults: ``identity``: a token's target is itself; ``offset-N``: the N-th behind
it; ``dead-N``: after step N all weights are zero and the optimiser has forgotten its moments.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_TARGET = "data[i+1:i+1+block_size]"
_STEP = "    scaler.update()\n"
_DEAD = """    if iter_num == {after}:
        [p.data.zero_() for p in model.parameters()]
        optimizer.state.clear()
"""


def changed(text: str, seed: str, fault: str) -> str:
    """The text of ``train.py`` with that seed and fault. Raises ValueError where a line to change is not there."""
    changes = [("torch.manual_seed(1337", f"torch.manual_seed({seed}"), ("torch.save(", "(lambda *a: None)(")]
    kind, _, amount = fault.partition("-")
    if kind == "identity":
        changes.append((_TARGET, "data[i:i+block_size]"))
    elif kind == "offset":
        changes.append((_TARGET, f"data[i+{amount}:i+{amount}+block_size]"))
        changes.append(("torch.randint(len(data) - block_size,", f"torch.randint(len(data) - block_size - {amount},"))
    elif kind == "dead":
        changes.append((_STEP, _STEP + _DEAD.format(after=int(amount))))
    elif fault:
        raise ValueError(f"no fault {fault!r}")
    for old, new in changes:
        if old not in text:
            raise ValueError(f"train.py has no {old!r}")
        text = text.replace(old, new)
    return text


if __name__ == "__main__":
    folder, seed, fault = Path(sys.argv[1]).absolute(), sys.argv[2], sys.argv[3]
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    sys.argv = ["train.py", *sys.argv[4:]]
    source = changed((folder / "train.py").read_text(), seed, fault)
    exec(compile(source, "train.py", "exec"), {"__name__": "__main__"})
