"""The report of a study: one HTML page, its tables, and its text for a terminal."""
