"""One file: pipeline, resume, verification, atomic replacement, rate limit."""
