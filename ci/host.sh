# shellcheck shell=bash
# A throw-away host: one temporary directory with walrs, a repository and PostgreSQL servers, all of which are gone in the
# end. Sourced after ci/lib.sh. The source runs on port 5432, copies on 5433.

work=
load=

# walrs and the servers know the repository from the environment, the rest from their defaults.
choose_environment() {
    ON_HOST=("${AS_SERVER[@]}" WALRS_REPOSITORY="file://$work/repository" PGDATA="$work/data"
        PGHOST="$work" PGPORT=5432 PGUSER=postgres PGDATABASE=postgres)
}

walrs() {
    "${ON_HOST[@]}" "$work/walrs" "$@"
}

create_directory() {
    mkdir "$1"
    chmod 0700 "$1"
    [ "$(id -u)" -ne 0 ] || chown postgres:postgres "$1"
}

# create_workplace NAME: a short path that the server's user can reach, with the binary in it: the checkout may be closed
# to that user.
create_workplace() {
    work=$(mktemp -d "/tmp/walrs-$1-XXXXXX")
    chmod 0755 "$work"
    [ "$(id -u)" -ne 0 ] || chown postgres:postgres "$work"
    install -m 0755 target/debug/walrs "$work/walrs"
    create_directory "$work/repository"
    choose_environment
}

create_cluster() {
    "${ON_HOST[@]}" "$POSTGRES_BIN/initdb" --username=postgres --auth=trust --data-checksums --pgdata="$work/data"
    "${ON_HOST[@]}" tee -a "$work/data/postgresql.conf" >/dev/null <<CONFIGURATION
listen_addresses = ''
archive_mode = on
archive_command = '$work/walrs wal-push %p'
CONFIGURATION
    start_server "$work/data" 5432
}

# start_server DATA PORT: the port only names the socket.
start_server() {
    "${ON_HOST[@]}" "$POSTGRES_BIN/pg_ctl" start --pgdata="$1" --wait --timeout=300 --log="$1.log" \
        --options="-k $work -p $2 -h ''" || fail "PostgreSQL does not start: $(tail -n 40 "$1.log")"
}

stop_server() {
    [ ! -e "$1/postmaster.pid" ] || "${ON_HOST[@]}" "$POSTGRES_BIN/pg_ctl" stop --pgdata="$1" --mode=immediate >/dev/null || true
}

# sql PORT STATEMENT: on 5432 the source, on 5433 the restored copy.
sql() {
    "${ON_HOST[@]}" "$POSTGRES_BIN/psql" --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1 \
        --port="$1" --command="$2"
}

start_load() {
    "${ON_HOST[@]}" "$POSTGRES_BIN/pgbench" --no-vacuum --client=2 --time=600 >"$work/pgbench.log" 2>&1 &
    load=$!
}

stop_load() {
    kill "$load" 2>/dev/null || true
    wait "$load" || true
    load=
}

wait_archived() {
    local attempt
    for attempt in $(seq 300); do
        [ "$(sql 5432 "select last_archived_wal >= '$1' from pg_stat_archiver")" != t ] || return 0
        sleep 0.2
    done
    fail "segment $1 was not archived in $((attempt / 5)) s; see the server's log: $(tail -n 20 "$work/data.log")"
}

# wait_promoted DATA: until the copy on port 5433, whose log lies beside DATA, has left recovery.
wait_promoted() {
    local attempt
    for attempt in $(seq 600); do
        [ "$(sql 5433 'select pg_is_in_recovery()')" != f ] || return 0
        sleep 0.2
    done
    fail "recovery did not end in $((attempt / 5)) s: $(tail -n 20 "$1.log")"
}

# pgbench moves money in four tables at once: at any moment, torn from no transaction, the sums agree.
balances_agree() {
    sql 5433 'select count(distinct total) = 1 from (
        select sum(abalance) as total from pgbench_accounts union all
        select sum(bbalance) from pgbench_branches union all
        select sum(tbalance) from pgbench_tellers union all
        select coalesce(sum(delta), 0) from pgbench_history) totals'
}
