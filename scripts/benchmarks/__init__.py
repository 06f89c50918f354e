"""What scripts/bench measures: codec.py and mount.py each make one report; the other modules are their parts."""
