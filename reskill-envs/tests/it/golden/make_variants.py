#!/usr/bin/env python3
"""Rewords exported household games: the same rules under other grammars, some of them odd on purpose.

    cargo run --release -p reskill-envs --example export_household -- TREE
    python make_variants.py TREE OUT GAMES.jsonl.gz
    venv/bin/python make_transcripts.py OUT TRANSCRIPTS.jsonl.gz

OUT holds every game of TREE as it is and some in each variant; GAMES.jsonl.gz holds the same as one object a line.
"""
import gzip
import json
import pathlib
import sys

# Other words, other order of rules, articles, `or`, a rule that can never match, text in quotes, comments and tabs.
CHATTY = r'''
grammar :: """
{
  "intro": [{"rhs": "\n  // a comment\n   *** A HOUSE ***\n\n#house#\n#task#\n"}],
  "task": [{"rhs": "@TASK@"}],
  "house": [{"rhs": "Around you: [{r.indefinite + ' ' + r.name + ' (' + m.name + ')' | inroom(r:receptacle, m:room)}]."}],
  "describe(r)": [
    {"rhs": "never", "condition": "hot(r:receptacle)"},
    {"rhs": "The {r.name} is shut.", "condition": "openable(r:receptacle) & not_opened(r:receptacle)"},
    {"rhs": "#inside(r)# The {r.name} hums.", "condition": "appliance(r:receptacle) & not_idle(r:receptacle)"},
    {"rhs": "#inside(r)#\tIt is off.", "condition": "idle(r:receptacle)"},
    {"rhs": "#inside(r)#"}
  ],
  "inside(r)": [
    {"rhs": "Here {r.definite or r.name} {r.name or r.id} holds [{o.indefinite + ' ' + o.name | in(o:object, r:receptacle)}], no longer [{o.name | not_in(o:object, r:receptacle)}]."}
  ],
  "look": [
    {"rhs": "Close to {r.name | at(here:location) & receptacleat(r:receptacle, here:location)}: {#inside(r)# | at(here:location) & receptacleat(r:receptacle, here:location)}", "condition": "at(here:location) & receptacleat(r:receptacle, here:location)"},
    {"rhs": "\"Nowhere in particular.\" #house#"}
  ],
  "hands": [
    {"rhs": "A clean {o.name | holds(o:object)} is in your hand.", "condition": "holds(o:object) & clean(o:object)"},
    {"rhs": "In your hand: {o.name | holds(o:object)}.", "condition": "holds(o:object)"},
    {"rhs": "Your hands are empty, {o.name | not_holds(o:object)} gone."}
  ],
  "list_empty": [{"rhs": "thin air"}],
  "list_separator": [{"rhs": "; "}],
  "list_last_separator": [{"rhs": " as well as "}]
}
""";
action goto { template :: "walk over to the {r}"; feedback :: "You walk to {to.id}. #describe(r)#"; }
action open { template :: "pull {r} open"; feedback :: "#describe(r)# Others: [{q.name | openable(q:receptacle) & not_opened(r:receptacle)}]"; }
action close { template :: "push {r} shut"; feedback :: "
   Shut. #describe(r)#
"; }
action take { template :: "grab {o} / {r}"; feedback :: "Taken; {o.name}, kind {k.name | okind(o:object, k:okind)}"; }
action put { template :: "drop {o} / {r}"; feedback :: "#put#";
  grammar :: """
  # lines that begin so are left out
  {"put": [{"rhs": "Dropped {o.name} beside [{p.name | in(p:object, r:receptacle)}] #described#"}],
   "described": [{"condition": "idle(r:receptacle)", "rhs": "(off)"}, {"rhs": "(on)"}]}
  """; }
action start { template :: "{r} on"; feedback :: "{r.name} starts. #describe(r)#"; }
action rinse { template :: "{r}: rinse {o}"; feedback :: "Splash."; }
action heat { template :: "{r}: heat {o}"; feedback :: "Hot! {o.name} [{p.name | hot(p:object)}]"; }
action chill { template :: "{r}: chill {o}"; feedback :: "Cold! [{p.name | cool(p:object)}]"; }
action light { template :: "switch {o}"; feedback :: "{o.name} glows. [{p.name | lit(p:object)}]"; }
action examine { template :: "study {r}"; feedback :: "#describe(r)##inside(r)#"; }
action look { template :: "LOOK"; feedback :: "#look#"; }
action inventory { template :: "hands?"; feedback :: "#hands#"; }
action help { template :: "unused {x}"; feedback :: "#help#"; }
'''

# A later block replaces the rules of an earlier one; rules of an action's own block do so too.
OVERRIDE = r'''
grammar :: """{"list_separator": [{"rhs": " + "}], "hello": [{"rhs": "first"}], "list_empty": [{"rhs": "zero"}]}""";
@BASE@
grammar :: """
    {"inventory": [{"rhs": "hello #hello# [{o.name + '=' + k.name | okind(o:object, k:okind) & holds(o:object)}]"}],
     "view(r)": [
        {"rhs": "{r.name} shows #content(r)#", "condition": "opened(r:receptacle)"},
        {"rhs": "{r.name} sits idle", "condition": "idle(r:receptacle) & openable(r:receptacle)"},
        {"rhs": "{r.name} has #content(r)#, in {m.name | inroom(r:receptacle, m:room)}"}
     ],
     "hello": [{"rhs": "second"}, {"rhs": "third"}]}
""";
'''


def variants(grammar, task):
    yield "plain", grammar
    yield "chatty", CHATTY.replace("@TASK@", task)
    base = grammar.replace('"house: [{r.name |', '"house:\\n[{r.name + \'!\' |')
    yield "override", OVERRIDE.replace("@BASE@", base)


def main():
    tree, out, packed = map(pathlib.Path, sys.argv[1:])
    with gzip.open(packed, "wt", encoding="utf-8") as games:
        paths = sorted(tree.rglob("game.tw-pddl"))
        for path in paths:
            split, task_dir, trial = path.relative_to(tree).parts[:3]
            game = json.loads(path.read_text())
            task = game["grammar"].split('"task": [{"rhs": "')[1].split('"')[0]
            for name, grammar in variants(game["grammar"], task):
                changed = dict(game, grammar=grammar)
                if name == "chatty":
                    changed["walkthrough"] = []
                id_ = f"{split}/{task_dir}/{trial}_{name}"
                target = out / id_ / "game.tw-pddl"
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(json.dumps(changed))
                games.write(json.dumps({"id": id_, **changed}) + "\n")


if __name__ == "__main__":
    main()
