"""Sphinx settings: ``python -m sphinx -W -b html docs docs/_build`` (extra ``docs``)."""

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE.parent / "aipimage/version.py").read_text())
assert VERSION

project = "aipimage"
copyright = "the aipimage authors"
version = release = VERSION[1]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
nitpicky = False
html_theme = "furo"
html_title = f"aipimage {release}"

# Anchors for the sections that pages and docstrings cite.
myst_heading_anchors = 3
# Links out of docs/ (to the licence, to CONTRIBUTING.md) are files of the repository, not pages.
myst_url_schemes = ["http", "https", "mailto"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
