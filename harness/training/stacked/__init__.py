"""Training of several trials at once, as one stack."""
