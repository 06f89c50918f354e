"""Mount drivers: each serves a zipfs.tree.Tree through one binding of FUSE."""

NAMES = ("native", "mfusepy", "fusepy")
"""Best first."""
