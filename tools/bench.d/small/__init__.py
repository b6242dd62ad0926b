"""The small waits, each kind in a file of its own: what somebody at a terminal, or an operator after a crash, waits for."""

from small import starts, syncs, workers


def measure_small(binary, run, folder):
    """Yields one timing after the other: {"what": …, "unit": …, "values": […]}."""
    for kind in (starts, syncs, workers):
        yield from kind.measure(binary, run, folder)
