"""python -m zipfs"""

import sys

from zipfs.cli import main

if __name__ == "__main__":
    sys.exit(main())
