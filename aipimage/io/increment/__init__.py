"""Making incremental and differential images (docs/format.md, sections 7, 8.1 and 9.4)."""
