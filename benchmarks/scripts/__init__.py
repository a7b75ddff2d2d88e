"""Scripts that run a grid of trials, each in a process of its own.

Every script trains the same trials on the same examples. It measures loss and accuracy on the
training, validation and test examples after each epoch, and writes them to MLflow's SQLite store in
the current folder: `python -m benchmarks.scripts.expert`.
"""
