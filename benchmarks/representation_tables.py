"""Tables and picture of ``bench_representations.py``."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from representation_figures import (
    CLASSIFIERS,
    LABELS,
    PLACE,
    chosen,
    compared,
    long,
)
from representation_models import MS, MS_OF_TWO, OURS, PYTHAE, TEXTS, WITHOUT_TRAINING

PEERS = [*WITHOUT_TRAINING, *PYTHAE, "TruncatedSVD"]
COLORS = {
    "PCA": "#0072b2",
    "FactorAnalysis": "#56b4e9",
    "KernelPCA": "#009e73",
    "UMAP": "#f0e442",
    "VAE": "#d55e00",
    "beta-VAE": "#cc79a7",
    "InfoVAE": "#e69f00",
    "WAE": "#7f7f7f",
    "IWAE": "#8c564b",
    "TruncatedSVD": "#0072b2",
}


def targets(data: str, n_components: int) -> tuple[str, ...]:
    """Return the values of M of a table."""
    if data == "sentences":
        return tuple(TEXTS["mae"])
    return MS_OF_TWO if n_components == 2 else MS


def whole(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the seeds whose fits over M are all there, M = none last."""
    kept = []
    for (data, d, _), part in table.groupby(["data", "n_components", "seed"]):
        if set(part["parameter"]) == set(targets(data, d)):
            order = part["parameter"].map(MS.index)
            kept.append(part.assign(order=order).sort_values("order", kind="stable"))
    return pd.concat(kept).drop(columns="order") if kept else table[:0]


def head(*columns: str) -> None:
    """Print the head of a Markdown table."""
    print(f"| {' | '.join(columns)} |")
    print(f"|{'---|' * len(columns)}")


def place(row) -> str:
    """Write what a row of a table is about."""
    return f"{row.data} | {row.n_components} | {row.classifier} | {row.labels}"


def report(rows: list[dict]) -> None:
    """Print all tables that the rows allow."""
    if not rows:
        return
    table = long(rows)
    means = table[table["codes"] == "mean"]
    every = table[table["method"] == "mae"]
    ours = whole(means[means["method"] == "mae"])
    isotropic = whole(means[means["method"] == "mae, isotropic"])
    peers = means[means["method"].isin(PEERS)]
    print("\n### Fits\n")
    fits(rows)
    if not len(ours):
        return
    print("\n### Accuracy over M, logistic regression, mean of seeds\n")
    fit = ["data", "n_components", "seed"]
    over_m(every.merge(ours[fit].drop_duplicates(), on=fit))
    print("\n### The M that validation chose, minus M = none\n")
    unconstrained(ours)
    print("\n### Every fixed M, minus M = none, mean of all tables and classifiers\n")
    fixed(ours)
    for name, tuned in {
        "M": ours,
        "M and likelihood": with_isotropic(ours, isotropic),
    }.items():
        print(f"\n## Validation chooses {name}, and each peer's parameters\n")
        print("\n### Logistic regression in short: ours, the chosen peer\n")
        short(tuned, peers)
        print("\n### Ours and the chosen peer\n")
        against(tuned, peers)
        print("\n### Ours and each peer: wins, ties, losses\n")
        each_peer(tuned, peers)
    print("\n## Variants\n")
    print("\n### Scaled minus plain mean codes, at each M\n")
    scaling(ours)
    print("\n### isotropic minus gaussian, at the same M\n")
    raw_scales(ours, isotropic)


def with_isotropic(ours: pd.DataFrame, isotropic: pd.DataFrame) -> pd.DataFrame:
    """Add the fits with one noise, of the same seeds where all M are there."""
    fit = ["data", "n_components", "seed"]
    other = isotropic.merge(ours[fit].drop_duplicates(), on=fit)
    other = other.assign(parameter="isotropic " + other["parameter"])
    return pd.concat([ours, other], ignore_index=True)


def fits(rows: list[dict]) -> None:
    """Count fits, CPU seconds and warnings of M for each table and method."""
    table = pd.DataFrame(rows).drop_duplicates(
        ["data", "seed", "n_components", "method", "parameter"]
    )
    table["seconds"] = table["seconds"].astype(float)
    head("data", "components", "method", "fits", "CPU s each", "M missed, `fit` said")
    for (data, d, method), part in table.groupby(
        ["data", "n_components", "method"], sort=False
    ):
        missed = ""
        if method in OURS:
            # the same method at the same M, over seeds
            by_m = part[part["missed"] == "1"].groupby("parameter", sort=False).size()
            missed = ", ".join(f"{n} at {M}" for M, n in by_m.items())
        seconds = part["seconds"].mean()
        print(f"| {data} | {d} | {method} | {len(part)} | {seconds:.1f} | {missed} |")


def best_scaling(table: pd.DataFrame) -> pd.DataFrame:
    """Let validation choose the scaling, all else fixed."""
    keys = [*PLACE, "seed", "method", "parameter", "codes"]
    return table.loc[table.groupby(keys, sort=False)["validation"].idxmax()]


def over_m(every: pd.DataFrame) -> None:
    """Print accuracies of mean codes and of draws over M."""
    table = best_scaling(every[every["classifier"] == "logistic"])
    head("data", "components", "labels", "codes", *MS)
    for key, part in table.groupby(
        ["data", "n_components", "labels", "codes"], sort=False
    ):
        by_m = part.groupby("parameter")["test"].mean()
        cells = [f"{by_m[M]:.3f}" if M in by_m else "" for M in MS]
        print(f"| {' | '.join(map(str, key))} | {' | '.join(cells)} |")


def unconstrained(ours: pd.DataFrame) -> None:
    """Print what the choice of M gains, with its plain paired standard error."""
    table = compared(ours, ours[ours["parameter"] == "none"])
    if not len(table):
        return
    table["worse"] = table["difference"] < -table["paired_se"]
    head("data", "components", "classifier", "labels", "chosen", "none", "gain", "M")
    for row in table.itertuples():
        print(
            f"| {place(row)} | {row.ours:.3f} | {row.other:.3f} | "
            f"{row.difference:+.3f} +- {row.paired_se:.3f}"
            f"{' (worse)' if row.worse else ''} | {row.chosen} |"
        )
    better = (table["difference"] > table["paired_se"]).sum()
    print(
        f"\nworse by more than a standard error: {table['worse'].sum()} of "
        f"{len(table)}; better by more than one: {better}"
    )


def fixed(ours: pd.DataFrame) -> None:
    """Print how each fixed M does, for each number of labels."""
    keys = [*PLACE, "seed"]
    table = best_scaling(ours)
    none = table[table["parameter"] == "none"][[*keys, "test"]]
    table = table.merge(none, on=keys, suffixes=("", "_none"))
    table["gain"] = table["test"] - table["test_none"]
    head("labels", *MS)
    for labels in LABELS:
        by_m = table[table["labels"] == labels].groupby("parameter")["gain"].mean()
        cells = [f"{by_m[M]:+.3f}" if M in by_m else "" for M in MS]
        print(f"| {labels} | {' | '.join(cells)} |")


def outcome(row) -> str:
    """Say who is better after Holm's correction."""
    if row.p_holm >= 0.05:
        return "tie"
    return "win" if row.difference > 0 else "loss"


def tally(table: pd.DataFrame) -> str:
    """Count outcomes, and signs beside them."""
    outcomes = [outcome(row) for row in table.itertuples()]
    counts = "/".join(str(outcomes.count(name)) for name in ("win", "tie", "loss"))
    above = (table["difference"] > 0).sum()
    below = (table["difference"] < 0).sum()
    return f"{counts} | {above} above, {below} below"


def short(ours: pd.DataFrame, peers: pd.DataFrame) -> None:
    """Print a row for each table and size, for readers in a hurry."""
    table = compared(ours, peers)
    if not len(table):
        return
    head("data", "components", *(f"labels: {labels}" for labels in LABELS))
    table = table[table["classifier"] == "logistic"]
    for (data, d), part in table.groupby(["data", "n_components"], sort=False):
        cells = [
            f"{row.ours:.3f}, {row.other:.3f} ({row.chosen_other}) {outcome(row)}"
            for row in part.itertuples()
        ]
        print(f"| {data} | {d} | {' | '.join(cells)} |")


def against(ours: pd.DataFrame, peers: pd.DataFrame) -> None:
    """Print every comparison with the peer that validation chose."""
    table = compared(ours, peers)
    if not len(table):
        return
    head(
        *"data components classifier labels seeds ours peer difference p Holm".split(),
        "M",
        "peers chosen",
    )
    for row in table.itertuples():
        print(
            f"| {place(row)} | {row.seeds} | {row.ours:.3f} | {row.other:.3f} | "
            f"{row.difference:+.3f} +- {row.se:.3f} | {row.p:.3f} | {row.p_holm:.3f} "
            f"{outcome(row)} | {row.chosen} | {row.chosen_other} |"
        )
    print("\nwins/ties/losses after Holm's correction, and signs of the means:")
    for (data, d), part in table.groupby(["data", "n_components"], sort=False):
        print(f"{data}, {d} components | {tally(part)}")
    print(f"all | {tally(table)}")


def each_peer(ours: pd.DataFrame, peers: pd.DataFrame) -> None:
    """Print outcomes against each peer alone."""
    tables = [
        compared(ours, part).assign(peer=peer)
        for peer, part in peers.groupby("method", sort=False)
    ]
    whole_table = pd.concat(tables, ignore_index=True)
    head("peer", "comparisons", "wins/ties/losses", "means", "mean difference")
    for peer, part in whole_table.groupby("peer", sort=False):
        mean = part["difference"].mean()
        print(f"| {peer} | {len(part)} | {tally(part)} | {mean:+.3f} |")


def scaling(ours: pd.DataFrame) -> None:
    """Print the mean gain of scaled codes for each table."""
    table = ours[ours["classifier"] != "boosting"]
    keys = [*PLACE, "seed", "parameter"]
    both = table.pivot(index=keys, columns="scaling", values="test").reset_index()
    both["gain"] = both["scaled"] - both["plain"]
    head("data", "components", "classifier", *MS)
    for key, part in both.groupby(["data", "n_components", "classifier"], sort=False):
        by_m = part.groupby("parameter")["gain"].mean()
        cells = [f"{by_m[M]:+.3f}" if M in by_m else "" for M in MS]
        print(f"| {' | '.join(map(str, key))} | {' | '.join(cells)} |")


def raw_scales(ours: pd.DataFrame, isotropic: pd.DataFrame) -> None:
    """Print paired differences between one noise and one for each column."""
    table = best_scaling(isotropic)
    keys = [*PLACE, "seed", "parameter"]
    pairs = table.merge(best_scaling(ours), on=keys)
    pairs["gain"] = pairs["test_x"] - pairs["test_y"]
    head("data", "components", "classifier", "labels", *MS)
    for place, part in pairs.groupby(PLACE, sort=False):
        by_m = part.groupby("parameter")["gain"]
        mean, se = by_m.mean(), by_m.std() / by_m.size() ** 0.5
        cells = [f"{mean[M]:+.3f} +- {se[M]:.3f}" if M in mean else "" for M in MS]
        print(f"| {' | '.join(map(str, place))} | {' | '.join(cells)} |")


def plot(rows: list[dict], path: str, classifier: str = "logistic") -> None:
    """Draw accuracy over M for each table and number of labels, peers as lines."""
    table = long(rows)
    table = table[table["classifier"] == classifier]
    panels = table[table["method"] == "mae"][["data", "n_components"]]
    panels = list(panels.drop_duplicates().itertuples(index=False))
    labels = CLASSIFIERS[classifier][::-1]
    figure, axes = plt.subplots(
        len(panels),
        len(labels),
        figsize=(3 * len(labels), 2.2 * len(panels)),
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for row, (data, d) in zip(axes, panels, strict=True):
        for axis, several in zip(row, labels, strict=True):
            here = table[
                (table["data"] == data)
                & (table["n_components"] == d)
                & (table["labels"] == several)
            ]
            draw_panel(axis, here)
            name = "all labels" if several == "all" else f"{several} labels a class"
            axis.set_title(f"{data}, {d} components, {name}", fontsize=8)
    for axis in axes[-1]:
        axis.set_xticks(range(len(MS)), MS)
        axis.set_xlabel("M in nats")
    for row in axes:
        row[0].set_ylabel("accuracy")
    handles = {}
    for axis in axes.flat:
        found = zip(*reversed(axis.get_legend_handles_labels()), strict=True)
        handles |= dict(found)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_panel(axis, here: pd.DataFrame) -> None:
    """Draw one table with one number of labels."""
    for peer in PEERS:
        tuned = here[(here["method"] == peer) & (here["codes"] == "mean")]
        if len(tuned):
            level = chosen(tuned)["test"].mean()
            axis.axhline(level, color=COLORS[peer], linewidth=1, label=peer)
    lines = {
        "ours, mean codes": ("mae", "mean", "o-", "black"),
        "ours, draws": ("mae", "draw", "s:", "black"),
        "ours, isotropic, mean codes": ("mae, isotropic", "mean", "o-", "#a00000"),
    }
    for label, (method, codes, style, color) in lines.items():
        which = (here["method"] == method) & (here["codes"] == codes)
        by_m = best_scaling(here[which]).groupby("parameter")["test"]
        there = [M for M in MS if M in by_m.groups]
        mean = by_m.mean()[there]
        se = (by_m.std() / np.sqrt(by_m.size()))[there].fillna(0)
        at = [MS.index(M) for M in there]
        if there:
            axis.errorbar(at, mean, se, fmt=style, color=color, ms=3, label=label)
    axis.tick_params(labelsize=7)
