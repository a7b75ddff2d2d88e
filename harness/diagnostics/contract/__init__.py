"""What a component of each kind must do: the checks of `python -m harness check`, and of the tests.

A check is a function of a `Case`. It raises `Lacking` with what the component lacks, and returns
notes on what is allowed and yet worth knowing. The first line of its docstring is the rule.
"""
