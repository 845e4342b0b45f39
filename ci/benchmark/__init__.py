"""What `ci/bench` is made of.

Owns instruments, data, contestants, rows and the report. Knows walrs by its command line alone.

    arguments.py    what the command line asks for
    builds.py       the programs that take part
    host.py         the throw-away user, directory and processes
    meter.py        an instrument: runs the steps of one measurement and counts what they cost
    measure.py      measurements, and jobs for the instrument
    cluster.py      PostgreSQL servers
    data.py         what is in them, and how it changes
    stores.py       a directory, and a bucket with and without latency
    contestants.py  what walrs, pgbackrest, pg_basebackup and cp are asked to do
    row.py          a row of the report: contestants take turns
    wal_rows.py, backup_rows.py, restore_rows.py, recovery_rows.py, start_rows.py
    targets.py      what was promised, and whether it is kept
    machine.py, report.py, charts.py
"""
