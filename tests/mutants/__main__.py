"""`python -m tests.mutants`, which is `make mutants`."""

import sys

from tests.mutants.run import main

sys.exit(main())
