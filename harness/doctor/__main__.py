"""`python -m harness.doctor`."""

from __future__ import annotations

import sys

from harness.doctor import main

sys.exit(main())
