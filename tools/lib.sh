# Shared by the scripts in this folder: messages, and what a bare machine still needs.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT

# No file of the developer's own settings reaches what the scripts start.
export SLUICE_ENV_FILE=/dev/null

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# A text with the repository's name in place of $SLUICE_REPOSITORY; npm has names in lower case only.
fill_repository() { # file
    local lower
    lower=$(printf %s "$SLUICE_REPOSITORY" | tr '[:upper:]' '[:lower:]')
    sed -e "s|@\$SLUICE_REPOSITORY|@$lower|g" -e "s|\$SLUICE_REPOSITORY|$SLUICE_REPOSITORY|g" "$1"
}

# Installs the packages whose check fails. Arguments: pairs of "check command" and "package".
need() {
    local missing=()
    while [ $# -gt 0 ]; do
        bash -c "$1" >/dev/null 2>&1 || missing+=("$2")
        shift 2
    done
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get >/dev/null || die "missing: ${missing[*]} (Debian's names); install them and try again"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null \
        || die "missing: ${missing[*]}; run as root: apt-get install ${missing[*]}"
    say "installing ${missing[*]}"
    as_root apt-get update -qq || die "apt-get update failed; check the network and the package sources"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
        >/dev/null || die "could not install ${missing[*]}; run apt-get install by hand to see why"
}

# The folder of PostgreSQL's server programs, newest first.
postgres_bin() {
    local found
    found=$(find /usr/lib/postgresql -maxdepth 3 -name postgres -path '*/bin/*' 2>/dev/null | sort -V | tail -n 1)
    if [ -n "$found" ]; then dirname "$found"; elif command -v postgres >/dev/null; then
        dirname "$(command -v postgres)"
    fi
}

need_for_services() {
    need 'java -version' default-jre-headless \
        'javac -version' default-jdk-headless \
        'mvn --version' maven \
        'curl --version' curl \
        'psql --version' postgresql-client \
        "ls /usr/lib/postgresql/*/bin/postgres || command -v postgres" postgresql
}

# Where the services' jars are, and those of what is measured beside sluice.
LIBS=${SLUICE_SERVICES_DIR:-$ROOT/.services}/libs
readonly LIBS

# The jars that a pom names, into LIBS/NAME, unless they are there.
fetch_jars() { # name, pom
    local libs=$LIBS/$1
    need 'java -version' default-jre-headless \
        'mvn --version' maven
    cmp -s "$2" "$libs/installed-from" && return
    say "$1: fetching its jars"
    rm -rf "$libs"
    mkdir -p "$libs"
    mvn -q -B -f "$2" dependency:copy-dependencies -DoutputDirectory="$libs" >"$libs/maven.log" 2>&1 \
        || die "$1: Maven could not fetch the jars named in $2; see $libs/maven.log"
    cp "$2" "$libs/installed-from"
}

# A Python environment of its own in SUITES/NAME with what a file of requirements names, unless it is there.
make_python() { # name, requirements
    local python=$SUITES/$1
    need 'python3 -m venv --help' python3-venv
    cmp -s "$2" "$python/installed-from" && return
    say "$1: fetching its Python packages"
    rm -rf "$python"
    python3 -m venv "$python" || die "no Python environment could be made in $python"
    "$python/bin/pip" install --quiet --disable-pip-version-check -r "$2" >&2 || die "pip could not install $2"
    cp "$2" "$python/installed-from"
}

need_for_build() {
    need 'cc --version' gcc \
        'c++ --version' g++ \
        'make --version' make \
        'pkg-config --version' pkg-config \
        'pkg-config --exists openssl' libssl-dev \
        'pkg-config --exists zlib' zlib1g-dev
    local have
    have=$(rustc --version 2>/dev/null | cut -d' ' -f2) || true
    [ -n "$have" ] || die "Rust is not installed; get 1.94 or newer from rustup.rs and try again"
    [ "$(printf '1.94\n%s\n' "$have" | sort -V | head -n 1)" = 1.94 ] \
        || die "Rust $have is too old; sluice needs 1.94 or newer (rustup update)"
}

# Where a sluice that logs into a file serves HTTP; fails as long as it does not.
http_address() { # log
    local line
    line=$(grep -s 'serving MCP over HTTP' "$1") || return
    line=${line#*'"address":"'}
    echo "http://${line%%'"'*}"
}

# Other people's tools and clients, pinned by tools/suites.d. Node 22 comes with them, as distributions have older ones.
SUITES=${SLUICE_SERVICES_DIR:-$ROOT/.services}/suites
readonly SUITES

need_for_suites() {
    need 'npm --version' npm \
        'python3 -m venv --help' python3-venv
    mkdir -p "$SUITES"
    (
        # macOS has none; there no two scripts run at once.
        ! command -v flock >/dev/null || flock 8
        local from=$ROOT/tools/suites.d stamp=$SUITES/installed-from
        cat "$from/package-lock.json" "$from/requirements.txt" | cmp -s - "$stamp" && exit
        say "fetching the suites named in tools/suites.d"
        rm -rf "$stamp" "$SUITES/node_modules" "$SUITES/python"
        cp "$from/package.json" "$from/package-lock.json" "$SUITES"
        # npm itself may run on an older Node than the tools want; what it installs brings its own.
        npm --prefix "$SUITES" ci --no-audit --no-fund --loglevel=error >&2 || die "npm could not install $from/package.json"
        python3 -m venv "$SUITES/python" || die "no Python environment could be made in $SUITES/python"
        "$SUITES/python/bin/pip" install --quiet --disable-pip-version-check -r "$from/requirements.txt" >&2 \
            || die "pip could not install $from/requirements.txt"
        "$SUITES/node_modules/.bin/node" -e 'process.exit(parseInt(process.versions.node) < 22 ? 1 : 0)' \
            || die "the Node that npm installed is older than 22"
        cat "$from/package-lock.json" "$from/requirements.txt" >"$stamp"
    ) 8>"$SUITES/lock"
    export PATH=$SUITES/node_modules/.bin:$SUITES/python/bin:$PATH
}

# Nothing of the developer's reaches the servers under test.
forget_settings() {
    local variable
    for variable in $(compgen -e | grep -E '^(SUPABASE|KAFKA|DATABASE|ELASTICSEARCH)_|^SLUICE_(HTTP|DATA|GROUP|LOG|SAMPLE|TOOLS|READ|REVEAL|LANGUAGE|TIMEZONE)'); do
        unset "$variable"
    done
}
