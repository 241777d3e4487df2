//! Counting: in which situations could a verb be played, and was it?

use std::collections::{BTreeMap, HashMap};

use reskill_envs::{ActionVocabulary, ParsedAction, Turn};

use crate::bank::SkillBank;
use crate::episode::{SkillEpisode, heeded};
use crate::guidance::Polarity;
use crate::skill::{Skill, SkillStatus};

/// What came before a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Context<'a> {
    /// Nothing: the first turn.
    Start,
    /// A command with this verb.
    After(&'a str),
}

/// Visits of a situation by the kind of the previous command's last argument.
#[derive(Debug, Clone, Copy)]
pub struct Visits<'a> {
    /// Turns.
    pub n: u64,
    /// One of the previous commands.
    pub sample: &'a str,
    /// Number of arguments of the previous command.
    pub n_args: usize,
}

/// Chances of one kind in one episode: turns on which the verb could be played, and on which it was.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// Could be played.
    pub chances: u32,
    /// Was played.
    pub played: u32,
}

/// All chances of a verb in a situation.
#[derive(Debug, Clone, Default)]
pub struct Chances<'a> {
    /// By episode, then by kind ("" without an argument).
    pub by_episode: BTreeMap<usize, BTreeMap<&'a str, Tally>>,
    /// Previous command and command of a failed episode that did not play the verb.
    pub not_played_failing: Option<(&'a str, &'a str)>,
    /// Previous command and command of a successful episode that played it.
    pub played_succeeding: Option<(&'a str, &'a str)>,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Mined<'a> {
    /// The episodes, in order.
    pub episodes: Vec<&'a SkillEpisode>,
    /// By situation and kind.
    pub visits: BTreeMap<Context<'a>, BTreeMap<&'a str, Visits<'a>>>,
    /// Turns on which a verb *applies* to the situation: it is admissible with arguments that the previous command or
    /// the goal names. Where a bank's skill asks for a next verb already, nothing is counted.
    pub towards: BTreeMap<(Context<'a>, &'a str), Chances<'a>>,
    /// Turns on which a verb is admissible at all and no skill speaks against it already.
    pub against: BTreeMap<(Context<'a>, &'a str), Chances<'a>>,
    /// Successful episodes that play a verb.
    pub used_in_success: BTreeMap<&'a str, usize>,
    /// Successful episodes.
    pub n_success: usize,
}

/// Commands split once each: an episode repeats the same few hundred.
struct Parser<'a> {
    vocabulary: &'a ActionVocabulary,
    cache: HashMap<&'a str, Option<ParsedAction<'a>>>,
}

impl<'a> Parser<'a> {
    fn parse(&mut self, command: &'a str) -> Option<&ParsedAction<'a>> {
        self.cache.entry(command).or_insert_with(|| self.vocabulary.parse(command)).as_ref()
    }
}

/// Counts over episodes.
#[must_use]
pub fn mine<'a>(
    episodes: &'a [SkillEpisode],
    bank: &SkillBank,
    vocabulary: &'a ActionVocabulary,
) -> Mined<'a> {
    let guided: Vec<&Skill> = bank
        .skills()
        .iter()
        .filter(|skill| skill.status == SkillStatus::Active && skill.content.guidance.is_some())
        .collect();
    let mut parser = Parser { vocabulary, cache: HashMap::new() };
    let mut mined = Mined::default();
    for (index, played) in episodes.iter().enumerate() {
        mined.episodes.push(played);
        let success = played.episode.is_success();
        let goal = played.episode.task.goal.to_lowercase();
        let mut verbs: Vec<&str> = Vec::new();
        for (turn_idx, previous, turn) in played.turns() {
            let Some(action) = turn.action.as_deref() else { continue };
            let verb = parser.parse(action).map_or("", |parsed| parsed.verb);
            if !verbs.contains(&verb) {
                verbs.push(verb);
            }
            let (context, kind, args): (Context<'a>, &'a str, Vec<&'a str>) = match previous {
                None if turn_idx == 0 => (Context::Start, "", Vec::new()),
                None => continue,
                Some(previous) => {
                    let Some(parsed) = parser.parse(previous) else { continue };
                    let kind = parsed.args.last().map_or("", |arg| kind_of(arg));
                    (Context::After(parsed.verb), kind, parsed.args.clone())
                }
            };
            let sample = previous.unwrap_or_default();
            let visits = mined.visits.entry(context).or_default();
            visits.entry(kind).or_insert(Visits { n: 0, sample, n_args: args.len() }).n += 1;

            let asked = asked_verbs(&guided, turn_idx, previous, turn, vocabulary);
            if asked.iter().any(|(polarity, _)| *polarity == Polarity::Next) {
                continue;
            }
            let (admissible, applicable) = verbs_at(&mut parser, turn, &args, &goal);
            let count = |chances: &mut Chances<'a>, candidate: &str| {
                let tally = chances.by_episode.entry(index).or_default().entry(kind).or_default();
                tally.chances += 1;
                tally.played += u32::from(verb == candidate);
                if success && verb == candidate {
                    chances.played_succeeding.get_or_insert((sample, action));
                } else if !success && verb != candidate {
                    chances.not_played_failing.get_or_insert((sample, action));
                }
            };
            for candidate in applicable {
                count(mined.towards.entry((context, candidate)).or_default(), candidate);
            }
            for candidate in admissible {
                if !asked.iter().any(|(_, verb)| verb == candidate) {
                    count(mined.against.entry((context, candidate)).or_default(), candidate);
                }
            }
        }
        if success {
            mined.n_success += 1;
            for verb in verbs {
                *mined.used_in_success.entry(verb).or_default() += 1;
            }
        }
    }
    mined
}

/// The verbs that are admissible on a turn, and those that apply to what the previous command or the goal names.
fn verbs_at<'a>(
    parser: &mut Parser<'a>,
    turn: &'a Turn,
    args: &[&str],
    goal: &str,
) -> (Vec<&'a str>, Vec<&'a str>) {
    if turn.admissible.is_empty() {
        let verbs = parser.vocabulary.verbs();
        return (verbs.clone(), verbs);
    }
    let (mut admissible, mut applicable) = (Vec::new(), Vec::new());
    for command in &turn.admissible {
        let Some(parsed) = parser.parse(command) else { continue };
        if !admissible.contains(&parsed.verb) {
            admissible.push(parsed.verb);
        }
        if !applicable.contains(&parsed.verb)
            && parsed.args.iter().all(|arg| args.contains(arg) || goal.contains(&kind_of(arg).to_lowercase()))
        {
            applicable.push(parsed.verb);
        }
    }
    (admissible, applicable)
}

/// What the bank's skills ask for on a turn.
fn asked_verbs(
    guided: &[&Skill],
    turn_idx: usize,
    previous: Option<&str>,
    turn: &Turn,
    vocabulary: &ActionVocabulary,
) -> Vec<(Polarity, String)> {
    guided
        .iter()
        .filter(|skill| heeded(skill, turn_idx, previous, turn, vocabulary).is_some())
        .filter_map(|skill| skill.content.guidance.as_ref())
        .map(|guidance| (guidance.polarity, guidance.verb.clone()))
        .collect()
}

fn kind_of(name: &str) -> &str {
    reskill_envs::action::kind_of(name)
}
