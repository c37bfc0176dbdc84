"""Writers that commit late: `writers.py URL SECONDS WRITERS HOLD_SECONDS SEED`.

Each transaction stamps its rows with `now()`, which is its *start*, and then
stays open for up to HOLD_SECONDS: rows become visible in another order than
that of their stamps. A third are updates, a third inserts, a third deletes; some
are made in a subtransaction that is rolled back and made again, some roll back
as a whole. The last line says how many of each were committed.
"""

import collections
import random
import sys
import threading
import time

import psycopg

COLUMNS = "customer_id, status, email, amount, qty, price, paid, created_at, updated_at, uid"
INSERT = (
    f"insert into public.orders (id, {COLUMNS}) "
    "select %s, 1, 'late', 'late@example.com', 1, 1, 1, true, now(), now(), gen_random_uuid()"
)
UPDATE = "update public.orders set qty = qty + 1, updated_at = now() where id = any(%s)"
DELETE = "delete from public.orders where id = any(%s)"


def change(cursor, dice, number, serial, greatest):
    """One statement; its kind and how many rows it touched."""
    kind = dice.choice(("update", "insert", "delete"))
    if kind == "insert":
        cursor.execute(INSERT, (10_000_000 * (number + 1) + serial,))
    else:
        # In order, so that two writers do not wait for each other.
        ids = sorted(dice.sample(range(1, greatest), 3 if kind == "update" else 1))
        cursor.execute(UPDATE if kind == "update" else DELETE, (ids,))
    return kind, cursor.rowcount


def transaction(db, dice, number, serial, greatest, hold):
    with db.cursor() as cursor:
        cursor.execute("select now()")
        if dice.random() < 0.2:
            cursor.execute("savepoint s")
            change(cursor, dice, number, serial, greatest)
            cursor.execute("rollback to s")
        done = change(cursor, dice, number, serial, greatest)
    time.sleep(dice.random() * hold)
    if dice.random() < 0.1:
        db.rollback()
        return "rollback", 1
    db.commit()
    return done


def writer(url, number, seconds, hold, seed, counts):
    dice, serial = random.Random(seed + number), 0
    with psycopg.connect(url) as db:
        db.execute("set lock_timeout = '3s'")
        db.commit()
        greatest = db.execute("select max(id) from public.orders where id < 10000000").fetchone()[0]
        db.rollback()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            serial += 1
            try:
                kind, rows = transaction(db, dice, number, serial, greatest, hold)
                counts[kind] += rows
            except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable):
                db.rollback()


def main():
    url, seconds, writers, hold, seed = sys.argv[1], *map(float, sys.argv[2:6])
    counts = collections.Counter()
    threads = [
        threading.Thread(target=writer, args=(url, number, seconds, hold, int(seed), counts))
        for number in range(int(writers))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))


if __name__ == "__main__":
    main()
