"""Settings that must stand before scipy and scikit-learn are imported."""

import os

# scikit-learn's array API check is skipped without it
os.environ.setdefault("SCIPY_ARRAY_API", "1")
