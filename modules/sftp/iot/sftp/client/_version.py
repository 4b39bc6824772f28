"""The one place that holds the version: the build and the publishing guard read it from here."""

VERSION = "1.0.0"
__version__ = VERSION
