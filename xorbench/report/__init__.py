"""Showing what was found: tables, text, pictures. An exporter is only data to text."""
