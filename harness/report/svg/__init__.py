"""Figures drawn as inline SVG: small, printable, and readable without a script."""
