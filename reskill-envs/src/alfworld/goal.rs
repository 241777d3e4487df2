//! When a game is won.

use super::facts::{BitSet, FactTable, GroundAtom, UNBOUND};
use super::join::Join;
use super::pddl::Problem;
use super::sexpr::syntax;
use crate::error::EnvError;

/// A goal with more ways to reach it than this is refused; ALFWorld's have up to a few thousand.
const MAX_WAYS: usize = 100_000;

/// The ways to reach a goal; one is enough.
#[derive(Debug, Default)]
pub(super) struct Goal {
    /// For each way, the ranks of the atoms that must hold, then of those that must not.
    atoms: Box<[u16]>,
    /// For each way, where either list ends.
    ends: Box<[[u32; 2]]>,
}

impl Goal {
    /// Every way to satisfy the goal of a problem with atoms that can hold.
    pub(super) fn ground(
        problem: &Problem<'_>,
        join: &Join<'_>,
        fluents: &FactTable,
    ) -> Result<Goal, EnvError> {
        let binding = vec![UNBOUND; usize::from(problem.n_goal_slots)];
        let mut ways: Vec<[Vec<u16>; 2]> = Vec::new();
        for alternative in &problem.goal {
            join.solve(alternative, &[], &binding, &mut |_, require, forbid| {
                // Ranks fit in 16 bits.
                let rank = |&atom: &GroundAtom| fluents.rank(atom).map(|rank| rank as u16);
                // An atom that can never hold cannot be required, and need not be forbidden.
                if let Some(mut require) = require.iter().map(rank).collect::<Option<Vec<u16>>>() {
                    require.sort_unstable();
                    require.dedup();
                    ways.push([require, forbid.iter().filter_map(rank).collect()]);
                }
                if ways.len() > MAX_WAYS {
                    return Err(syntax("goal", format!("more than {MAX_WAYS} ways to reach it")));
                }
                Ok(())
            })?;
        }
        ways.sort_unstable();
        ways.dedup();
        let (mut atoms, mut ends) = (Vec::new(), Vec::with_capacity(ways.len()));
        for way in ways {
            ends.push(way.map(|list| {
                atoms.extend(list);
                atoms.len() as u32
            }));
        }
        Ok(Goal { atoms: atoms.into(), ends: ends.into() })
    }

    /// The ways, as atoms that must and atoms that must not hold.
    pub(super) fn ways(&self) -> impl Iterator<Item = [&[u16]; 2]> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|[_, end]| *end));
        starts.zip(&self.ends).map(|(start, [required, forbidden])| {
            let [start, required, forbidden] = [start, *required, *forbidden].map(|end| end as usize);
            [&self.atoms[start..required], &self.atoms[required..forbidden]]
        })
    }

    /// Whether the goal is reached when these atoms hold.
    pub(super) fn is_reached(&self, holds: &BitSet) -> bool {
        self.ways().any(|[require, forbid]| {
            require.iter().all(|&atom| holds.contains(atom.into()))
                && !forbid.iter().any(|&atom| holds.contains(atom.into()))
        })
    }
}
