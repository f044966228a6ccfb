"""What a parameter that is a number or a name may be. No torch."""

from numbers import Integral, Real

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

__all__ = ["Number", "OneOf", "plain_number"]


def plain_number(value):
    """Return Python's own int, float or bool for a number of numpy's or another's.

    What is no number is returned as it is. An int too large for a float stays.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


class Number(Interval):
    """Interval of numbers of any type that is no boolean, for parameter constraints."""

    def is_satisfied_by(self, val):
        """Whether a parameter is such a number, and within the interval."""
        number = plain_number(val)
        if isinstance(number, bool) or not isinstance(number, self.type):
            return False
        try:
            return number in self and np.isfinite(float(number))
        except OverflowError:  # an int beyond all floats
            return False


class OneOf(StrOptions):
    """One of some names, which messages list in the order given."""

    def __init__(self, *names: str):
        super().__init__(set(names))
        self.options = list(names)
