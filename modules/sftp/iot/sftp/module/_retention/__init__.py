"""Retention: local files that are too old, or too many for the disk, are deleted, once they are delivered."""
