"""Ways of running a grid of trials, each a process of its own: `python -m benchmarks.ways.strong`.

Every way trains the same trials on the same examples, measures loss and accuracy of the training,
validation and test examples at each epoch, and leaves them in MLflow's SQLite store in the current
folder.
"""
