"""What decides how numbers are rounded, beside the trial itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

DECISIVE: Final = ("torch", "threads", "device_name")


def circumstances(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Those of training here. facts: as of `Started`."""
    import torch

    found = {"torch": torch.__version__, **metadata}
    return {name: str(found[name]) for name in DECISIVE}


def changes(before: Mapping[str, Any], now: Mapping[str, str]) -> dict[str, str]:
    """What `Started.facts` says of a resume under other circumstances; empty under the same."""
    changed = [
        f"{name}: {before.get(name)}, now {now[name]}"
        for name in DECISIVE
        if before.get(name) != now[name]
    ]
    return {"resumed_elsewhere": "; ".join(changed)} if changed else {}
