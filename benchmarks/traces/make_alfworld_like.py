"""Lengths of one GRPO step on games like ALFWorld: writes alfworld-like.json beside this file.

16 tasks of 8 rollouts, at most 50 turns. Easy tasks are mostly solved within 8 to 30 turns, hard ones run out of turns, so
that about 60% of the turns of all environments are played. In tokens: an opening of about 400 (system text, task, general
guidance), which the rollouts of a task share; per turn an entry of about 45 that joins the history (observation and
action), a branch of about 190 that does not (admissible commands, instruction, triggered guidance), and a reply of about 60
(a sentence of reasoning and an action). The prompt of a turn has about 1,300 tokens on average, 2,700 at the fiftieth.

No clock and no library beyond Python's own: the same file every time.
"""

import json
import pathlib
import random

rng = random.Random(20260601)


def around(mean: float, deviation: float, least: int) -> int:
    return max(least, round(rng.gauss(mean, deviation)))


groups = []
for _ in range(16):
    opening = around(400, 40, 200)
    p_success = rng.betavariate(0.5, 0.4)
    episodes = []
    for _ in range(8):
        n_turns = rng.randint(8, 30) if rng.random() < p_success else 50
        episodes.append([[around(45, 14, 8), around(190, 40, 60), around(60, 14, 12)] for _ in range(n_turns)])
    groups.append({"opening": opening, "episodes": episodes})

text = json.dumps({"groups": groups}, separators=(",", ":"))
path = pathlib.Path(__file__).with_name("alfworld-like.json")
path.write_text(text.replace('{"opening"', '\n{"opening"') + "\n")
turns = [len(e) for g in groups for e in g["episodes"]]
print(f"{path.name}: {len(turns)} episodes, {sum(turns)} turns, {sum(turns) / (50 * len(turns)):.0%} of the most possible")
