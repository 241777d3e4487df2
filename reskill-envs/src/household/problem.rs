//! Writes a house and its goal as a PDDL problem.

use std::collections::HashMap;
use std::fmt::Write;

use super::config::Family;
use super::goal::{Goal, LAMP};
use super::house::House;

/// The problem text.
pub(super) fn write_problem(house: &House, goal: &Goal, name: &str) -> String {
    let mut objects: Vec<String> = vec!["start - location".into()];
    let mut facts: Vec<String> = vec!["(at start)".into()];
    let mut ids = Ids::default();
    let mut receptacle_ids = Vec::new();
    for (place, index) in house.receptacles.iter().zip(1..) {
        let kind = place.kind.name;
        let id = ids.next(kind);
        objects.push(format!("{id} - receptacle"));
        objects.push(format!("place{index} - location"));
        facts.push(format!("(receptacleat {id} place{index})"));
        facts.push(format!("(inroom {id} {})", place.room));
        facts.push(format!("(rkind {id} {kind}kind)"));
        let marks = [
            ("openable", place.kind.openable),
            ("opened", place.open),
            ("appliance", place.kind.appliance),
            ("idle", place.idle),
        ];
        facts.extend(marks.iter().filter(|(_, holds)| *holds).map(|(mark, _)| format!("({mark} {id})")));
        receptacle_ids.push(id);
    }
    for (kind, place) in &house.objects {
        let id = ids.next(kind.name);
        objects.push(format!("{id} - object"));
        facts.push(format!("(in {id} {})", receptacle_ids[*place]));
        facts.push(format!("(okind {id} {}kind)", kind.name));
        facts.push(format!("(pickable {id})"));
        let marks = [("rinsable", kind.rinsable), ("heatable", kind.heatable), ("coolable", kind.coolable)];
        facts.extend(marks.iter().filter(|(_, holds)| *holds).map(|(mark, _)| format!("({mark} {id})")));
    }
    if let Some(place) = house.lamp {
        let id = ids.next(LAMP);
        objects.push(format!("{id} - object"));
        facts.push(format!("(in {id} {})", receptacle_ids[place]));
        facts.push(format!("(okind {id} {LAMP}kind)"));
        facts.push(format!("(lamp {id})"));
    }
    objects.extend(names_of(house.receptacles.iter().map(|place| place.room), "", "room"));
    objects.extend(names_of(house.receptacles.iter().map(|place| place.kind.name), "kind", "rkind"));
    let kinds = house.objects.iter().map(|(kind, _)| kind.name).chain(house.lamp.map(|_| LAMP));
    objects.extend(names_of(kinds, "kind", "okind"));

    let mut text = format!("(define (problem {name})\n(:domain household)\n(:objects\n");
    // Writing to a string cannot fail.
    for (list, end) in [(objects, ")\n(:init\n"), (facts, ")\n")] {
        for line in list {
            let _ = writeln!(text, "    {line}");
        }
        text.push_str(end);
    }
    let _ = write!(text, "(:goal {})\n)\n", goal_formula(goal));
    text
}

fn goal_formula(goal: &Goal) -> String {
    let Goal { object, target, .. } = goal;
    if goal.family == Family::LookAtObjInLight {
        return format!(
            "(exists (?o - object ?t - object ?r - receptacle ?l - location) \
             (and (okind ?o {object}kind) (holds ?o) (lamp ?t) (lit ?t) (in ?t ?r) (receptacleat ?r ?l) (at ?l)))"
        );
    }
    let state = match goal.family {
        Family::PickCleanThenPlaceInRecep => " (clean ?o)",
        Family::PickHeatThenPlaceInRecep => " (hot ?o)",
        Family::PickCoolThenPlaceInRecep => " (cool ?o)",
        Family::PickTwoObjAndPlace => {
            return format!(
                "(exists (?r - receptacle ?o - object ?p - object) (and (rkind ?r {target}kind) (not (= ?o ?p)) \
                 (okind ?o {object}kind) (okind ?p {object}kind) (in ?o ?r) (in ?p ?r)))"
            );
        }
        Family::PickAndPlaceSimple | Family::LookAtObjInLight => "",
    };
    format!(
        "(exists (?r - receptacle ?o - object) \
         (and (rkind ?r {target}kind) (okind ?o {object}kind) (in ?o ?r){state}))"
    )
}

/// Numbered ids by kind.
#[derive(Default)]
struct Ids(HashMap<&'static str, usize>);

impl Ids {
    fn next(&mut self, kind: &'static str) -> String {
        let number = self.0.entry(kind).or_default();
        *number += 1;
        format!("{kind}_bar_{number:02}")
    }
}

/// Distinct names, each declared with a type.
fn names_of(names: impl Iterator<Item = &'static str>, ending: &str, type_: &str) -> Vec<String> {
    let mut distinct: Vec<&str> = names.collect();
    distinct.sort_unstable();
    distinct.dedup();
    distinct.into_iter().map(|name| format!("{name}{ending} - {type_}")).collect()
}
