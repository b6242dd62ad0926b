"""What docker-compose.yml must hold to besides the specification, which its own loader checks.

Reads the model that compose-go prints as JSON from standard input. Names every breach and exits with 1. With --self-test
it breaks a copy of the model in each way that a rule forbids, and fails unless each is found.
"""

import argparse
import copy
import json
import pathlib
import re
import sys

PROFILES = {"core", "dashboards", "monitoring"}
SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|KEY", re.IGNORECASE)
# user:password@ in an address, or a value given to something called a password.
SECRET_TEXT = re.compile(r"://[^/\s:@]*:[^/\s@$]+@|(PASSWORD|SECRET|TOKEN|_KEY)=[^$\s]", re.IGNORECASE)


def breaches(model, root, made):
    services = model["services"]
    once = {name for name, service in services.items() if service.get("restart") == "on-failure"}
    for name, service in services.items():
        for breach in of_service(name, service, services, once, root):
            yield f"{name}: {breach}"
    awaited = {needed for name, service in services.items() if name not in once for needed in service.get("depends_on", {})}
    for name in once - awaited:
        yield f"{name}: ends, and nothing that stays awaits it, which `up --wait` takes for a failure"
    declared = {name: pathlib.Path(secret.get("file", "")) for name, secret in model.get("secrets", {}).items()}
    for name, file in declared.items():
        if file.parent.name != "secrets":
            yield f"secret {name}: is no file of secrets/"
        if not any(name == given["source"] for service in services.values() for given in service.get("secrets", [])):
            yield f"secret {name}: nothing takes it"
    if made is not None and set(made) != set(declared):
        yield f"secrets: tools/compose-secrets makes others than are declared: {sorted(set(made) ^ set(declared))}"
    for name, volume in (model.get("volumes") or {}).items():
        used = [s for s in services.values() for v in s.get("volumes", []) if v.get("source") == name]
        if not used:
            yield f"volume {name}: nothing uses it"


def of_service(name, service, services, once, root):
    image = service.get("image", "")
    tag = image.rpartition(":")[2] if ":" in image else ""
    if not tag or tag == "latest":
        yield f"the image {image!r} is not pinned by a tag"
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    for limit in {"cpus", "memory"} - limits.keys():
        yield f"has no limit of {limit}"

    health = service.get("healthcheck", {})
    if name not in once:
        if service.get("restart") not in {"always", "unless-stopped"}:
            yield "does not start again by itself"
        if health.get("disable") or health.get("test", ["NONE"])[0] == "NONE":
            yield "has no health check"
    for needed, how in service.get("depends_on", {}).items():
        if needed not in services:
            yield f"waits for {needed}, which is not there"
        wanted = "service_completed_successfully" if needed in once else "service_healthy"
        if how.get("condition") != wanted:
            yield f"waits for {needed} by {how.get('condition')}, not {wanted}"
        for profile in set(service.get("profiles", [])) - set(services.get(needed, {}).get("profiles", [])):
            yield f"is in the profile {profile}, and {needed}, which it needs, is not"
    if not set(service.get("profiles", [])) or not set(service["profiles"]) <= PROFILES:
        yield f"its profiles {service.get('profiles')} are not of {sorted(PROFILES)}"

    if str(service.get("user", "")).split(":")[0] in {"", "0", "root"}:
        yield "may run as root"
    if service.get("privileged") or service.get("cap_add") or "ALL" not in service.get("cap_drop", []):
        yield "keeps capabilities"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield "may gain privileges"
    if not service.get("read_only") and not service.get("x-writable-root"):
        yield "has a writable root file system, and no x-writable-root says why"

    for variable, value in (service.get("environment") or {}).items():
        taken_from_file = variable.endswith("_FILE") or variable == "SLUICE_ENV_FILE"
        if (SECRET_NAME.search(variable) and not taken_from_file) or SECRET_TEXT.search(str(value)):
            yield f"{variable} has a secret in clear text"
    for field in ("command", "entrypoint"):
        if SECRET_TEXT.search(" ".join(service.get(field) or [])):
            yield f"its {field} has a secret in clear text"
    if service.get("env_file"):
        yield "takes a whole file into its environment, which `docker inspect` shows"

    for port in service.get("ports") or []:
        if port.get("host_ip") != "127.0.0.1":
            yield f"publishes {port.get('target')} to other machines"
    for volume in service.get("volumes") or []:
        source = volume.get("source")
        if volume["type"] == "bind":
            if not volume.get("read_only"):
                yield f"may write {source}"
            if not (root / source).exists():
                yield f"mounts {source}, which is not there"
        elif not source:
            yield f"keeps {volume.get('target')} in a volume without a name"
    for build in filter(None, [service.get("build")]):
        if not (root / build["context"] / build.get("dockerfile", "Dockerfile")).is_file():
            yield "is built from no Dockerfile"


def at(*path):
    """A change of the model: at(key…, value) sets, at(key…, None) removes."""
    *way, key, value = path

    def change(model):
        for step in way:
            model = model[step]
        if value is None:
            del model[key]
        else:
            model[key] = value

    return change


def of(service, *path):
    return at("services", service, *path)


BROKEN = [
    (of("kafka", "image", "apache/kafka"), "not pinned"),
    (of("kafka", "image", "apache/kafka:latest"), "not pinned"),
    (of("postgres", "deploy", None), "no limit of memory"),
    (of("postgres", "deploy", "resources", "limits", "cpus", None), "no limit of cpus"),
    (of("worker", "healthcheck", None), "no health check"),
    (of("serve", "healthcheck", "disable", True), "no health check"),
    (of("grafana", "restart", "no"), "does not start again"),
    (of("worker", "depends_on", "kafka", "condition", "service_started"), "not service_healthy"),
    (of("serve", "depends_on", "migrate", "condition", "service_healthy"), "not service_completed_successfully"),
    (of("worker", "depends_on", "kafak", {"condition": "service_healthy"}), "waits for kafak, which is not there"),
    (of("superset", "depends_on", "kibana-import", None), "which `up --wait` takes for a failure"),
    (of("kafka", "profiles", ["core"]), "which it needs, is not"),
    (of("kafka", "profiles", []), "its profiles"),
    (of("kafka", "user", "root"), "may run as root"),
    (of("serve", "user", None), "may run as root"),
    (of("kibana", "cap_drop", None), "keeps capabilities"),
    (of("kibana", "privileged", True), "keeps capabilities"),
    (of("superset", "security_opt", None), "may gain privileges"),
    (of("worker", "read_only", None), "writable root"),
    (of("postgres", "environment", "POSTGRES_PASSWORD", "postgres"), "POSTGRES_PASSWORD has a secret"),
    (of("worker", "environment", "DATABASE_URL", "postgres://sluice:sluice@postgres/sluice"), "DATABASE_URL has a secret"),
    (of("kibana", "command", ["bash", "-c", "ELASTICSEARCH_PASSWORD=changeme kibana"]), "command has a secret"),
    (of("worker", "env_file", [{"path": ".env"}]), "whole file into its environment"),
    (of("prometheus", "ports", 0, "host_ip", None), "to other machines"),
    (of("prometheus", "volumes", 1, "read_only", None), "may write"),
    (of("prometheus", "volumes", 1, "source", "packaging/nothing.yml"), "which is not there"),
    (of("postgres", "volumes", 0, "source", None), "volume without a name"),
    (of("superset", "build", "context", "packaging/nothing"), "from no Dockerfile"),
    (at("secrets", "kibana_key", "file", "/etc/passwd"), "no file of secrets/"),
    (at("secrets", "kibana_key", None), "makes others than are declared"),
    (of("kibana", "secrets", []), "nothing takes it"),
    (of("grafana", "volumes", []), "volume grafana: nothing uses it"),
]


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--root", type=pathlib.Path, default=pathlib.Path("."))
    options.add_argument("--made", type=pathlib.Path, help="a folder that tools/compose-secrets filled")
    options.add_argument("--self-test", action="store_true")
    given = options.parse_args()
    made = sorted(file.name for file in given.made.iterdir()) if given.made else None
    model = json.load(sys.stdin)
    if not given.self_test:
        found = list(breaches(model, given.root, made))
        print(*(f"docker-compose.yml: {breach}" for breach in found), sep="\n", end="\n" if found else "")
        return bool(found)
    missed = []
    for change, expected in BROKEN:
        broken = copy.deepcopy(model)
        change(broken)
        found = list(breaches(broken, given.root, made))
        if not any(expected in breach for breach in found):
            missed.append(f"a broken copy passed: {expected!r} was not said, but {found}")
    print(*missed, sep="\n", end="\n" if missed else "")
    return bool(missed)


sys.exit(main())
