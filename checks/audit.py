"""`python -m checks.audit`: known vulnerabilities of the locked packages, where one can ask.

Returns 1 where there are any. Where nobody answers, or who answers knows none of the packages, it
says that nothing was audited, and returns 0.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
SECONDS = 20
"""A machine without a network is not to wait longer."""


def main(argv: Sequence[str] | None = None) -> int:
    """Audit the lock file, or the one that is given."""
    given = sys.argv[1:] if argv is None else argv
    command = [sys.executable, "-m", "pip_audit", "--requirement", given[0] if given else str(LOCK)]
    command += ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "5"]
    try:
        ran = subprocess.run(
            [*command, "--format", "json"], capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return _skipped(f"no answer within {SECONDS} s")
    try:
        packages = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return _skipped((ran.stderr.strip().splitlines() or ["pip-audit says nothing"])[-1])
    return report(packages)


def report(packages: Sequence[dict[str, Any]]) -> int:
    """Tell what pip-audit found."""
    audited = [package for package in packages if "skip_reason" not in package]
    if not audited:
        return _skipped(f"the advisory service knows none of the {len(packages)} packages")
    bad = [package for package in audited if package.get("vulns")]
    for package in bad:
        for found in package["vulns"]:
            mended = ", ".join(found.get("fix_versions", ())) or "no release"
            print(f"{package['name']} {package['version']}: {found['id']}, mended in {mended}")
    told = (
        f"audit: {len(audited)} of {len(packages)} packages, {len(bad)} with known vulnerabilities"
    )
    print(told)
    return 1 if bad else 0


def _skipped(why: str) -> int:
    print(f"audit skipped: {why[:200]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
