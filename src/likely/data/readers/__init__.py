"""Readers: one file for each format, from a path to a `Table`."""
