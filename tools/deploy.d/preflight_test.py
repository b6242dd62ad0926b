"""Shows that tools/preflight tells a good machine from bad ones, and that tools/deploy goes back, with a real sluice.

Docker is played by a script that notes what it is asked and fails where it is told to.
"""

import argparse
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]

DOCKER = r"""#!/bin/bash
echo "$DEPLOY_IMAGE $*" >>"$PLAYED/asked"
[ "${SIGNALS:-}" != "$DEPLOY_IMAGE $*" ] || kill -TERM $PPID
if [ "${HANGS_UP:-}" = "$DEPLOY_IMAGE $*" ]; then
    until [ -s "$PLAYED/reader" ]; do sleep 0.01; done
    kill "$(cat "$PLAYED/reader")"
    while kill -0 "$(cat "$PLAYED/reader")" 2>/dev/null; do sleep 0.01; done
    echo "to nobody" >&2
fi
[ "${FAILS:-}" != "$DEPLOY_IMAGE $*" ] || { echo "it was told to fail" >&2 && exit 1; }
case "$*" in
    *"ps -q worker"*) seq "${RUNNING:-1}" ;;
    *"config --format json worker") . ./.env && echo '{"services": {"worker": {"scale": '"${WORKERS:-1}"'}}}' ;;
    *"config --format"*) echo '{"services": {}, "secrets": {"token": {"file": "'"$PLAYED"'/secrets/prometheus_token"}}}' ;;
    *"ps --services"*) printf '%s\n' kafka postgres elasticsearch serve ;;
    *doctor*) echo '[{"part": "kafka", "check": "reachable", "outcome": "'"${FOUND:-ok}"'", "detail": "", "next_step": null}]' ;;
    *DockerRootDir*) echo "$PLAYED" ;;
    *) echo 1 ;;
esac
"""


# What is examined has the settings that it is given, whatever tests run with.
for name in [name for name in os.environ if name.startswith(("DATABASE_", "ELASTICSEARCH_", "KAFKA_", "SUPABASE_"))]:
    del os.environ[name]


class Wrong(Exception):
    pass


def run(*command, **environment):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False,
                          env={**os.environ, "SLUICE_ENV_FILE": "", **environment})


def expect(name, answer, status, *texts):
    said = answer.stdout + answer.stderr
    if answer.returncode != status or any(text not in said for text in texts):
        raise Wrong(f"{name}: exit status {answer.returncode}, and not {status} with {texts}:\n{said}")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def preflight(binary, here):
    port, file = free_port(), here / "sluice.env"
    settings = f"SLUICE_DATA_DIR={here / 'data'}\nSLUICE_HTTP_ADDRESS=127.0.0.1:{port}\n"

    def look(name, status, *texts, text=settings, mode=0o600, options=(), program=binary):
        file.write_text(text)
        file.chmod(mode)
        command = [sys.executable, ROOT / "tools/preflight", "--binary", program, "--env-file", file, "--disk-gib", "0.01", *options]
        expect(name, run(*map(str, command)), status, *texts)

    here.chmod(0o755)
    look("a good machine", 0, "0 failed", f"{port} is free", "reachable")
    look("warnings, strictly", 1, "WARNING", "which count here", options=["--strict"])
    look("a file that others read", 1, "FAILED   secrets", "chmod 600", mode=0o644)
    look("a misspelt setting", 1, "FAILED   sluice", "DATABASE_URI", text=settings + "DATABASE_URI=x\n")
    look("a server that is not there", 1, "FAILED", text=settings + f"SLUICE_SAMPLE=true\nDATABASE_URL=postgres://a:b@127.0.0.1:{free_port()}/c\nDATABASE_TIMEOUT_SECONDS=2\n")
    look("a full disk", 1, "FAILED   machine", "make room", options=["--disk-gib", "1e9"])
    look("no program", 1, "FAILED   sluice", "--binary", program=here / "nothing")
    with socket.create_server(("127.0.0.1", port)):
        # Its server takes no connection and answers nothing.
        look("a port that a stranger has", 1, "FAILED   machine", "ss -ltnp")
    server = serve(binary, here, f"127.0.0.1:{port}")
    try:
        look("a port that the sluice before has", 0, "taken by a sluice that answers")
    finally:
        stop(server)


def serve(binary, here, address, options=(), **environment):
    with open(here / "serve.log", "w") as log:
        server = subprocess.Popen([binary, "serve", *(options or ["--http", address])], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=here,
                                  env={**os.environ, "SLUICE_ENV_FILE": "", "SLUICE_DATA_DIR": str(here / "served"), **environment})
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}/readyz", timeout=10):
                return server
        except OSError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise Wrong(f"sluice does not serve: {error}\n{(here / 'serve.log').read_text()}") from error
            time.sleep(0.05)


def stop(server):
    server.terminate()
    server.wait(timeout=60)


def health(binary, here):
    check, port = ROOT / "packaging/docker/health", free_port()
    environment = {"PATH": f"{here}:{os.environ['PATH']}", "SLUICE_DATA_DIR": str(here / "served")}
    # Another address than the usual one, and another port: in the file of settings, and in one word with the option.
    settings, elsewhere = here / "sluice.env", f"127.0.0.2:{port}"
    settings.write_text(f"# SLUICE_HTTP_ADDRESS=127.0.0.3:1\nexport SLUICE_HTTP_ADDRESS = '{elsewhere}'\n")
    for options, of_file in (
        (["--http"], {"SLUICE_ENV_FILE": str(settings)}), ([f"--http={elsewhere}"], {}),
        (["--http", "--env-file", str(settings)], {"SLUICE_ENV_FILE": "/dev/null"}), (["--http", f"--env-file={settings}"], {}),
    ):
        server = serve(binary, here, elsewhere, options, **of_file)
        try:
            expect(f"a server by {options}", run("bash", str(check), str(server.pid), **environment, **of_file), 0)
        finally:
            stop(server)
    server = serve(binary, here, f"127.0.0.1:{port}")
    (here / "sluice").symlink_to(binary)
    try:
        expect("a server that answers", run("bash", str(check), str(server.pid), **environment), 0)
        expect("another question", run("bash", str(check), str(server.pid), **environment, HEALTH_PATH="/readyz"), 0)
        expect("a question that is refused", run("bash", str(check), str(server.pid), **environment, HEALTH_PATH="/nothing"), 1)
        os.kill(server.pid, 19)
        hung = subprocess.Popen(["bash", str(check), str(server.pid)])
        try:
            hung.wait(timeout=2)
            raise Wrong("a server that hangs was called healthy, or given up at once")
        except subprocess.TimeoutExpired:
            # Docker gives up on it after its own time.
            hung.kill()
            hung.wait()
        os.kill(server.pid, 18)
    finally:
        stop(server)
    # A process of other arguments is examined by the doctor, as a worker is.
    expect("a worker with its parts", run("bash", str(check), str(os.getpid()), **environment), 0)
    lost = environment | {"DATABASE_URL": f"postgres://a:b@127.0.0.1:{free_port()}/c", "SLUICE_SAMPLE": "true", "DATABASE_TIMEOUT_SECONDS": "2"}
    expect("a worker without its store", run("bash", str(check), str(os.getpid()), **lost), 1)
    settings.write_text("".join(f"{name}={lost[name]}\n" for name in ("DATABASE_URL", "SLUICE_SAMPLE", "DATABASE_TIMEOUT_SECONDS")))
    worker = subprocess.Popen([sys.executable, "-c", "input()", "--env-file", str(settings)], stdin=subprocess.PIPE)
    try:
        expect("a worker without the store of its file", run("bash", str(check), str(worker.pid), **environment), 1)
    finally:
        worker.communicate(b"\n")


def deploy(binary, here):
    token, port = "0123456789abcdef" * 2, free_port()
    (here / "docker").write_text(DOCKER)
    (here / "docker").chmod(0o755)
    (here / "secrets").mkdir(mode=0o700)
    (here / "secrets/prometheus_token").write_text(token)
    (here / "docker-compose.yml").touch()
    asked = here / "asked"

    def attempt(name, status, *texts, runs="old", options=(), through=(), settings="", **environment):
        (here / ".env").write_text(f"COMPOSE_PROFILES=core\nDEPLOY_IMAGE=old\n{settings}")
        asked.write_text("")
        answer = run(*through, str(ROOT / "tools/deploy"), *options, "new:2", **{
            "PATH": f"{here}:{os.environ['PATH']}", "PLAYED": str(here), "DEPLOY_ROOT": str(here), "COMPOSE_PROFILES": "core",
            "SMOKE_URL": f"http://127.0.0.1:{port}", "SMOKE_SECONDS": "60", "SMOKE_TIMES": "2", **environment})
        expect(name, answer, status, *texts)
        if f"DEPLOY_IMAGE={runs}" not in (here / ".env").read_text().split() or "COMPOSE_PROFILES=core" not in (here / ".env").read_text().split():
            raise Wrong(f"{name}: .env does not say that {runs} runs")
        return asked.read_text()

    def replaced(calls, image):
        return any(line.startswith(f"{image} compose up") and "kafka" not in line for line in calls.splitlines())

    def none(name, calls):
        if replaced(calls, "new:2"):
            raise Wrong(f"{name}: the old image was replaced all the same:\n{calls}")

    servers, up = "new:2 compose up -d --wait --no-build kafka", "new:2 compose up -d --wait --wait-timeout 900 --no-build"
    of_worker = "exec -e HEALTH_PATH=/readyz 1 sluice-health"
    server = serve(binary, here, f"127.0.0.1:{port}", SLUICE_HTTP_TOKENS=f"prometheus:read:{token}")
    try:
        calls = attempt("a good image", 0, "the way back is tools/deploy old", runs="new:2")
        order = [calls.index(text) for text in (servers, "run --rm -T migrate\n", f"{up}\n", f"new:2 {of_worker}\n")]
        if order != sorted(order):
            raise Wrong(f"a good image: not in order:\n{calls}")
        for name, text, how in (
            ("servers that don't stand", "sluice was not touched", {"FAILS": f"{servers} postgres elasticsearch"}),
            ("a failed migration", "migrating failed", {"FAILS": "new:2 compose run --rm -T migrate"}),
            ("workers of which one would be left", "put WORKERS=3 into .env", {"RUNNING": "3"}),
            ("workers of which two would be left", "2 would be left: put WORKERS=3 into .env", {"RUNNING": "3", "settings": "WORKERS=2\n"}),
            ("a doctor that fails", "nothing was changed", {"FOUND": "failed"}),
            ("a doctor that warns", "the doctor of new:2 objects", {"FOUND": "warning"}),
        ):
            calls = attempt(name, 1, text, **how)
            if replaced(calls, "new:2"):
                raise Wrong(f"{name}: the old image was replaced all the same:\n{calls}")
        attempt("a warning that is allowed", 0, runs="new:2", options=["--allow-warnings"], FOUND="warning")
        calls = attempt("an image that stays unhealthy", 1, "going back to old", "old runs", FAILS=up)
        if not replaced(calls, "old"):
            raise Wrong(f"the old image was not put back:\n{calls}")
        attempt("workers by their number", 0, runs="new:2", RUNNING="3", settings="WORKERS=3\n")
        # One that nobody hears any more has its output read by a process that ends in between.
        heard = ("bash", "-c", '"$@" 2>&1 | (echo $BASHPID >"$PLAYED/reader" && exec cat); exit ${PIPESTATUS[0]}', "bash")
        for name, texts, how in (
            ("a worker that drains nothing", ("not ready: /readyz of the worker 1", "going back to old"),
             {"FAILS": f"new:2 {of_worker}", "SMOKE_SECONDS": "1"}),
            ("a worker that is not there", ("not ready: fewer than 2 workers", "going back to old"),
             {"settings": "WORKERS=2\n", "SMOKE_SECONDS": "1"}),
            ("a deploy that is ended", ("it was interrupted", "going back to old", "old runs"), {"SIGNALS": up}),
            ("a deploy that nobody hears any more", (), {"HANGS_UP": up, "through": heard}),
        ):
            calls = attempt(name, 1, *texts, **how)
            if not calls.endswith(f"old {of_worker}\n"):
                raise Wrong(f"{name}: the old image was not put back and asked:\n{calls}")
        (here / "secrets/prometheus_token").write_text("f" * 32)
        calls = attempt("a server that knows no client", 1, "does not answer initialize", "going back to old")
    finally:
        stop(server)
    calls = attempt("a server that is not ready", 1, "the smoke test", "going back to old", "not ready either", SMOKE_SECONDS="1")
    if not replaced(calls, "old"):
        raise Wrong(f"the old image was not put back:\n{calls}")


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--binary", required=True)
    binary = shutil.which(str(pathlib.Path(options.parse_args().binary).absolute()))
    if not binary:
        sys.exit("there is no sluice to try it with: cargo build, or name one with --binary")
    for attempt in (preflight, health, deploy):
        with tempfile.TemporaryDirectory(prefix="sluice-preflight.") as here:
            began = time.monotonic()
            try:
                attempt(binary, pathlib.Path(here))
            except Wrong as wrong:
                sys.exit(f"{attempt.__name__}: {wrong}")
            print(f"{attempt.__name__}: ok ({time.monotonic() - began:.0f} s)", file=sys.stderr)


main()
