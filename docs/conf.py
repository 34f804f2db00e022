"""Sphinx configuration of the manual."""

project = "mailgate"
author = "the mailgate authors"
copyright = "2026, the mailgate authors"
extensions = ["myst_parser"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
exclude_patterns = ["_build", "changes"]
html_theme = "alabaster"
html_theme_options = {"description": "POP3 and SDPS over one shared store"}
nitpicky = False
