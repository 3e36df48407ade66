"""The report of an audit: one HTML page, its numbers, and its text for a terminal."""
