"""What every worker needs, imported once before workers are forked from that process.

Nothing here may start a thread or touch a device: neither survives a fork.
"""

import sklearn.model_selection  # noqa: F401
import torch._dynamo  # noqa: F401 - by torch's optimizers, at their first step

import harness.training.build
import harness.training.loop  # noqa: F401
