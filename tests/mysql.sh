#!/usr/bin/env bash
# Start a MySQL server for the tests on 127.0.0.1:3307, unless one answers at TEST_MYSQL_URL.
#
# Debian's stable releases have MariaDB only, and the two cannot be installed beside each other. So
# this takes mysql-server-core from unstable, with all the libraries that it needs (the C library
# too), and unpacks them into .mysql/: nothing is installed, and a user who is not root may do it.
# apt resolves, checks Debian's signature and all checksums; its lists are in .mysql/ as well.
# The server is for tests: root has no password, and a power cut may damage its data.
# It is left running; "kill $(cat .mysql/pid)" ends it.
set -euo pipefail
cd "$(dirname "$0")/.."

HOME_OF_IT=$PWD/.mysql
ROOT=$HOME_OF_IT/root
DATA=$HOME_OF_IT/data
PORT=3307
LIBRARIES=$ROOT/usr/lib/x86_64-linux-gnu

answers() { .venv/bin/python -m tests.services MySQL; }

apt_apart() { # apt-get with a state of its own, in which nothing is installed
    apt-get -qq \
        -o Dir::State="$HOME_OF_IT/apt" \
        -o Dir::State::status="$HOME_OF_IT/apt/status" \
        -o Dir::Cache="$HOME_OF_IT/apt" \
        -o Dir::Etc::sourcelist="$HOME_OF_IT/apt/sources.list" \
        -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::Etc::preferencesparts=/dev/null \
        -o APT::Sandbox::User="$(id -un)" \
        -o APT::Architecture=amd64 \
        -o APT::Install-Recommends=false \
        -o Acquire::Languages=none \
        "$@"
}

unpack() {
    [ "$(dpkg --print-architecture)" = amd64 ] || { echo "Only for Debian on amd64."; exit 1; }
    echo "Fetching mysql-server-core and its libraries from Debian unstable into .mysql/ (65 MB)."
    mkdir -p "$HOME_OF_IT"/apt/{lists,archives}/partial
    : >"$HOME_OF_IT/apt/status"
    local keys=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [arch=amd64 signed-by=$keys] http://deb.debian.org/debian sid main" \
        >"$HOME_OF_IT/apt/sources.list"
    apt_apart update
    apt_apart install --yes --download-only mysql-server-core
    rm -rf "$ROOT" "$ROOT.new"
    for package in "$HOME_OF_IT"/apt/archives/*.deb; do
        dpkg-deb --extract "$package" "$ROOT.new"
    done
    mv "$ROOT.new" "$ROOT" # it is there as a whole, or not at all
    rm -rf "$HOME_OF_IT/apt"
}

server() { # mysqld with the libraries it was unpacked with; the settings of a MariaDB are not its own
    "$LIBRARIES/ld-linux-x86-64.so.2" --library-path "$LIBRARIES" \
        "$ROOT/usr/sbin/mysqld" --no-defaults --user="$(id -un)" \
        --basedir="$ROOT/usr" --datadir="$DATA" --log-error="$HOME_OF_IT/mysqld.err" "$@"
}

initialise() {
    echo "Making an empty data directory in .mysql/data."
    rm -rf "$DATA.new"
    mkdir "$DATA.new"
    DATA=$DATA.new server --initialize-insecure
    mv "$DATA.new" "$DATA"
}

start() {
    echo "Starting MySQL on 127.0.0.1:$PORT; its log is .mysql/mysqld.err."
    # The path of a socket must be short: this one is relative to the data.
    server --daemonize --pid-file="$HOME_OF_IT/pid" \
        --bind-address=127.0.0.1 --port="$PORT" --socket=socket --mysqlx=OFF \
        --secure-file-priv=NULL --disable-log-bin --performance-schema=OFF \
        --innodb-buffer-pool-size=128M --innodb-redo-log-capacity=64M \
        --innodb-flush-log-at-trx-commit=2 --max-connections=200 ||
        { tail -n 5 "$HOME_OF_IT/mysqld.err"; exit 1; }
}

if ! answers >/dev/null; then
    [ -x "$ROOT/usr/sbin/mysqld" ] || unpack
    [ -d "$DATA" ] || initialise
    start
    answers >/dev/null || answers # says why not
fi
echo "MySQL answers."
