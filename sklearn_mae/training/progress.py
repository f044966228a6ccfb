"""One live bar for the whole of ``fit``: training and what follows it."""

import numpy as np
from skorch.callbacks import Callback
from tqdm import tqdm

__all__ = ["ProgressBar"]

# stages of a fit, and the percentage at which each begins, on a usual table
STAGES = {"decoder": 0, "training": 0, "r_omega": 66, "landing": 75, "certificate": 85}
# few enough for a line of a notebook
SHOWN = {"elbo": "elbo", "information_lower": "I", "rate": "rate"}


class ProgressBar(Callback):
    """Live bar, a context: it is open until ``fit`` ends, not only the training.

    Parameters
    ----------
    disable : bool
        Whether to show nothing.
    """

    def __init__(self, disable=False):
        self.disable = disable

    def __enter__(self):
        self.bar_ = tqdm(
            total=100,
            desc="training",
            bar_format="{desc:<22} {percentage:3.0f}% |{bar:20}| {elapsed}{postfix}",
            disable=self.disable,
        )
        return self

    def on_epoch_end(self, net, **kwargs):
        """Show the epoch's figures, in nats."""
        if self.disable:
            return
        last, n = net.history[-1], len(net.history)
        figures = [
            f"{name} {last[figure]:.4g}"
            for figure, name in SHOWN.items()
            if np.isfinite(last[figure])
        ]
        self.bar_.set_description(f"epoch {n}/{net.max_epochs}", refresh=False)
        self.bar_.set_postfix_str(", ".join(figures), refresh=False)
        self._move_to(STAGES["r_omega"] * n / net.max_epochs)

    def stage(self, name: str) -> None:
        """Show which of the stages before or after the training begins.

        Parameters
        ----------
        name : {"decoder", "r_omega", "landing", "certificate"}
            The stage.
        """
        self.bar_.set_description(name, refresh=False)
        self._move_to(STAGES[name])
        self.bar_.refresh()

    def __exit__(self, kind, error, traceback):
        """Close the bar, full if the fit came to its end."""
        if kind is None:
            self.bar_.set_description("fitted", refresh=False)
            self._move_to(100)
        self.bar_.close()
        del self.bar_

    def _move_to(self, percentage):
        self.bar_.update(percentage - self.bar_.n)
