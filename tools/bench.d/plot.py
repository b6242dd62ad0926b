"""The plot of events a second: a panel for each sink, a bar for each program, the same bytes for the same figures."""

import statistics

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402  # after the backend is chosen

# Told apart by people who see no red or no green, and on paper; the ground is light, whatever the page's is.
COLOURS = {"new": "#1f6f9f", "again": "#e39b3b"}
GROUND, INK = "#ffffff", "#24292f"
PANELS = ("Postgres", "Elasticsearch")
STYLE = {
    # Text stays text, and nothing in the file depends on when it was drawn.
    "svg.fonttype": "none", "svg.hashsalt": "sluice", "font.family": "sans-serif", "font.size": 9,
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": INK,
}


def rates_of(groups, sink):
    """By program, in the order of the table: the rates of each kind."""
    found = {}
    for (program, at, kind), runs in groups:
        if at == sink:
            found.setdefault(program, {})[kind] = [run.rate for run in runs]
    return found


def alt_text(groups):
    parts = []
    for sink in PANELS:
        medians = [f"{program} {' and '.join(f'{statistics.median(rates):,.0f} {kind}' for kind, rates in kinds.items())}"
                   for program, kinds in rates_of(groups, sink).items()]
        if medians:
            parts.append(f"into {sink}: {'; '.join(medians)}")
    return "Bars of events a second " + ". And ".join(parts)


def draw(groups, path):
    panels = [(sink, rates) for sink in PANELS if (rates := rates_of(groups, sink))]
    with pyplot.rc_context(STYLE):
        tallest = max(len(rates) for _, rates in panels)
        figure, axes = pyplot.subplots(1, len(panels), figsize=(5 * len(panels), 1.4 + 0.5 * tallest), squeeze=False,
                                       facecolor=GROUND, layout="constrained")
        for axis, (sink, rates) in zip(axes[0], panels):
            bars(axis, sink, rates)
        handles = {label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels())}
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=2, frameon=False,
                      title="events a second: median, and a line from the least to the most", title_fontsize=9)
        figure.savefig(path, format="svg", facecolor=GROUND, metadata={"Date": None, "Title": alt_text(groups)})
        pyplot.close(figure)


def bars(axis, sink, rates):
    axis.set_facecolor(GROUND)
    longest = max(max(values) for kinds in rates.values() for values in kinds.values())
    for kind, colour in COLOURS.items():
        shift = -0.2 if kind == "new" else 0.2
        for place, kinds in enumerate(rates.values()):
            if kind not in kinds:
                continue
            middle = statistics.median(kinds[kind])
            axis.barh(place + shift, middle, 0.36, color=colour, label=kind if place == labelled(rates, kind) else None)
            axis.hlines(place + shift, min(kinds[kind]), max(kinds[kind]), color=INK, linewidth=1)
            axis.text(max(kinds[kind]) + longest * 0.015, place + shift, f"{middle:,.0f}", va="center")
    axis.set_yticks(range(len(rates)), list(rates))
    axis.invert_yaxis()
    axis.set_xlim(0, longest * 1.16)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axis.set_title(f"into {sink}", fontsize=10, loc="left")
    axis.locator_params(axis="x", nbins=5)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def labelled(rates, kind):
    """The one bar of its kind that the legend names."""
    return next(place for place, kinds in enumerate(rates.values()) if kind in kinds)
