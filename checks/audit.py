"""`python -m checks.audit`: reports known vulnerabilities of the locked packages.

Returns 1 where there are any. Where the advisory service does not answer, or knows none of the
packages, it says that nothing was audited, and returns 0.
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
"""How long a machine without a network waits."""


def main(argv: Sequence[str] | None = None) -> int:
    """Audits the lock file, or the file that is given."""
    arguments = sys.argv[1:] if argv is None else argv
    command = [sys.executable, "-m", "pip_audit", "--requirement", *(arguments or [str(LOCK)])]
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
    """Prints what pip-audit found. Returns the exit code."""
    audited = [package for package in packages if "skip_reason" not in package]
    if not audited:
        return _skipped(f"the advisory service knows none of the {len(packages)} packages")
    vulnerable = [package for package in audited if package.get("vulns")]
    for package in vulnerable:
        for vulnerability in package["vulns"]:
            fixed = ", ".join(vulnerability.get("fix_versions", ())) or "no release"
            print(
                f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}"
            )
    count = f"{len(audited)} of {len(packages)} packages"
    print(f"audit: {count}, {len(vulnerable)} with known vulnerabilities")
    return 1 if vulnerable else 0


def _skipped(why: str) -> int:
    print(f"audit skipped: {why[:200]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
