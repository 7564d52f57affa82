"""Instruments of the Large File Annex, described by YAML files."""
