"""Drains one long topic into both sinks at once, and tells how fast each million went and what was resident then.

What costs more the more there is, and what is never given back, shows here and in no shorter run.
"""

import os
import subprocess
import sys
import uuid

from machine import drop_database, drop_indices, fresh_database, remove_groups, remove_topics

binary, events, new_of_ten = sys.argv[1:]
name = f"growth{uuid.uuid4().hex[:8]}"
base, _ = os.environ["DATABASE_URL"].rsplit("/", 1)
env = os.environ | {
    "KAFKA_TOPIC": name,
    "DATABASE_URL": f"{base}/{name}",
    "ELASTICSEARCH_INDEX_PREFIX": f"{name}-",
    "SLUICE_GROUP_PREFIX": name,
    "SLUICE_LOG": "error",
    # What is drained is generated.
    "SUPABASE_URL": "",
    "SUPABASE_KEY": "",
    "SLUICE_SAMPLE": "true",
}
fresh_database(name)
try:
    for step in ("append", "both"):
        command = [binary, "bench", step, "--events", events, "--new-of-ten", new_of_ten]
        subprocess.run(command, env=env, check=True)
finally:
    drop_database(name)
    drop_indices(name)
    remove_topics(name)
    remove_groups(name)
