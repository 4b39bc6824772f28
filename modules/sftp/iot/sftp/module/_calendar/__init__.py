"""Calendars: days and times of day in a time zone, and which moments they mean."""
