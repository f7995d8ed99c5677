"""The same check-ins by SQLite: WAL, synchronous=FULL, groups as large as ours.

    sqlite.py FILE fill DEVICES
    sqlite.py FILE run DEVICES SECONDS same|else

A check-in reads a device's row and replaces it; one that says something else replaces the
inventory beside it and adds an event. There is no queue and no other thread in its way, and a group
is in the order of its keys, which is best for SQLite.
"""

import json
import resource
import sqlite3
import sys
import time

GROUP = 512
STRIDE = 61_803
ROW = b"r" * 330
INVENTORY = b" " * 300
EVENT = b"e" * 120


def opened(path):
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("PRAGMA synchronous=FULL")
    base.execute("PRAGMA cache_size=-262144")
    return base


def fill(base, devices):
    base.execute("CREATE TABLE device (number INTEGER PRIMARY KEY, row BLOB)")
    base.execute("CREATE TABLE inventory (number INTEGER PRIMARY KEY, body BLOB)")
    base.execute("CREATE TABLE event (number INTEGER, seq INTEGER, body BLOB, PRIMARY KEY (number, seq)) WITHOUT ROWID")
    base.execute("BEGIN")
    base.executemany("INSERT INTO device VALUES (?, ?)", ((n, ROW) for n in range(devices)))
    base.executemany("INSERT INTO inventory VALUES (?, ?)", ((n, INVENTORY) for n in range(devices)))
    base.execute("COMMIT")
    return {"devices": devices}


def run(base, devices, seconds, says):
    newest = base.execute("SELECT max(seq) FROM event").fetchone()[0] or 0
    first, turn, count = 0, newest + 1, 0
    cpu, start = time.process_time(), time.monotonic()
    waits = []
    while time.monotonic() < start + seconds:
        turns = range(first, min(first + GROUP, devices))
        group = sorted(turn * STRIDE % devices for turn in turns)
        begun = time.monotonic()
        base.execute("BEGIN IMMEDIATE")
        for number in group:
            base.execute("SELECT row FROM device WHERE number = ?", (number,)).fetchone()
        base.executemany("UPDATE device SET row = ? WHERE number = ?", [(ROW, n) for n in group])
        if says == "else":
            base.executemany("UPDATE inventory SET body = ? WHERE number = ?", [(INVENTORY, n) for n in group])
            base.executemany("INSERT INTO event VALUES (?, ?, ?)", [(n, turn, EVENT) for n in group])
        base.execute("COMMIT")
        waits.append(time.monotonic() - begun)
        count += len(group)
        first += GROUP
        if first >= devices:
            first, turn = 0, turn + 1
    took = time.monotonic() - start
    waits.sort()
    return {
        "per_sec": count / took,
        "p50_ms": waits[len(waits) // 2] * 1e3,
        "p99_ms": waits[len(waits) * 99 // 100] * 1e3,
        "cpu_us": (time.process_time() - cpu) * 1e6 / count,
        "version": sqlite3.sqlite_version,
        "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def main():
    path, what, devices, *rest = sys.argv[1:]
    base = opened(path)
    told = fill(base, int(devices)) if what == "fill" else run(base, int(devices), float(rest[0]), rest[1])
    print(json.dumps(told))


main()
