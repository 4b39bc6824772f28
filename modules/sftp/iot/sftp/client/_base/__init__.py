"""Errors and what each implies, settings, deadlines, the memory limit: what every room uses."""
