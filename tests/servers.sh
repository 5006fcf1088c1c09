#!/usr/bin/env bash
# Install and start, on Debian and as root, whatever the tests use and does not answer yet.
# A PostgreSQL that refuses all logins gets the password "postgres" for its user postgres.
set -euo pipefail
cd "$(dirname "$0")/.."

install() { # install a Debian package when a command is missing
    command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] && return
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2"
}

answers() { .venv/bin/python -m tests.services "$1" >/dev/null; }

wait_for() {
    for _ in $(seq 45); do
        answers "$1" && return
        sleep 1
    done
    .venv/bin/python -m tests.services "$1" # says why not
}

start_postgres() {
    install pg_ctlcluster postgresql
    local version
    version=$(pg_lsclusters --no-header | awk '$2 == "main" { print $1; exit }')
    pg_ctlcluster --skip-systemctl-redirect "$version" main start || true # it may be starting
    for _ in $(seq 45); do
        pg_isready --quiet --host 127.0.0.1 && break
        sleep 1
    done
    if [ -z "${TEST_POSTGRES_URL:-}" ] && ! answers PostgreSQL; then
        # Debian's own configuration refuses TCP connections without a password.
        su postgres -c "psql -qc \"ALTER USER postgres PASSWORD 'postgres'\""
    fi
}

start_mariadb() {
    install mariadbd mariadb-server
    if ! mariadb-admin --silent ping >/dev/null 2>&1; then
        mkdir -p /run/mysqld && chown mysql: /run/mysqld
        setsid mariadbd-safe --user=mysql >/dev/null 2>&1 &
    fi
    for _ in $(seq 45); do
        mariadb-admin --silent ping >/dev/null 2>&1 && break
        sleep 1
    done
    if [ -z "${TEST_MARIADB_URL:-}" ] && ! answers MariaDB; then
        # Debian's own configuration lets root in over its socket only.
        mariadb -e "CREATE USER IF NOT EXISTS root@127.0.0.1 IDENTIFIED BY '';
                    GRANT ALL ON *.* TO root@127.0.0.1 WITH GRANT OPTION"
    fi
}

install_driver() { # mysqlclient has no wheels for Linux
    .venv/bin/python -c 'import MySQLdb' 2>/dev/null && return
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gcc pkg-config libmariadb-dev
    # The headers of a Python from elsewhere lie beside it.
    [ -e "$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-dev
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-mysql.txt
}

start_redis() {
    install redis-server redis-server
    redis-server --daemonize yes --bind 127.0.0.1 --port 6379 --save "" --appendonly no >/dev/null
}

start_rabbitmq() {
    install rabbitmq-server rabbitmq-server
    rabbitmq-server -detached
}

answers Chromium || install chromium chromium
answers PostgreSQL || start_postgres
install_driver
answers MariaDB || start_mariadb
answers Redis || start_redis
answers RabbitMQ || start_rabbitmq
for server in Chromium PostgreSQL MariaDB Redis RabbitMQ; do wait_for "$server"; done
echo "Chromium, PostgreSQL, MariaDB, Redis and RabbitMQ answer."
