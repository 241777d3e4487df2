"""Writes gold_rows.jsonl: what Python's sqlite3 says to the gold queries of InterCode-SQL, and what SciPy makes of it.

    v/bin/python gold_rows.py DATA/intercode_sql > gold_rows.jsonl

A line a task: its row in ic_spider_dev.json, the number of rows, the first 16 digits of the SHA-256 of the printed list, the
same of the sorted rows, and the reward of the rows in reverse order (see rewards.py, whose environment this needs).
"""

import hashlib
import json
import sqlite3
import sys
from pathlib import Path

from rewards import reward_of


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main():
    folder = Path(sys.argv[1])
    databases = {}
    for index, task in enumerate(json.loads((folder / "ic_spider_dev.json").read_text())):
        name = task["db"]
        if name == "wta_1":
            continue
        if name not in databases:
            databases[name] = sqlite3.connect(":memory:")
            databases[name].executescript((folder / "sqlite_sql" / f"{name}.sql").read_text())
        rows = databases[name].execute(task["gold"].split(";")[0]).fetchall()
        printed = [str(row) for row in rows]
        backwards, _ = reward_of(printed[::-1], printed)
        line = [index, len(rows), digest(str(rows)), digest("\n".join(sorted(printed))), backwards]
        print(json.dumps(line))


if __name__ == "__main__":
    main()
