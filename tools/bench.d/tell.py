"""Tells what a run of tools/bench kept: tables in Markdown, and with --into the plot, both put where the documentation has them.

    tell.py runs.json [--into docs]
"""

import argparse
import os
import statistics
from itertools import groupby

from runs import Run, load

BEGIN, END = "<!-- from here tools/bench --into docs writes -->", "<!-- to here -->"
SERVERS = ("Kafka", "Postgres", "Elasticsearch")
SINKS = ("Postgres", "Elasticsearch", "both", "embedded store", "embedded index")
# What the floors that write both at once are made of.
BOTH_FLOORS = {"both": "floor: COPY and bulk × 2", "Postgres": "floor: COPY × 1", "Elasticsearch": "floor: bulk × 2"}
# Told under these names in the unit that suits them.
UNITS = {"ms": "{:,.0f} ms", "s": "{:,.1f} s", "%": "{:.2f} %", "MiB": "{:,.0f} MiB", "×": "{:.2f} ×"}


def cells(runs):
    """Runs by sink, kind and program, in the order of the table."""
    order = lambda run: (SINKS.index(run.sink), run.kind != "new", not run.program.startswith("floor"), run.program)
    return [(key, list(group)) for key, group in
            groupby(sorted(runs, key=order), key=lambda run: (run.program, run.sink, run.kind))]


def middle(runs, value):
    return statistics.median(value(run) for run in runs)


def range_of(timing):
    """The median, and the least and the most in brackets."""
    form, values = UNITS[timing["unit"]], timing["values"]
    told = form.format(statistics.median(values))
    if len(values) == 1:
        return told + " (once)"
    least, most = (form.format(value(values)) for value in (min, max))
    return f"{told} ({least.rsplit(' ', 1)[0]} – {most.rsplit(' ', 1)[0]})"


def warm(runs):
    """Of those that tell their batches, the ones after the first, as runs of their own."""
    for run in runs:
        batches = run.besides.get("batches", [])[1:]
        if batches:
            events, seconds = (sum(column) for column in zip(*batches))
            yield Run(f"{run.program}, warm", run.sink, run.kind, events, seconds, cpu=None, peak_mib=run.peak_mib,
                      server_cpu={}, server_mib={})


def table(about, runs):
    def micros(group, seconds_of):
        values = [seconds_of(run) for run in group]
        if None in values:
            return "–"
        return f"{statistics.median(seconds / run.events * 1e6 for seconds, run in zip(values, group)):.0f}"

    yield (f"{about['events']:,} events of {about['bytes']} bytes, rounds: {about['rounds']}, {about['cores']} cores that also ran "
           f"the servers: {about['servers']}. Medians, and in brackets the least and the most; memory is the most of all rounds.")
    yield ""
    yield "| program | sink | | events/s | µs CPU an event | " + " | ".join(f"µs of {name}" for name in SERVERS) + " | MiB |"
    yield "|---|---|---|--:|--:|" + "--:|" * len(SERVERS) + "--:|"
    for (program, sink, kind), group in cells(runs):
        rates = [run.rate for run in group]
        served = [micros(group, lambda run, name=name: run.server_cpu.get(name)) for name in SERVERS]
        yield (f"| {program} | {sink} | {kind} | {statistics.median(rates):,.0f} ({min(rates):,.0f} – {max(rates):,.0f}) "
               f"| {micros(group, lambda run: run.cpu)} | {' | '.join(served)} | {max(run.peak_mib for run in group):.0f} |")


def remarks(runs):
    """What the table does not hold: starts, what is warm, both sinks at once, the servers' memory."""
    for program in sorted({run.program for run in runs if "start" in run.besides}):
        group = [run for run in runs if run.program == program]
        yield (f"The start of {program} comes on top of that and is in none of the columns but memory: "
               f"{middle(group, lambda run: run.besides['start']['seconds']):.1f} s, of which "
               f"{middle(group, lambda run: run.besides['start']['cpu']):.1f} s of CPU.")
    if any(warm(runs)):
        yield "*Warm* are the batches after a run's first, in which the JVM compiles what it runs; a job that stays has those only."
    for program in sorted({run.program for run in runs if run.sink == "both"}):
        parts = BOTH_FLOORS if program == BOTH_FLOORS["both"] else dict.fromkeys(("both", "Postgres", "Elasticsearch"), program)
        groups = {sink: [run for run in runs if (run.program, run.sink, run.kind) == (part, sink, "new")] for sink, part in parts.items()}
        if all(groups.values()):
            took = {sink: middle(group, lambda run: run.seconds) for sink, group in groups.items()}
            alone = (took["Postgres"], took["Elasticsearch"])
            yield (f"Both sinks at once took {program} {took['both']:.1f} s; Postgres alone {took['Postgres']:.1f} s and Elasticsearch "
                   f"alone {took['Elasticsearch']:.1f} s: {took['both'] / sum(alone):.0%} of one after the other, at "
                   f"{max(alone) / took['both']:.0%} of the speed of the slower one.")
    resident = {name: [run.server_mib[name] for run in runs if name in run.server_mib] for name in SERVERS}
    yield "Resident in the servers after a run: " + ", ".join(
        f"{name} {min(values):,.0f} to {max(values):,.0f} MiB" for name, values in resident.items() if values) + "."


def small_table(small):
    yield "| measured | median, and the least and the most | times |"
    yield "|---|--:|--:|"
    for timing in small:
        yield f"| {timing['what']} | {range_of(timing)} | {len(timing['values'])} |"


def told(about, runs, small):
    lines = [*table(about, [*runs, *warm(runs)]), ""]
    for remark in remarks(runs):
        lines += [f"- {remark}"]
    if small:
        lines += ["", *small_table(small)]
    return "\n".join(lines)


def put_into(docs, text, alt):
    path = os.path.join(docs, "performance.md")
    with open(path, encoding="utf-8") as file:
        before, rest = file.read().split(BEGIN)
        _, after = rest.split(END)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}{BEGIN}\n{text}\n\n![{alt}](images/bench.svg)\n{END}{after}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("runs")
    parser.add_argument("--into", metavar="DOCS")
    options = parser.parse_args()
    about, runs, small = load(options.runs)
    text = told(about, runs, small)
    print(text)
    if options.into:
        import plot
        groups = cells([*runs, *warm(runs)])
        put_into(options.into, text, plot.alt_text(groups))
        plot.draw(groups, os.path.join(options.into, "images", "bench.svg"))


if __name__ == "__main__":
    main()
