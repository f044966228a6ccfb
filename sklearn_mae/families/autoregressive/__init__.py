"""Tables whose columns depend on each other given z: an autoregressive decoder."""

from sklearn_mae.families.autoregressive.table import AutoregressiveTable

__all__ = ["AutoregressiveTable"]
