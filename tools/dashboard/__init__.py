"""A picture of the Grafana dashboard, drawn from what a real run of the module told when it was scraped."""

from dashboard._picture import Panel, drawing, panels_of
from dashboard._queries import Query, Scrape, Series, UnknownQueryError, evaluate, parse, read_scrape

__all__ = [
    "Panel",
    "Query",
    "Scrape",
    "Series",
    "UnknownQueryError",
    "drawing",
    "evaluate",
    "panels_of",
    "parse",
    "read_scrape",
]
