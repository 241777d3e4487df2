//! Worlds with a planted cause of failure, in several wordings: the creator is told nothing but the episodes.

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_envs::{ActionTemplate, ActionVocabulary, Outcome};
use reskill_skills::creator::{Creator, CreatorInput, Proposal};
use reskill_skills::{OfflineConfig, OfflineCreator, SkillContent, SkillEpisode};

/// How the commands of a world read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wording {
    /// `calibrate sensor 2`, with templates and lists of admissible commands.
    Lab,
    /// `edit main.rs`, with templates, without lists.
    Code,
    /// `click[Buy Now]`, with templates, without lists.
    Web,
    /// `öffne Schrank 3`, without templates.
    Words,
    /// `lookup(table_2)`, without templates.
    Calls,
}

pub(crate) const WORDINGS: [Wording; 5] =
    [Wording::Lab, Wording::Code, Wording::Web, Wording::Words, Wording::Calls];

/// What makes episodes fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// The key action is left out.
    Missing,
    /// The key action comes after the one that needs it.
    WrongOrder,
    /// A command is played several times in a row.
    Repeats,
    /// The episode is closed before enough was done.
    TooEarly,
    /// One place is never looked at.
    NeverLooks,
    /// A trap is played.
    Trap,
    /// Nothing: outcomes are coins.
    Nothing,
}

pub(crate) const CAUSES: [Planted; 6] = [
    Planted::Missing,
    Planted::WrongOrder,
    Planted::Repeats,
    Planted::TooEarly,
    Planted::NeverLooks,
    Planted::Trap,
];

/// The commands of a wording.
struct Lexicon {
    templates: &'static [&'static str],
    /// Verb and noun of harmless commands; places for `look`.
    fillers: &'static [&'static str],
    look: fn(usize) -> String,
    key: &'static str,
    needs: &'static str,
    close: &'static str,
    trap: &'static str,
    /// Lower-case words of which a skill about the key, the looked-at place, the closing and the trap must hold one.
    words: [&'static str; 4],
}

impl Wording {
    fn lexicon(self) -> Lexicon {
        match self {
            Wording::Lab => Lexicon {
                templates: &[
                    "calibrate {s}",
                    "measure {s}",
                    "inspect {s}",
                    "shake {s}",
                    "note {s}",
                    "file report",
                    "heat {s}",
                    "move {s} to {p}",
                    "wait",
                ],
                fillers: &[
                    "shake flask 1",
                    "note reading 2",
                    "wait",
                    "move flask 1 to bench 2",
                    "move tube 3 to rack 1",
                    "shake tube 2",
                    "note colour 1",
                ],
                look: |i| {
                    format!("inspect {}", ["bench 1", "rack 1", "hood 1", "sink 1", "oven 1", "tray 1"][i])
                },
                key: "calibrate sensor 2",
                needs: "measure sample 1",
                close: "file report",
                trap: "heat flask 1",
                words: ["calibrate", "tray", "file report", "heat"],
            },
            Wording::Code => Lexicon {
                templates: &[
                    "edit {f}",
                    "open {f}",
                    "run {c}",
                    "search {q} in {d}",
                    "lint {f}",
                    "submit",
                    "revert {f}",
                ],
                fillers: &[
                    "edit main.rs",
                    "edit lib.rs",
                    "search bug in src",
                    "run build",
                    "edit util.rs",
                    "run bench",
                    "search todo in docs",
                ],
                look: |i| {
                    format!("open {}", ["main.rs", "lib.rs", "util.rs", "build.rs", "notes.md", "spec.md"][i])
                },
                key: "lint main.rs",
                needs: "run tests",
                close: "submit",
                trap: "revert main.rs",
                words: ["lint", "spec.md", "submit", "revert"],
            },
            Wording::Web => Lexicon {
                templates: &[
                    "search[{q}]",
                    "click[{x}]",
                    "scroll[{x}]",
                    "buy[{x}]",
                    "compare[{x}]",
                    "filter[{x}]",
                ],
                fillers: &[
                    "search[red shoes]",
                    "click[Next]",
                    "scroll[down]",
                    "click[Item 3]",
                    "filter[size]",
                    "scroll[up]",
                ],
                look: |i| {
                    format!("click[{}]", ["Home", "Reviews", "Offers", "Brands", "Help", "Features"][i])
                },
                key: "compare[prices]",
                needs: "click[Cart]",
                close: "buy[now]",
                trap: "click[Advert]",
                words: ["compare", "features", "buy", "advert"],
            },
            Wording::Words => Lexicon {
                templates: &[],
                fillers: &[
                    "gehe Küche",
                    "nimm Löffel 2",
                    "lege Löffel 2",
                    "warte",
                    "gehe Flur",
                    "nimm Tasse 1",
                    "zähle Teller",
                ],
                look: |i| {
                    format!("öffne {}", ["Schrank 1", "Truhe 1", "Kiste 1", "Fach 1", "Ofen 1", "Dose 1"][i])
                },
                key: "wasche Hände",
                needs: "koche Suppe",
                close: "fertig",
                trap: "werfe Tasse 1",
                words: ["wasche", "dose", "fertig", "werfe"],
            },
            Wording::Calls => Lexicon {
                templates: &[],
                fillers: &[
                    "list(tables)",
                    "show(schema)",
                    "sample(orders)",
                    "count(rows)",
                    "sample(users)",
                    "note(key)",
                ],
                look: |i| {
                    format!("lookup({})", ["users", "orders", "items", "stock", "prices", "refunds"][i])
                },
                key: "check(types)",
                needs: "query(join)",
                close: "answer(value)",
                trap: "drop(index)",
                words: ["check", "refunds", "answer", "drop"],
            },
        }
    }

    pub(crate) fn vocabulary(self) -> ActionVocabulary {
        let template = |text: &&str| ActionTemplate { name: (*text).into(), template: (*text).into() };
        ActionVocabulary { templates: self.lexicon().templates.iter().map(template).collect() }
    }
}

/// A world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World {
    pub(crate) wording: Wording,
    pub(crate) cause: Planted,
    /// A second cause: both must be avoided to succeed.
    pub(crate) also: Planted,
    /// Episodes.
    pub(crate) n: usize,
    /// Episodes of one task.
    pub(crate) per_task: usize,
    /// Success where the cause is avoided, and where it is not.
    pub(crate) success: [f64; 2],
    /// Share of episodes that avoid the cause.
    pub(crate) good: f64,
    /// Three families that differ in success, in how often they avoid the cause, and in a harmless favourite command.
    pub(crate) confounded: bool,
}

impl World {
    pub(crate) fn of(wording: Wording, cause: Planted) -> Self {
        Self {
            wording,
            cause,
            also: Planted::Nothing,
            n: 150,
            per_task: 1,
            success: [0.85, 0.2],
            good: 0.5,
            confounded: false,
        }
    }

    pub(crate) fn episodes(&self, seed: u64) -> Vec<SkillEpisode> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x00C0_FFEE);
        (0..self.n).map(|index| self.episode(index, &mut rng)).collect()
    }

    fn episode(&self, index: usize, rng: &mut ChaCha8Rng) -> SkillEpisode {
        let lexicon = self.wording.lexicon();
        let task = index / self.per_task;
        let family = task % 3;
        let good_share = if self.confounded {
            (self.good + [-0.2, 0.0, 0.2][family]).clamp(0.02, 0.98)
        } else {
            self.good
        };
        let mut avoids = |cause: Planted| cause == Planted::Nothing || rng.random_bool(good_share);
        let (good, also) = (avoids(self.cause), avoids(self.also));
        let mut actions = self.script(&lexicon, good, also, rng);
        let chance = match (self.cause, good && also) {
            // A coin whose bias belongs to the task.
            (Planted::Nothing, _) => 0.1 + 0.8 * ratio(task * 7919 % 101, 100),
            (_, true) => self.success[0],
            (_, false) => self.success[1],
        };
        let mut chance = chance;
        if self.confounded {
            // The easy family likes one command, the hard one another.
            chance = (chance + [-0.25, 0.0, 0.25][family]).clamp(0.01, 0.99);
            if rng.random_bool(0.8) {
                let at = rng.random_range(0..actions.len());
                actions.insert(at, lexicon.fillers[family].to_owned());
            }
        }
        let outcome = if rng.random_bool(chance) { Outcome::Success } else { Outcome::Failure };
        let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
        let family = ["alpha", "beta", "gamma"][family];
        let mut played = SkillEpisode::from_actions(&format!("t{task}"), family, "do it", &actions, outcome);
        if self.wording == Wording::Lab {
            let mut listed: Vec<String> = lexicon.fillers.iter().map(|it| (*it).to_owned()).collect();
            listed.extend((0..6).map(lexicon.look));
            listed.extend([lexicon.key, lexicon.needs, lexicon.close, lexicon.trap].map(str::to_owned));
            played.episode.turns.iter_mut().for_each(|turn| turn.admissible.clone_from(&listed));
        }
        played
    }

    fn script(&self, lexicon: &Lexicon, good: bool, also: bool, rng: &mut ChaCha8Rng) -> Vec<String> {
        let is = |cause: Planted| self.cause == cause || self.also == cause;
        let avoided = |cause: Planted| if self.cause == cause { good } else { also };
        let n = if is(Planted::TooEarly) {
            if avoided(Planted::TooEarly) { rng.random_range(8..14) } else { rng.random_range(2..7) }
        } else {
            rng.random_range(5..12)
        };
        let mut actions: Vec<String> = Vec::new();
        for _ in 0..n {
            let mut next = (*lexicon.fillers.choose(rng).unwrap()).to_owned();
            if rng.random_bool(0.35) {
                let places = if is(Planted::NeverLooks) { 5 } else { 6 };
                next = (lexicon.look)(rng.random_range(0..places));
            }
            if actions.last() != Some(&next) {
                actions.push(next);
            }
        }
        let mut insert = |actions: &mut Vec<String>, text: &str, from: usize| {
            let at = rng.random_range(from..=actions.len());
            actions.insert(at, text.to_owned());
            at
        };
        if is(Planted::NeverLooks) && avoided(Planted::NeverLooks) {
            insert(&mut actions, &(lexicon.look)(5), 0);
        }
        if is(Planted::Trap) && !avoided(Planted::Trap) {
            insert(&mut actions, lexicon.trap, 0);
        }
        if is(Planted::Repeats) && !avoided(Planted::Repeats) {
            let at = insert(&mut actions, lexicon.fillers[2], 0);
            for _ in 0..2 {
                actions.insert(at, lexicon.fillers[2].to_owned());
            }
        }
        if is(Planted::Missing) || is(Planted::WrongOrder) {
            let needs = insert(&mut actions, lexicon.needs, 0);
            if is(Planted::Missing) && avoided(Planted::Missing) {
                let mut first: Vec<String> = actions.drain(..needs).collect();
                insert(&mut first, lexicon.key, 0);
                first.append(&mut actions);
                actions = first;
            }
            if is(Planted::WrongOrder) {
                let mut first: Vec<String> = actions.drain(..needs).collect();
                if avoided(Planted::WrongOrder) {
                    insert(&mut first, lexicon.key, 0);
                } else {
                    insert(&mut actions, lexicon.key, 1);
                }
                first.append(&mut actions);
                actions = first;
            }
        }
        actions.push(lexicon.close.to_owned());
        actions
    }

    /// The proposal of the creator with these settings.
    pub(crate) fn propose(&self, seed: u64, config: &OfflineConfig) -> Option<Proposal> {
        let (episodes, vocabulary) = (self.episodes(seed), self.wording.vocabulary());
        let input = CreatorInput::new(&episodes, &vocabulary);
        OfflineCreator::new(config.clone()).propose(&input.context()).unwrap()
    }

    /// Whether a skill names a planted cause, and is shown in most of the failures before it is too late.
    pub(crate) fn is_answered_by(&self, cause: Planted, content: &SkillContent, seed: u64) -> bool {
        let lexicon = self.wording.lexicon();
        let text = content.action.to_lowercase();
        let says = |word: &str| text.contains(word);
        let negative = says("do not");
        let named = match cause {
            Planted::Missing | Planted::WrongOrder => says(lexicon.words[0]) && !negative,
            Planted::NeverLooks => says(lexicon.words[1]) && !negative,
            Planted::TooEarly => says(lexicon.words[2]) && says("early"),
            Planted::Trap => says(lexicon.words[3]) && negative,
            Planted::Repeats => says("repeat") && negative,
            Planted::Nothing => false,
        };
        // A skill helps only if it is shown on some turn before the last one of the failures.
        let failures: Vec<SkillEpisode> =
            self.episodes(seed).into_iter().filter(|played| !played.episode.is_success()).collect();
        let shown = failures.iter().filter(|played| {
            played.turns().any(|(turn_idx, previous, _)| content.trigger.fires(turn_idx, previous))
        });
        named && shown.count() * 2 >= failures.len()
    }
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn ratio(n: usize, total: usize) -> f64 {
    n as f64 / total as f64
}

/// Seeds of `n` whose first proposed skill answers the planted cause.
pub(crate) fn answered(world: World, n: u64) -> u64 {
    let hits = (0..n).filter(|seed| {
        let proposal = world.propose(*seed, &OfflineConfig::default());
        let content = proposal.as_ref().and_then(|it| it.operations[0].content());
        content.is_some_and(|content| world.is_answered_by(world.cause, content, *seed))
    });
    hits.count().try_into().unwrap()
}

/// Seeds of `n` with any proposal.
pub(crate) fn proposed(world: World, n: u64) -> u64 {
    let hits = (0..n).filter(|seed| world.propose(*seed, &OfflineConfig::default()).is_some());
    hits.count().try_into().unwrap()
}

/// Shuffles the outcomes over all episodes of a world: what was a cause is one no more.
pub(crate) fn without_cause(world: World, seed: u64) -> Vec<SkillEpisode> {
    let mut episodes = world.episodes(seed);
    let mut outcomes: Vec<Outcome> = episodes.iter().map(|played| played.episode.outcome).collect();
    outcomes.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    for (played, outcome) in episodes.iter_mut().zip(outcomes) {
        played.episode.outcome = outcome;
    }
    episodes
}
