"""``python -m tests.benchmarks [NAME …]``: what is measured, not asserted. Each module here has a ``main()``."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import tests.benchmarks as package

if __name__ == "__main__":
    known = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")]
    for name in sys.argv[1:] or known:
        if name not in known:
            sys.exit(f"no benchmark {name!r}; known: {', '.join(known)}")
        print(f"== {name}", flush=True)
        importlib.import_module(f"tests.benchmarks.{name}").main()
