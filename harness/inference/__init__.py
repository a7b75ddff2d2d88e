"""What `harness.predict` does: a trained model on data."""
