"""``python -m aipimage.cli`` is the command ``aipimage``."""

from __future__ import annotations

import sys

from aipimage.cli import main

if __name__ == "__main__":
    sys.exit(main())
