"""What the library says in its own terms, said in those of the command.

A message of the library that names an argument has it in parentheses, as it is written in Python.
"""

from __future__ import annotations

FLAGS = {
    "(device=)": "(--disk)",
    "(disk=)": "(--disk)",
    "(force=True)": "(--force)",
    "(format=)": "(--format)",
    "(format='ova')": "(--format ova)",
    "(overwrite=True)": "(--overwrite)",
    "(resume=False)": "(without --resume)",
    "(set_size=True)": "(--set-size)",
    "(size= or set_size=True)": "(--size or --set-size)",
    "(source_format='aiv' or 'raw')": "(--source-format aiv or raw)",
    "(source_format='ova')": "(--source-format ova)",
    "(source_format='raw')": "(--source-format raw)",
    "(source_format='vmdk')": "(--source-format vmdk)",
    "(volume=)": "(--volume)",
}
"""Arguments as messages of the library name them, and what the command calls them."""


def with_flags(text: str) -> str:
    """A message with the flags of the command in place of the arguments of the library."""
    for argument, flag in FLAGS.items():
        # The name of a file comes first: what it has in common with an argument stays.
        before, found, after = text.rpartition(argument)
        if found:
            text = f"{before}{flag}{after}"
    return text
