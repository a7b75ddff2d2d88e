"""Keeps MLflow silent and at home: settings it reads when it is first imported."""

from __future__ import annotations

import logging
import os

SETTINGS = {
    # No usage statistics leave this machine.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def quiet() -> None:
    """Call before the first import of MLflow. What the user set in the environment stands."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(os.environ["MLFLOW_LOGGING_LEVEL"].upper())
    # It prints a traceback for each try at a locked database; the error itself reaches us, and is
    # told once.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
