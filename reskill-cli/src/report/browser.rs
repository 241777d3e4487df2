//! Episodes to read, turn by turn, with the skills that fired. What is chosen is chosen by the style sheet alone.

use std::collections::BTreeMap;

use reskill_skills::Arm;

use crate::episodes::{EpisodeLine, spread};
use crate::report::data::RunData;
use crate::report::format::{count, counted, number};
use crate::report::html::{badge, text};

/// So many skills can be chosen by.
const MAX_SKILLS: usize = 12;

/// The episodes of a page.
pub(super) struct Browser<'a> {
    episodes: Vec<&'a EpisodeLine>,
    /// How many there are in the files.
    n_all: usize,
    /// Who played, in the order in which they come.
    players: Vec<&'a str>,
    /// Names of skills that were shown, the most used first. Ids of several runs would be mixed up.
    skills: Vec<&'a str>,
}

impl<'a> Browser<'a> {
    /// At most `max` of the episodes (0: all), evenly spread over each player's.
    pub(super) fn of(data: &'a RunData, max: usize) -> Browser<'a> {
        let mut by_player: Vec<(&str, Vec<&EpisodeLine>)> = Vec::new();
        for line in &data.episodes {
            match by_player.iter_mut().find(|(player, _)| *player == line.played) {
                Some((_, lines)) => lines.push(line),
                None => by_player.push((&line.played, vec![line])),
            }
        }
        let n_all = data.episodes.len();
        let of_each = if max == 0 { n_all } else { max.div_ceil(by_player.len().max(1)) };
        let episodes: Vec<&EpisodeLine> = by_player
            .iter()
            .flat_map(|(_, lines)| spread(lines.len(), of_each).into_iter().map(|index| lines[index]))
            .collect();
        let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
        for skill in episodes.iter().flat_map(|line| line.shown.values()) {
            *shown.entry(&skill.name).or_default() += 1;
        }
        let mut skills: Vec<(&str, usize)> = shown.into_iter().collect();
        skills.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
        skills.truncate(MAX_SKILLS);
        Browser {
            episodes,
            n_all,
            players: by_player.iter().map(|(player, _)| *player).collect(),
            skills: skills.into_iter().map(|(name, _)| name).collect(),
        }
    }

    /// Rules that hide what is not chosen. `c0-2` is the third choice of the first question; the first of each hides
    /// nothing.
    pub(super) fn style(&self) -> String {
        let hide = |question: usize, choice: usize| {
            format!(
                ".browser:has(#c{question}-{choice}:checked) .episode:not(.c{question}-{choice}) {{ display: none; }}\n"
            )
        };
        self.questions()
            .iter()
            .enumerate()
            .flat_map(|(question, (_, choices))| (1..choices.len()).map(move |choice| hide(question, choice)))
            .collect()
    }

    /// What can be chosen by, with the choices; the first of each takes all.
    fn questions(&self) -> Vec<(&'static str, Vec<String>)> {
        let all = |rest: Vec<String>| std::iter::once("all".to_string()).chain(rest).collect();
        let mut questions = vec![
            ("outcome", all(["won", "failed", "lost by the environment"].map(String::from).to_vec())),
            ("played by", all(self.players.iter().map(|player| player.replace('_', " ")).collect())),
        ];
        if !self.skills.is_empty() {
            questions.push(("skill that fired", all(self.skills.iter().map(ToString::to_string).collect())));
        }
        questions
    }

    pub(super) fn section_body(&self) -> String {
        if self.episodes.is_empty() {
            return "<p class=\"quiet\">The run kept no episodes; log.episodes says which are kept, and eval --episodes \
                    writes more.</p>"
                .to_string();
        }
        let all = if self.episodes.len() < self.n_all {
            format!(" of {}, spread evenly over them", count(self.n_all as u64))
        } else {
            String::new()
        };
        let episodes: String = self.episodes.iter().map(|line| self.episode(line)).collect();
        format!(
            "<p class=\"quiet\">{}{all}. Each opens turn by turn.</p>\n<div class=\"browser\">\n{}{episodes}</div>\n",
            counted(self.episodes.len(), "episode"),
            self.choices()
        )
    }

    fn choices(&self) -> String {
        let choice = |question: usize, choice: usize, name: &str| {
            let id = format!("c{question}-{choice}");
            let checked = if choice == 0 { " checked" } else { "" };
            format!(
                "<input type=\"radio\" name=\"c{question}\" id=\"{id}\"{checked}><label for=\"{id}\">{}</label> ",
                text(name)
            )
        };
        let question = |(index, (name, choices)): (usize, &(&'static str, Vec<String>))| {
            let choices: String =
                choices.iter().enumerate().map(|(which, name)| choice(index, which, name)).collect();
            format!("<div class=\"question\"><span>{name}</span><div>{choices}</div></div>\n")
        };
        format!(
            "<div class=\"questions\">\n{}</div>\n",
            self.questions().iter().enumerate().map(question).collect::<String>()
        )
    }

    /// One episode, to open.
    fn episode(&self, line: &EpisodeLine) -> String {
        let episode = &line.record.episode;
        let (outcome, mark) = match (episode.is_lost(), episode.is_success()) {
            (true, _) => (3, badge("open", "lost")),
            (false, true) => (1, badge("good", "won")),
            (false, false) => (2, badge("bad", "failed")),
        };
        let mut classes = vec![format!("c0-{outcome}")];
        let player = self.players.iter().position(|player| *player == line.played);
        classes.extend(player.map(|index| format!("c1-{}", index + 1)));
        let shown = |name: &str| line.shown.values().any(|skill| skill.name == name);
        let skills = self.skills.iter().enumerate().filter(|(_, name)| shown(name));
        classes.extend(skills.map(|(index, _)| format!("c2-{}", index + 1)));
        let mut facts = vec![line.played.replace('_', " "), episode.task.split.as_str().replace('_', " ")];
        if line.played == "training" {
            facts.push(format!("step {}", line.record.step));
            facts.push(format!("group {}", line.record.group));
        }
        facts.extend(matches!(line.record.arm, Arm::Candidate(_)).then(|| "new version".to_string()));
        facts.push(counted(episode.turns.len(), "turn"));
        let turns: String = (0..episode.turns.len()).map(|turn_idx| turn(line, turn_idx)).collect();
        let end = episode.fault.as_deref().unwrap_or(&episode.final_observation);
        format!(
            "<details class=\"episode {}\"><summary>{mark} <b>{}</b> {} <small>{}</small></summary>\n<ol class=\"turns\">\n{turns}\
             </ol>\n<p class=\"seen\">{}</p>\n<p class=\"quiet\">task {} \u{b7} seed {} \u{b7} return {} \u{b7} score {}</p>\n</details>\n",
            classes.join(" "),
            text(&episode.task.family),
            text(&episode.task.goal),
            text(&facts.join(" \u{b7} ")),
            text(end),
            text(&episode.task.id.0),
            line.seed,
            number(f64::from(episode.return_)),
            number(f64::from(episode.score)),
        )
    }
}

/// A turn: what was seen, what fired, what was done.
fn turn(line: &EpisodeLine, turn_idx: usize) -> String {
    let turn = &line.record.episode.turns[turn_idx];
    let fired = line.record.triggered.get(turn_idx).into_iter().flatten();
    let fired: String = fired
        .map(|id| match line.shown.get(id) {
            Some(skill) => format!(
                "<p class=\"fired\"><b>{}</b> \u{201c}{}\u{201d} <small><code>{}</code></small></p>",
                text(&skill.name),
                text(&skill.action),
                text(&skill.trigger)
            ),
            None => format!("<p class=\"fired\"><b>{}</b></p>", text(&id.0)),
        })
        .collect();
    let done = turn.action.as_deref().unwrap_or("no action could be read");
    let class = if turn.valid { "did" } else { "did invalid" };
    let reply = match turn.reply.trim() {
        reply if turn.action.as_deref() == Some(reply) => String::new(),
        reply => format!(" <small>{}</small>", text(reply)),
    };
    let admissible = match turn.admissible.len() {
        0 => String::new(),
        n => format!(
            "<details class=\"admissible\"><summary>{}</summary>{}</details>",
            counted(n, "admissible command"),
            text(&turn.admissible.join(" \u{b7} "))
        ),
    };
    format!(
        "<li><p class=\"seen\">{}</p>{fired}<p class=\"{class}\">&gt; {}{reply}</p>{admissible}</li>\n",
        text(&turn.observation),
        text(done),
    )
}
