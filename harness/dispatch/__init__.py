"""Dispatch: moves tasks to where they train, and their records back."""
