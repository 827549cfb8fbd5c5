"""Settings, logging and helpers without coupon logic."""

import sys

# structlog imports rich, if it is installed, for terminals: a tenth of a start. logs.py does without.
if "structlog" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog  # noqa: F401

    del sys.modules["rich"]
