"""File systems and other contents of volumes: one module or package a family."""
