"""Writes printed.json: queries with the list of rows that Python's sqlite3 returns, printed.

    python3 printed.py > printed.json
"""

import json
import sqlite3

NUMBERS = """0.0 -0.0 1.0 -1.5 0.1 1e-4 1.5e-4 9.9e-5 1e-5 1e15 9999999999999998.0 1e16 1.5e16 123456789012345680.0 1e100
1e-100 1.7976931348623157e308 5e-324 0.30000000000000004 2.0e0/3 1e308*10 -1e308*10 100.0 12.50 4294967296.0 3.0e5
1 -1 9223372036854775807 -9223372036854775808 null""".split()

TEXTS = ["", "a", "it's", 'say "hi"', "both ' and \"", "back\\slash", "tab\there", "line\nbreak", "cr\rhere", "bell\x07",
    "del\x7f", "café", "cafe\u0301", "\u0301alone", "nbsp\u00a0", "soft\u00adhyphen", "zero\u200bwidth", "line\u2028sep",
    "\ufeffbom", "\ue000private", "\u0378none", "\U0001F600", "\U000E0001tag", "\U0010FFFF", "日本", "\u3000wide", "a\u0345b"]

BLOBS = ["00", "", "6162", "27", "22", "2722", "5c", "0a0d09", "7f80ff", "20"]


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def main():
    queries = ["SELECT " + number for number in NUMBERS]
    queries += ["SELECT " + literal(text) for text in TEXTS]
    queries += ["SELECT x'" + blob + "'" for blob in BLOBS]
    queries += [
        "SELECT 1 WHERE 0",
        "SELECT 1, 'a', NULL, 2.5 UNION ALL SELECT 2, 'b', 'c', x'00'",
        "SELECT count(*), avg(column1), sum(column1) FROM (VALUES (1), (2), (4))",
        "SELECT 7/2, 7.0/2, 7%4, -7/2, 1=1, 1<>1, 'a'||1, round(2.5), round(2.345, 2)",
        "SELECT upper('straße'), length('日本'), substr('héllo', 2, 3), CAST('12abc' AS INTEGER), CAST(3.9 AS INTEGER)",
    ]
    connection = sqlite3.connect(":memory:")
    cases = [[query, str(connection.execute(query).fetchall())] for query in queries]
    print("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]")


if __name__ == "__main__":
    main()
