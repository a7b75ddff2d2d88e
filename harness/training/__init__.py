"""Training: a generator of records over parts already built. No files, no MLflow, no callbacks."""
