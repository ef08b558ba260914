"""Tests of aipimage.format: docs/format.md, sections 1 to 12."""
