"""The experiment file: reading, overriding and validating it, with all faults reported at once."""
