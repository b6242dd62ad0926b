"""Fills a pipeline, loses what it wrote, restores it as docs/backup.md says, and compares row by row."""

import argparse
import os
import pathlib
import sys
import time

from setup import PATIENCE, WRITTEN, Failure, Setup, difference

# What people read, and what says who was removed. Of sluice's other tables each restore has its own.
TABLES = ("chat_sessions", "eventos_agregados", "eventos_raw", "leads", "sluice_removed")
INDICES = ("chat_sessions", "eventos", "leads")
ERASED_AGAIN = "erase them again"


def say(text):
    print(f"{time.monotonic() - BEGAN:6.0f} s  {text}", flush=True)


def sync(setup):
    for table in ("leads", "chat_sessions"):
        setup.sluice("sync", table, "--full", "--wait")


def prove(setup):
    """Reconciles, and expects nothing to repair, remove or explain."""
    for table in ("leads", "chat_sessions"):
        told = setup.sluice("reconcile", table, "--wait").stdout
        if " 0 repaired, 0 deleted, 0 parked, 0 unexplained." not in told:
            raise Failure(f"the reconciliation of {table} found a difference:\n{told}")


def settled(session):
    """The status, once both sinks run and have nothing left to apply."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = session.call("get_pipeline_status")
        lags = [lag.get("total") for lag in status["lag"]]
        running = [drain["sink"] for drain in status["drains"] if drain["state"] == "running"]
        if len(lags) == len(running) == 2 and not any(lags) and None not in lags:
            return status
        time.sleep(0.2)
    raise Failure(f"the sinks did not catch up within {PATIENCE} s: {status}")


def expect_same(what, before, after, names, without=(WRITTEN,)):
    count = 0
    for name in names:
        lost, new = difference(before[name], after.get(name, []), without)
        if lost or new:
            raise Failure(f"{what}: of {name} {len(lost)} of {len(before[name])} are lost or changed, {len(new)} are new or changed; "
                          f"such as {(lost + new)[0][:600]}")
        count += len(before[name])
    say(f"{what}: {count} are as they were")


def await_told(session, words, what):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = session.call("get_pipeline_status")
        told = status["problems"] + status["warnings"]
        if any(words in line for line in told):
            return
        time.sleep(0.2)
    raise Failure(f"{what} is not told: {told}")


class Loss:
    """A pipeline with updates, removals, dead letters and an erasure behind it, and a backup of its store."""

    def __init__(self, setup):
        self.setup, self.dump = setup, setup.folder / "sluice.dump"
        setup.make_database()
        setup.serve_source(seed=1, leads=300, broken=3)
        setup.sluice("migrate")
        sync(setup)
        self.erase()
        # Under the same port another project: most rows are gone, the others are new.
        setup.serve_source(seed=2, leads=290)
        sync(setup)
        for table in ("leads", "chat_sessions"):
            setup.sluice("reconcile", table, "--wait", "--allow-deletes", "1000")
        self.rows, self.documents = setup.rows(), setup.documents()
        # Nothing changes at the source while it is away, and nothing is read from it.
        setup.stop_source()
        say(f"filled: {sum(len(self.rows[name]) for name in TABLES)} rows, "
            f"{sum(len(self.documents[name]) for name in INDICES)} documents")

    def erase(self):
        self.erased = self.setup.rows()["leads"][0]["id"]
        self.setup.sluice("erase", "leads", "--key", self.erased, "--related", "--yes")

    def compare(self):
        expect_same("rows", self.rows, self.setup.rows(), TABLES)
        expect_same("documents", self.documents, self.setup.documents(), INDICES)


def from_the_log_alone(loss):
    """Database and indices are gone; the topic is there."""
    setup = loss.setup
    setup.drop_database()
    setup.drop_indices()
    setup.make_database()
    setup.sluice("migrate")
    with setup.serving() as session:
        settled(session)
    # The ledger of erasures was in the store: whoever was erased is back, as docs/backup.md says, and is erased again.
    back = [row for row in setup.rows()["leads"] if row["id"] == loss.erased]
    if not back:
        raise Failure("the erased lead did not come back; docs/backup.md says otherwise")
    setup.sluice("erase", "leads", "--key", loss.erased, "--related", "--yes")
    loss.compare()


def from_the_store_alone(loss):
    """Topic and indices are gone, and the database is restored from its backup into an empty one."""
    setup = loss.setup
    setup.dump(loss.dump)
    setup.drop_database()
    setup.drop_indices()
    setup.drop_topics()
    setup.make_database()
    setup.restore(loss.dump)
    setup.sluice("migrate")
    with setup.serving() as session:
        settled(session)
        await_told(session, "was deleted and made anew", "that the topic is gone")
        await_told(session, ERASED_AGAIN, "that the ledger may be old")
        deadline = time.monotonic() + PATIENCE
        while not session.call("rebuild_index", confirm=True)["done"]:
            if time.monotonic() > deadline:
                raise Failure("the indices were not rebuilt")
        settled(session)
    loss.compare()


def from_an_old_backup_and_the_log(loss):
    """The database is a backup from before the last changes; topic and indices have these."""
    setup = loss.setup
    setup.dump(loss.dump)
    setup.serve_source(seed=3, leads=280)
    sync(setup)
    loss.erase()
    for table in ("leads", "chat_sessions"):
        setup.sluice("reconcile", table, "--wait", "--allow-deletes", "1000")
    loss.rows, loss.documents = setup.rows(), setup.documents()
    setup.stop_source()
    setup.drop_database()
    setup.make_database()
    setup.restore(loss.dump)
    setup.sluice("migrate")
    with setup.serving() as session:
        settled(session)
        await_told(session, ERASED_AGAIN, "that the ledger is old")
    setup.sluice("erase", "leads", "--key", loss.erased, "--related", "--yes")
    loss.compare()


WAYS = {way.__name__.replace("_", "-"): way for way in (from_the_log_alone, from_the_store_alone, from_an_old_backup_and_the_log)}


def main():
    parser = argparse.ArgumentParser(prog="tools/check-restore")
    parser.add_argument("--binary", required=True, type=pathlib.Path)
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"of {', '.join(WAYS)}; all if none is named")
    options = parser.parse_args()
    unknown = set(options.ways) - set(WAYS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(WAYS)}")
    for name in options.ways or WAYS:
        say(f"== {name.replace('-', ' ')}")
        folder = options.folder / name
        folder.mkdir()
        setup = Setup(options.binary, f"restore{os.getpid()}_{list(WAYS).index(name)}", folder)
        try:
            loss = Loss(setup)
            WAYS[name](loss)
            # What the source has since is read, and nothing of what was restored is in its way.
            setup.serve_source(seed=4, leads=285)
            sync(setup)
            for table in ("leads", "chat_sessions"):
                setup.sluice("reconcile", table, "--wait", "--allow-deletes", "1000")
            prove(setup)
            say("goes on: a sync of other rows, and a reconciliation that finds nothing to mend")
        except Failure as failure:
            say(f"FAILED: {failure}")
            return 1
        finally:
            setup.clean_up()
    say("every restore brought back what there was")
    return 0


BEGAN = time.monotonic()
if __name__ == "__main__":
    sys.exit(main())
