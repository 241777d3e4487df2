"""An environment in another language: carry the right thing to the counter. One JSON object a line, in and out."""
import json
import sys

THINGS, ROOMS = ["pen", "cup", "key", "map"], ["hall", "attic", "cellar"]
TASKS = [{"id": f"{thing}-{room}", "family": "carry", "goal": f"bring the {thing} to the counter",
          "split": ["train", "train", "valid_seen", "valid_unseen"][(i + j) % 4]}
         for i, thing in enumerate(THINGS) for j, room in enumerate(ROOMS)]

def seen(text):
    commands = [f"go to {room}" for room in ROOMS + ["counter"] if room != state["at"]]
    if state["at"] == state["room"] and not state["held"]:
        commands += [f"take {thing}" for thing in THINGS]
    return {"observation": text, "admissible": commands + ["give"] * (state["at"] == "counter")}

def answer(request):
    if request["op"] == "hello":
        return {"protocol": 1, "name": "counter", "tasks": TASKS, "expert": True,
                "vocabulary": ["go to {place}", "take {thing}", "give"]}
    if request["op"] == "reset":
        thing, room = request["task"].split("-")
        state.update(thing=thing, room=room, at="counter", held=None)
        return seen(f"you stand at the counter . bring the {thing} , it is in the {room}")
    if request["op"] == "expert":
        bring = ["go to counter"] * (state["at"] != "counter") + ["give"]
        fetch = [f"go to {state['room']}"] * (state["at"] != state["room"]) + [f"take {state['thing']}"]
        return {"commands": bring if state["held"] else fetch + ["go to counter", "give"]}
    verb, _, name = request["action"].replace("go to", "go").partition(" ")
    state["at"] = name if verb == "go" else state["at"]
    state["held"] = name if verb == "take" and state["at"] == state["room"] else state["held"]
    won, done = verb == "give" and state["held"] == state["thing"], verb == "give"
    return {**seen(f"at the {state['at']} , you hold {state['held'] or 'nothing'}"),
            "score": 1.0 if won else 0.0, "done": done, "won": won}

state = {}
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
