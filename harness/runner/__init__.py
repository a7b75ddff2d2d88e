"""Puts a sweep or a search together."""
