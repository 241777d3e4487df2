"""Writes rewards.json: answers and gold rows with the reward that SciPy and NumPy give them.

    python3 -m venv v && v/bin/pip install scipy==1.17.1 numpy==2.4.6
    v/bin/python rewards.py > rewards.json

The reward is the intersection over union of the two multisets of rows; where Kendall's tau-b of the common rows, each list
in its own order, is a number, it is a factor, and the product is rounded to two digits by NumPy.
"""

import json
import random
from collections import Counter

import numpy as np
from scipy.stats import kendalltau


def common_rows(rows, common):
    left, kept = Counter(common), []
    for row in rows:
        if left[row] > 0:
            left[row] -= 1
            kept.append(row)
    return kept


def tau_of(first, second):
    if len(first) < 2:
        return None
    tau = kendalltau(np.array(first), np.array(second)).statistic
    return None if np.isnan(tau) else np.float64(tau)


def reward_of(answer, gold):
    a, g = Counter(answer), Counter(gold)
    union = sum((a | g).values())
    if union == 0:
        return 1.0, None
    iou = sum((a & g).values()) / union
    tau = tau_of(common_rows(answer, a & g), common_rows(gold, a & g))
    return (iou, None) if tau is None else (float(np.round(tau * iou, 2)), float(tau))


def cases():
    yield from [
        ([], []),
        ([], ["(1,)"]),
        (["(1,)"], []),
        (["(1,)"], ["(1,)"]),
        (["(1,)"], ["(2,)"]),
        (["(1,)", "(2,)"], ["(2,)", "(1,)"]),
        (["(1,)", "(2,)", "(3,)"], ["(1,)", "(3,)", "(2,)"]),
        # All common rows are equal: no tau.
        (["(1,)"] * 3, ["(1,)"] * 5),
        (["(1,)"] * 3 + ["(2,)"], ["(1,)"] * 5 + ["(3,)"]),
        # Ties in both lists at the same and at other places.
        (["('a',)", "('b',)", "('a',)"], ["('a',)", "('a',)", "('b',)"]),
        (["('b',)", "('a',)", "('a',)"], ["('a',)", "('a',)", "('b',)"]),
        # Of a row that occurs more often in one list, the first ones count.
        (["('x',)", "('y',)", "('x',)", "('x',)"], ["('x',)", "('y',)"]),
        (["('x',)", "('y',)"], ["('y',)", "('x',)", "('x',)", "('y',)"]),
        # As text, 10 comes before 9; code points, not an alphabet.
        (["(9,)", "(10,)", "(11,)"], ["(10,)", "(11,)", "(9,)"]),
        (["('Z',)", "('a',)", "('Ä',)", "('ä',)"], ["('a',)", "('ä',)", "('Z',)", "('Ä',)"]),
        (["('\U0001F600',)", "('\uFFFD',)", "('é',)"], ["('é',)", "('\U0001F600',)", "('\uFFFD',)"]),
        # Rounding: 1/8 and 3/8 lie between two hundredths.
        (["(%d,)" % i for i in range(2)], ["(%d,)" % i for i in range(16)]),
        (["(%d,)" % i for i in range(6)], ["(%d,)" % i for i in range(16)]),
        (["(%d,)" % i for i in reversed(range(2))], ["(%d,)" % i for i in range(16)]),
        (["(%d,)" % i for i in range(2)] + ["(0.0,)"], ["(%d,)" % i for i in range(399)]),
        (["(None,)", "(1.0,)", "('None',)"], ["('None',)", "(None,)", "(1.0,)"]),
    ]
    draw = random.Random(0)
    for n_kinds in [1, 2, 3, 7, 40]:
        for length in [1, 2, 3, 5, 12, 40]:
            for _ in range(5):
                rows = [str((draw.randrange(n_kinds), "é" * draw.randrange(2))) for _ in range(length)]
                other = rows[:]
                draw.shuffle(other)
                for place in range(draw.randrange(1 + length)):
                    other[place] = str((draw.randrange(n_kinds), ""))
                yield rows, other[: draw.randrange(length + 1)]


def main():
    found = []
    for answer, gold in cases():
        reward, tau = reward_of(answer, gold)
        found.append({"answer": answer, "gold": gold, "reward": reward, "tau": tau})
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in found)
    print("[\n" + lines + "\n]")


if __name__ == "__main__":
    main()
