"""Runs the command."""

import sys

from harness.predict import main

if __name__ == "__main__":
    sys.exit(main())
