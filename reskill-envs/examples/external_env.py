"""An environment in another language: carry the right thing to the counter. One JSON object a line, in and out."""
import json, sys

THINGS, ROOMS, state = ["pen", "cup", "key", "map"], ["hall", "attic", "cellar"], {}
SPLITS = ["train", "train", "valid_seen", "valid_unseen"]
TASKS = [{"id": f"{thing}-{room}", "family": "carry", "goal": f"bring the {thing} to the counter",
          "split": SPLITS[(i + j) % 4]} for i, thing in enumerate(THINGS) for j, room in enumerate(ROOMS)]

def seen(text, **more):
    take = [f"take {thing}" for thing in THINGS if state["at"] == state["room"] and not state["held"]]
    commands = [f"go to {place}" for place in ROOMS + ["counter"]] + take + ["give"] * (state["at"] == "counter")
    return {"observation": text, "admissible": commands, **more}

def answer(op, task="", action="", **_):
    if op == "hello":
        return dict(protocol=1, name="counter", tasks=TASKS, expert=True, vocabulary=["go to {x}", "take {x}", "give"])
    if op == "reset":
        state.update(zip(("thing", "room", "at", "held"), (*task.split("-"), "counter", None)))
        return seen(f"you stand at the counter . bring the {state['thing']} , it is in the {state['room']}")
    if op == "expert":
        first = 2 + (state["at"] == "counter") if state["held"] else int(state["at"] == state["room"])
        return {"commands": [f"go to {state['room']}", f"take {state['thing']}", "go to counter", "give"][first:]}
    verb, _, name = action.replace("go to", "go").partition(" ")
    state["at"] = name if verb == "go" else state["at"]
    state["held"] = name if verb == "take" and state["at"] == state["room"] else state["held"]
    done, won = verb == "give", verb == "give" and state["held"] == state["thing"]
    return seen(f"you are at the {state['at']}", score=float(won), done=done, won=won)

for line in sys.stdin:
    print(json.dumps(answer(**json.loads(line))), flush=True)
