"""Generators of the golden files; run through make_goldens.py."""
