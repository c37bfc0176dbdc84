#!/usr/bin/env python3
"""Writes data/shop.sqlite: a small shop, the sample that the examples read.

    python3 data/make-shop.py

Needs nothing but Python. The same rows come out on every run: what looks random
comes from a counter that is mixed with SHA-256, and dates are counted from a
fixed day.
"""

import hashlib
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

TARGET = Path(__file__).resolve().parent / "shop.sqlite"
OPENED = datetime(2023, 1, 9, 8, 0, 0)

SCHEMA = """
CREATE TABLE customers (
    id            INTEGER PRIMARY KEY,
    email         TEXT NOT NULL UNIQUE,
    name          TEXT NOT NULL,
    city          TEXT,
    country       CHAR(2) NOT NULL,
    newsletter    BOOLEAN NOT NULL,
    balance_cents INTEGER NOT NULL DEFAULT 0,
    joined_on     DATE NOT NULL,
    last_seen_at  DATETIME
);
CREATE TABLE products (
    sku           TEXT NOT NULL PRIMARY KEY,
    title         TEXT NOT NULL,
    category      TEXT NOT NULL,
    description   TEXT,
    price_cents   INTEGER NOT NULL,
    vat_rate      DECIMAL(4,3) NOT NULL,
    weight_kg     REAL,
    in_stock      INTEGER NOT NULL,
    discontinued  BOOLEAN NOT NULL DEFAULT 0,
    fingerprint   BLOB NOT NULL
);
CREATE TABLE orders (
    id            INTEGER PRIMARY KEY,
    customer_id   INTEGER NOT NULL REFERENCES customers (id),
    status        TEXT NOT NULL CHECK (status IN ('open', 'paid', 'shipped', 'returned')),
    placed_at     TIMESTAMP NOT NULL,
    shipped_at    TIMESTAMP,
    shipping_cents INTEGER NOT NULL,
    note          TEXT
);
CREATE INDEX orders_by_customer ON orders (customer_id);
CREATE TABLE order_items (
    order_id      INTEGER NOT NULL REFERENCES orders (id),
    line          INTEGER NOT NULL,
    sku           TEXT NOT NULL REFERENCES products (sku),
    quantity      INTEGER NOT NULL,
    unit_cents    INTEGER NOT NULL,
    discount      REAL,
    PRIMARY KEY (order_id, line)
) WITHOUT ROWID;
CREATE TABLE reviews (
    id            INTEGER PRIMARY KEY,
    sku           TEXT NOT NULL REFERENCES products (sku),
    customer_id   INTEGER NOT NULL REFERENCES customers (id),
    stars         INTEGER NOT NULL CHECK (stars BETWEEN 1 AND 5),
    title         TEXT,
    body          TEXT NOT NULL,
    helpful_share REAL,
    written_at    TIMESTAMP NOT NULL
);
CREATE INDEX reviews_by_product ON reviews (sku);
"""

GIVEN = """Ada Ben Chloé Dana Emre Fatima Goran Hana Ines Jonas Kaito Leïla Milan Nadia Oskar
Priya Quentin Rosa Søren Tomás Uma Viktor Wren Xiomara Yusuf Zoë""".split()
FAMILY = """Almeida Becker Castillo Dubois Eriksen Fischer Grünwald Haddad Ivanova Jensen Kovács
Lindqvist Moreau Nakamura Okafor Petrov Quispe Rossi Silva Tanaka Ueda Vermeer Weiß Yilmaz
Zhang""".split()
CITIES = [("Lisbon", "PT"), ("Lyon", "FR"), ("Graz", "AT"), ("Malmö", "SE"), ("Gdańsk", "PL"),
          ("Cork", "IE"), ("Zürich", "CH"), ("Turin", "IT"), ("Sevilla", "ES"), ("Århus", "DK"),
          ("東京", "JP"), (None, "NL")]
# category: (things, materials, price range in cents, weight range in grams)
GOODS = {
    "kitchen": (["Kettle", "Skillet", "Chef's knife", "Colander", "Mixing bowl", "Coffee grinder"],
                ["steel", "cast-iron", "enamel", "bamboo"], (1290, 14900), (200, 4200)),
    "garden": (["Trowel", "Watering can", "Pruning shears", "Bird feeder", "Seed tray"],
               ["copper", "oak", "zinc", "recycled"], (690, 7900), (80, 2600)),
    "office": (["Desk lamp", "Notebook", "Pen holder", "Foot rest", "Monitor stand"],
               ["walnut", "linen", "brass", "felt"], (490, 18900), (60, 5200)),
    "outdoor": (["Tent", "Sleeping mat", "Lantern", "Dry bag", "Camp stove"],
                ["canvas", "ripstop", "titanium", "down"], (1990, 39900), (120, 6100)),
}
GOOD = ["The {thing} does exactly what it should.", "Sturdy, and it looks better than in the pictures.",
        "I have used it every day for {weeks} weeks and it still feels new.",
        "The {material} has a lovely finish.", "Bought a second one for my sister.",
        "Arrived in {city} two days early, well packed.", "Worth every cent."]
MIXED = ["It works, but the {material} scratches easily.", "Smaller than I had expected.",
         "The manual is only in one language - luckily not much can go wrong.",
         "Fine for the price, nothing more.", "After {weeks} weeks a screw came loose; easy to fix."]
BAD = ["The {thing} broke after {weeks} weeks.", "Arrived with a dent and no note.",
       "The {material} smells odd and the smell does not go away.",
       "Customer service was kind, the {thing} was not.", "I sent it back."]
TITLES = {1: ["Disappointed", "Do not buy"], 2: ["Not for me", None], 3: ["It's OK", None],
          4: ["Good", "Would buy again"], 5: ["Love it ❤", "Perfect", "Five stars"]}
NOTES = ["Please ring twice.", "It's a gift: no invoice in the box, please.", "Leave with the neighbour.",
         "Deliver after 18:00\nor on Saturday."]


class Dice:
    """Numbers that look random and are the same on every machine."""

    def __init__(self, seed):
        self.seed, self.count = seed, 0

    def below(self, limit):
        self.count += 1
        digest = hashlib.sha256(f"{self.seed}/{self.count}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % limit

    def between(self, low, high):
        return low + self.below(high - low + 1)

    def pick(self, options):
        return options[self.below(len(options))]

    def chance(self, percent):
        return self.below(100) < percent


def moment(minutes):
    return (OPENED + timedelta(minutes=minutes)).strftime("%Y-%m-%d %H:%M:%S")


def customers(count):
    dice = Dice("customers")
    for number in range(1, count + 1):
        given, family = dice.pick(GIVEN), dice.pick(FAMILY)
        city, country = dice.pick(CITIES)
        day = number * 2 + dice.below(3)
        seen = moment(day * 1440 + dice.below(400_000)) if dice.chance(85) else None
        balance = dice.between(-2500, 12_000) if dice.chance(20) else 0
        yield (number, f"{given}.{family}{number}@example.org".lower(), f"{given} {family}", city, country,
               int(dice.chance(40)), balance, moment(day * 1440)[:10], seen)


def products():
    dice = Dice("products")
    for category, (things, materials, prices, grams) in GOODS.items():
        for thing in things:
            for material in materials:
                sku = f"{category[:2]}{thing[:3]}{material[:3]}".upper().replace("'", "").replace(" ", "")
                text = (f"A {material} {thing.lower()} for the {category}. Made to be repaired: "
                        f"spare parts are kept for {dice.between(5, 20)} years.")
                yield (sku, f"{thing}, {material}", category, text if dice.chance(90) else None,
                       dice.between(*prices) // 10 * 10 + 9, "0.21" if dice.chance(70) else "0.055",
                       dice.between(*grams) / 1000 if dice.chance(95) else None,
                       dice.below(240), int(dice.chance(8)), hashlib.sha256(sku.encode()).digest()[:16])


def orders(count, customer_count, goods):
    """Orders and their items, in the order in which they were placed."""
    dice = Dice("orders")
    minutes = 0
    for number in range(1, count + 1):
        minutes += dice.between(20, 900)
        status = dice.pick(["shipped"] * 7 + ["paid", "open", "returned"])
        shipped = moment(minutes + dice.between(300, 6000)) if status in ("shipped", "returned") else None
        note = dice.pick(NOTES) if dice.chance(9) else None
        items = []
        for line in range(1, dice.pick([1, 1, 2, 2, 3, 4]) + 1):
            sku, price = dice.pick(goods)
            discount = dice.pick([0.05, 0.1, 0.125, 0.25]) if dice.chance(15) else None
            items.append((number, line, sku, dice.pick([1, 1, 1, 2, 3]), price, discount))
        yield (number, dice.between(1, customer_count), status, moment(minutes), shipped,
               dice.pick([0, 490, 990]), note), items


def reviews(count, customer_count, goods):
    dice = Dice("reviews")
    titles = {sku: title for sku, title in goods}
    for number in range(1, count + 1):
        sku = dice.pick(list(titles))
        thing, material = titles[sku].lower().split(", ")
        stars = dice.pick([1, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5])
        stock = BAD if stars < 3 else MIXED if stars == 3 else GOOD
        start = dice.below(len(stock))
        lines = [stock[(start + step) % len(stock)] for step in range(dice.between(1, 4))]
        body = " ".join(lines).format(thing=thing, material=material, weeks=dice.between(2, 60),
                                      city=dice.pick([city for city, _ in CITIES if city]))
        helpful = dice.below(101) / 100 if dice.chance(60) else None
        yield (number, sku, dice.between(1, customer_count), stars, dice.pick(TITLES[stars]), body,
               helpful, moment(number * 700 + dice.below(600)))


def insert(database, table, rows):
    rows = list(rows)
    marks = ", ".join("?" * len(rows[0]))
    database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)


def main():
    TARGET.unlink(missing_ok=True)
    database = sqlite3.connect(TARGET)
    database.execute("PRAGMA page_size = 4096")
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute(f"PRAGMA application_id = {0x53484F50}")  # "SHOP"
    database.executescript(SCHEMA)
    goods = list(products())
    placed = list(orders(1500, 400, [(row[0], row[4]) for row in goods]))
    insert(database, "customers", customers(400))
    insert(database, "products", goods)
    insert(database, "orders", (order for order, _ in placed))
    insert(database, "order_items", (item for _, items in placed for item in items))
    insert(database, "reviews", reviews(1200, 400, [(row[0], row[1]) for row in goods]))
    database.commit()
    database.execute("VACUUM")
    database.close()
    print(f"{TARGET.name}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
