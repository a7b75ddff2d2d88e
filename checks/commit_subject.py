"""Checks a commit's subject: `python -m checks.commit_subject FILE`, called by the commit hook."""

from __future__ import annotations

import sys
from pathlib import Path

LONGEST = 72


def main() -> int:
    """Returns 1 where the subject is empty or longer than 72 characters."""
    subject = Path(sys.argv[1]).read_text(encoding="utf-8").partition("\n")[0]
    if not 0 < len(subject) <= LONGEST:
        print(f"The subject has {len(subject)} characters; write at most {LONGEST}: {subject!r}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
