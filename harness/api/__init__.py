"""The Python API: experiments from Python and from files, their results, and comparisons."""
