"""The extents that a virtual disk is made of, one module a kind: see ``model.ExtentReader``."""
