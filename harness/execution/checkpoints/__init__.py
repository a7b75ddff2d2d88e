"""Checkpoints on disk, and training that resumes from them."""
