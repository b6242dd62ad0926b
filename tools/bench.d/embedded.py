"""The same events on the embedded parts: a log, a store and an index in one folder, no server beside."""

import os
import shutil
import tempfile

from runs import output_of

SERVICES = ("KAFKA_", "DATABASE_", "ELASTICSEARCH_")


def embedded_env(folder):
    env = {name: value for name, value in os.environ.items() if not name.startswith(SERVICES)}
    return env | {
        "SLUICE_DATA_DIR": folder,
        "SLUICE_LOG": "error",
        # What is drained is generated.
        "SUPABASE_URL": "",
        "SUPABASE_KEY": "",
        "SLUICE_SAMPLE": "true",
    }


class Embedded:
    """A folder with the events in its log, for as long as it is measured."""

    def __init__(self, folder, binary, events):
        self.folder = tempfile.mkdtemp(prefix="embedded-", dir=folder)
        self.env = embedded_env(self.folder)
        self.command = [binary, "bench", "append", "--events", str(events)]

    def __enter__(self):
        output_of(self.command, self.env)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)
