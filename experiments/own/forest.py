"""An estimator of scikit-learn, compared with the harness's own networks on the same splits."""

from sklearn.ensemble import RandomForestClassifier

import harness


@harness.training_loop
def forest(trial: harness.TrialContext, trees: int = 100, depth: int | None = None):
    """A random forest, fitted once.

    Args:
        trees: how many trees vote.
        depth: of the deepest tree; null for no limit.
    """
    estimator = RandomForestClassifier(trees, max_depth=depth, random_state=trial.seed)
    estimator.fit(*arrays(trial, "train"))
    splits = ("train", "val", "test")
    yield {f"{split}/accuracy": estimator.score(*arrays(trial, split)) for split in splits}


def arrays(trial, split):
    inputs, targets = trial.examples(split)
    return inputs.flatten(1).cpu().numpy(), targets.cpu().numpy()
