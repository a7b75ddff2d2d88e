"""What `harness.doctor` examines."""
