"""The GPUs this machine shows."""

from __future__ import annotations

import os
from pathlib import Path


def gpus() -> tuple[str, ...]:
    """ "cuda:0", "cuda:1", … or "mps"; empty where there is none. Quick where there is none: torch,
    which takes seconds to import, is asked only where a driver is installed."""
    drivers = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()
    if drivers:
        import torch

        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    if os.uname().sysname == "Darwin":
        import torch

        return ("mps",) if torch.backends.mps.is_available() else ()
    return ()
