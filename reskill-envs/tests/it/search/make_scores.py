"""Exact match and F1 of awkward answers, as Python computes them.

usage: make_scores.py > answer_scores.json

The normalisation is that of SQuAD's evaluation as Search-R1 uses it: str.lower, then every character of string.punctuation
out, then a, an and the out as whole words (re's \\b), then str.split and a blank between the words. F1 is that of HotpotQA's
evaluation, the best over the gold answers; yes, no and noanswer match themselves only. Python 3.11.
"""

import collections
import json
import re
import string

CASES = [
    # (answer, gold answers)
    ("Paris", ["paris"]), ("The Paris", ["paris"]), ("paris.", ["Paris!"]), ("a theatre", ["theatre"]),
    ("an a the", [""]), ("", ["the"]), ("", [""]), ("", ["x"]), ("   ", ["..."]), ("x", []), ("the", ["a", "an"]),
    ("U.S.A.", ["usa"]), ("o'neill", ["ONeill"]), ("rock-and-roll", ["rock and roll"]), ("rock-and-roll", ["rockandroll"]),
    ("“Hello” – world…", ["hello world"]), ("“Hello”", ["\"Hello\""]), ("“the” end", ["“ ” end"]), ("a–b", ["–b"]),
    ("l’été", ["lété"]), ("l'été", ["lété"]), ("the–an–a", ["– –"]), ("don’t the", ["don’t"]),
    ("theatre", ["re"]), ("another", ["other"]), ("banana", ["banana"]), ("Athens the", ["athens"]), ("AN APPLE", ["apple"]),
    ("1,000", ["1000"]), ("1 000", ["1000"]), ("3.14", ["314"]), ("-5", ["5"]), ("5%", ["5"]), ("½", ["1/2"]), ("²", ["2"]),
    ("October 5, 1987", ["october 5 1987"]), ("5 October 1987", ["October 5, 1987"]), ("1987", ["October 5, 1987"]),
    ("İstanbul", ["istanbul"]), ("İstanbul", ["i̇stanbul"]), ("ΟΔΟΣ", ["οδος"]), ("ΟΔΟΣ", ["οδοσ"]), ("STRASSE", ["straße"]),
    ("Ｆｕｌｌ", ["full"]), ("ﬁn", ["fin"]), ("e\u0301tude", ["étude"]), ("a\u0301 la", ["\u0301 la"]), ("東京の a 塔", ["東京の 塔"]),
    ("東京a", ["東京"]), ("а", [""]), ("Ⅳ", ["ⅳ"]), ("ａ the", ["ａ"]), ("अ the", ["अ"]), ("aा", ["ा"]), ("Ⓐ the", ["ⓐ"]),
    ("x\u00a0y", ["x y"]), ("x\u200by", ["x y"]), ("x\u3000y", ["x y"]), ("x\u001fy", ["x y"]), ("x\u0085y", ["x y"]),
    ("x\ty\nz", ["x y z"]), ("\ufeffx", ["x"]), ("x_y", ["xy"]), ("_a_", [""]), ("a_b the", ["ab"]), ("`x`", ["x"]), ("x\\y", ["xy"]),
    ("yes", ["yes"]), ("Yes!", ["yes"]), ("yes", ["no"]), ("yes it is", ["yes"]), ("no", ["no one", "no"]), ("no one", ["no"]),
    ("noanswer", ["noanswer"]), ("no answer", ["noanswer"]), ("yes", ["the yes"]),
    ("new york", ["york", "new york city", "new"]), ("new new york", ["new york york"]), ("b a c", ["c a b"]),
    ("a b c d", ["b c", "c d e"]), ("x y", ["y z", "x z"]), ("x x x", ["x"]), ("x", ["x x x"]), ("p q r s t", ["q s u", "p q r"]),
    ("the who", ["who"]), ("The The", [""]), ("the the band", ["band"]), ("A", ["a"]), ("Vitamin A", ["vitamin"]),
    ("🙂 the 🙂", ["🙂 🙂"]), ("🙂a🙂", ["🙂 🙂"]), ("naïve a–the", ["naïve –"]), ("«a»", ["« »"]), ("¿the?", ["¿"]), ("‘an’", ["‘ ’"]),
]


def is_article(word):
    return word in ("a", "an", "the")


def normalise(text):
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b\w+\b", lambda word: " " if is_article(word[0]) else word[0], kept).split())


def f1(answer, gold):
    closed = ("yes", "no", "noanswer")
    if answer != gold and (answer in closed or gold in closed):
        return 0.0
    a, g = answer.split(), gold.split()
    common = sum((collections.Counter(a) & collections.Counter(g)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(a), common / len(g)
    return 2 * precision * recall / (precision + recall)


def main():
    rows = []
    for answer, gold in CASES:
        said, wanted = normalise(answer), [normalise(g) for g in gold]
        # The same by the pattern that the benchmarks write.
        plain = lambda text: " ".join(re.sub(r"\b(a|an|the)\b", " ", "".join(c for c in text.lower() if c not in string.punctuation)).split())
        assert said == plain(answer) and wanted == [plain(g) for g in gold], answer
        rows.append(dict(answer=answer, gold=gold, normalised=said, exact_match=said in wanted,
                         f1=max((f1(said, g) for g in wanted), default=0.0)))
    print("[")
    print(",\n".join(json.dumps(row) for row in rows))
    print("]")


if __name__ == "__main__":
    main()
