#!/usr/bin/env bash
# Checks that what this crate writes passes the validator of the Agent Skills format (the Python package skills-ref), with
# texts that YAML finds awkward, and that the validator reads the same descriptions. Needs python3 with venv and pip.
set -euo pipefail
cd "$(dirname "$0")/../.."

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "skills-ref==0.1.1"
cargo run --quiet --release --locked -p reskill-skills --example awkward_library -- "$work/library"

# Every skill passes; the validator's reader finds the metadata as strings, and the descriptions whole.
"$work/venv/bin/python" - "$work/library" <<'PYTHON'
import pathlib, sys
from skills_ref.parser import read_properties
from skills_ref.validator import validate

homes = sorted(pathlib.Path(sys.argv[1]).iterdir())
assert len(homes) >= 20, homes
for home in homes:
    text = (home / "SKILL.md").read_text(encoding="utf-8")
    problems = validate(home)
    assert problems == [], f"{home}: {problems}\n{text}"
    found = read_properties(home)
    assert found.metadata["reskill-version"] == "3", (home, found)
    body = text.split("\n---\n\n", 1)[1]
    assert body.startswith(found.description[:20]), (home, found.description, body[:40])
# The banks that come with the project.
kept = sorted(file.parent for folder in ("configs/banks", "docs/results/banks") for file in pathlib.Path(folder).rglob("SKILL.md"))
assert len(kept) >= 12, kept
for home in kept:
    problems = validate(home)
    assert problems == [], f"{home}: {problems}"
print(f"{len(homes) + len(kept)} skills pass skills-ref 0.1.1")
PYTHON
