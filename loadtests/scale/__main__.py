"""`python -m loadtests.scale`."""

import sys

from loadtests.scale.document import main

if __name__ == "__main__":
    sys.exit(main())
