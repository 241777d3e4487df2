#!/usr/bin/env python3
"""Records episodes of the original engine, for the tests to compare with.

    python -m venv venv && venv/bin/pip install "textworld[pddl]==1.7.0"
    venv/bin/pip install --no-deps alfworld==0.4.2
    venv/bin/python make_transcripts.py TREE OUT.jsonl.gz [--policies a,b] [--seed N] [--hash] [--ids FILE]

TREE holds <split>/<task>/<trial>/game.tw-pddl. Each line of OUT is one episode:
{"id", "kind", "reset": {"obs", "admissible"}, "steps": [{"action", "obs", "admissible", "score", "done", "won"}]}.
With --hash a line is {"id", "kind", "actions", "sha256"}: the digest of the same episode, and none of its text.

Policies (each draws from a stream of its own, seeded by --seed, the id and its name):
  walkthrough  the file's solution, then ten random commands in the won game
  random       40 random admissible commands
  containers   visits receptacles, opens, closes, examines, opens again; takes and puts back
  pairs        looks for two things of a kind, carries them about, swaps them, prefers what is not "go to"
  hostile      repeats, stale commands, unknown ones, odd blanks and case, nothing at all
"""
import argparse
import gzip
import hashlib
import json
import pathlib
import random
import sys

import textworld
from alfworld.agents.utils.misc import Demangler
from textworld.envs.pddl import PddlEnv


class Named(textworld.core.Wrapper):
    """Gives entities the names that ALFWorld gives them."""

    def load(self, *args, **kwargs):
        super().load(*args, **kwargs)
        demangler = Demangler(game_infos=self._entity_infos, shuffle=False)
        for info in self._entity_infos.values():
            info.name = demangler.demangle_alfred_name(info.id)


ODD = ["", " ", "\n", "\t", "LOOK", "Look", "  look ", "look\n", "\tinventory ", "look.", "look look", "go to", "go  to bed 1",
       "dance with fridge 1", "take", "take  from ", "open", "examine", "help me", "HELP", "xyzzy", "look\u00a0", "\u00a0look",
       "r\u00e9sum\u00e9 1", "\u4e2d\u6587", "go to {r}", "#look#", "\"look\"", "look\0", "a" * 3000]


def distort(rng, command):
    """A command that is nearly another."""
    return rng.choice([
        command.upper(), command.capitalize(), f"  {command}", f"{command}  ", f"\t{command}\n", command.replace(" ", "  ", 1),
        command + ".", command[:-1], command + " 1", command.replace("1", "2"), command.replace(" to ", " TO "), f"{command} {command}",
    ])


def choose(policy, rng, turn, admissible, seen, walkthrough):
    """The next command, or None at the end."""
    if policy == "walkthrough":
        if turn < len(walkthrough):
            return walkthrough[turn]
        return rng.choice(admissible) if turn < len(walkthrough) + 10 else None
    if turn >= 40:
        return None
    if policy == "random":
        return rng.choice(admissible)
    if policy == "hostile":
        draw = rng.random()
        if draw < 0.25:
            return rng.choice(ODD)
        if draw < 0.45:
            return distort(rng, rng.choice(admissible))
        if draw < 0.60 and seen:
            return seen[-1]
        if draw < 0.75:
            return rng.choice(sorted(set(walkthrough + seen)) or admissible)
        return rng.choice(admissible)
    goes = [command for command in admissible if command.startswith("go to ")]
    others = [command for command in admissible if not command.startswith("go to ")]
    if policy == "containers":
        here = [c for c in others if c.split(" ")[0] in ("open", "close", "examine")]
        moves = [c for c in others if c.split(" ")[0] in ("take", "move", "put")]
        draw = rng.random()
        if here and draw < 0.5:
            return rng.choice(here)
        if moves and draw < 0.7:
            return rng.choice(moves)
        return rng.choice(goes or admissible)
    # pairs: things whose kind occurs twice come first
    kinds = {}
    for command in admissible + seen:
        words = command.split(" ")
        if words[0] == "take" and len(words) > 2:
            kinds.setdefault(words[1], set()).add(words[2])
    twice = [c for c in others if any(len(n) > 1 and f" {k} " in c for k, n in kinds.items())]
    rare = [c for c in others if c.split(" ")[0] not in ("look", "inventory", "help", "examine", "take")]
    draw = rng.random()
    if twice and draw < 0.5:
        return rng.choice(twice)
    if rare and draw < 0.7:
        return rng.choice(rare)
    return rng.choice(goes if goes and draw < 0.9 else admissible)


def observed(state):
    return {"obs": state.feedback, "admissible": list(state["admissible_commands"])}


def play(env, policy, rng, walkthrough):
    state = env.reset()
    reset = observed(state)
    steps, seen = [], []
    while True:
        action = choose(policy, rng, len(steps), list(state["admissible_commands"]), seen, walkthrough)
        if action is None:
            return reset, steps
        state, score, done = env.step(action)
        seen.append(action)
        steps.append({"action": action, **observed(state), "score": score, "done": bool(done), "won": bool(state["won"])})


def digest(reset, steps):
    """SHA-256 over what the player sees: every text, list and number, each with its length in bytes before it."""
    sha = hashlib.sha256()
    for one in [reset, *steps]:
        parts = [one["obs"], *one["admissible"], str(one.get("score", 0)), str(one.get("done", False)), str(one.get("won", False))]
        for part in parts:
            data = part.encode()
            sha.update(f"{len(data)}:".encode() + data)
    return sha.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--policies", default="walkthrough,random,containers,pairs,hostile")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hash", action="store_true")
    parser.add_argument("--ids", type=pathlib.Path, help="a JSON list of ids; all games otherwise")
    args = parser.parse_args()
    ids = sorted(str(path.parent.relative_to(args.tree)) for path in args.tree.rglob("game.tw-pddl"))
    if args.ids:
        wanted = json.loads(args.ids.read_text())
        ids = [id_ for id_ in wanted if id_ in set(ids)]
    opened = gzip.open if args.out.suffix == ".gz" else open
    infos = textworld.EnvInfos(won=True, admissible_commands=True)
    with opened(args.out, "wt", encoding="utf-8") as out:
        for number, id_ in enumerate(ids):
            path = args.tree / id_ / "game.tw-pddl"
            walkthrough = json.loads(path.read_text())["walkthrough"]
            env = Named(PddlEnv(infos))
            env.load(str(path))
            for policy in args.policies.split(","):
                reset, steps = play(env, policy, random.Random(f"{args.seed} {id_} {policy}"), walkthrough)
                record = {"id": id_, "kind": policy}
                if args.hash:
                    record |= {"actions": [step["action"] for step in steps], "sha256": digest(reset, steps)}
                else:
                    record |= {"reset": reset, "steps": steps}
                out.write(json.dumps(record, ensure_ascii=False) + "\n")
            out.flush()
            print(f"{number + 1}/{len(ids)} {id_}", file=sys.stderr)


if __name__ == "__main__":
    main()
