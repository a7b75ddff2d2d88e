"""What `harness.predict` does: a trained model predicts data."""
