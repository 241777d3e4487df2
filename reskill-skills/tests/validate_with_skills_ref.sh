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

n=0
for skill in "$work"/library/*/; do
    "$work/venv/bin/skills-ref" validate "$skill" >"$work/out" 2>&1 || { cat "$work/out" "$skill/SKILL.md"; exit 1; }
    n=$((n + 1))
done
# The validator's reader finds the metadata as strings, and the descriptions whole.
"$work/venv/bin/python" - "$work/library" <<'PYTHON'
import sys, pathlib
from skills_ref.parser import read_properties
for home in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    found = read_properties(home)
    assert found.metadata["reskill-version"] == "3", (home, found)
    body = (home / "SKILL.md").read_text(encoding="utf-8").split("\n---\n\n", 1)[1]
    assert body.startswith(found.description[:20]), (home, found.description, body[:40])
PYTHON
test "$n" -ge 20
echo "$n skills pass skills-ref 0.1.1"
