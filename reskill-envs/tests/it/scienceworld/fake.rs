//! A small simulator that speaks the wire protocol: a corridor of ten rooms. It stands in for the real one, and fails on
//! request.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reskill_envs::scienceworld::{ScienceWorld, ScienceWorldOptions, TaskFamily};

/// What happens when `jump` is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jump {
    Closes,
    Hangs,
    Babbles,
    Throws,
}

/// A gateway on a port of its own; it lives as long as the test.
pub(crate) fn gateway(jump: Jump, goal: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let goal = goal.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, goal) = (stream.unwrap(), goal.clone());
            std::thread::spawn(move || serve(stream, jump, &goal));
        }
    });
    port
}

/// The goal of `power-component/0`.
pub(crate) fn real_goal() -> String {
    let families = TaskFamily::all().unwrap();
    families.iter().find(|family| family.name == "power-component").unwrap().goals[0].clone()
}

/// Options under which `says` is what the stand-in of Java reads, and a folder with that file.
pub(crate) fn options(dir: &Path, says: &str) -> ScienceWorldOptions {
    std::fs::write(dir.join("scienceworld.jar"), format!("{says}\n")).unwrap();
    ScienceWorldOptions {
        java: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/scienceworld/fake_java"),
        environments_per_jvm: 2,
        jvms: 1,
        valid_actions: true,
        timeout_secs: 5.0,
        start_timeout_secs: 10.0,
        ..ScienceWorldOptions::default()
    }
}

/// A suite over such a gateway.
pub(crate) fn suite(dir: &Path, jump: Jump) -> ScienceWorld {
    let port = gateway(jump, &real_goal());
    ScienceWorld::open_path(dir, &options(dir, &port.to_string())).unwrap()
}

fn serve(stream: TcpStream, jump: Jump, goal: &str) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut room = 0;
    let mut lists: Vec<Vec<String>> = Vec::new();
    loop {
        let mut command = Vec::new();
        while command.last().is_none_or(|line| line != "e") {
            let Some(Ok(line)) = lines.next() else { return };
            command.push(line);
        }
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let list = |items: &[&str], lists: &mut Vec<Vec<String>>| {
            lists.push(items.iter().map(ToString::to_string).collect());
            format!("!ylo{}", lists.len() - 1)
        };
        let answer = match words.as_slice() {
            ["c", "t", "load", task, variation, "seasy", gold, "e"] => {
                assert_eq!((*task, *variation), ("spower-component", "i0"));
                assert!(["btrue", "bfalse"].contains(gold));
                room = 0;
                "!ys".to_owned()
            }
            ["c", "t", "step", "sjump", "e"] => match jump {
                Jump::Closes => return,
                Jump::Hangs => {
                    std::thread::sleep(Duration::from_secs(60));
                    return;
                }
                Jump::Babbles => "hello".to_owned(),
                Jump::Throws => "!xsjava.lang.IllegalStateException: too high\\n\\tat x".to_owned(),
            },
            ["c", "t", "step", "sgo on", "e"] => {
                room += 1;
                format!("!ysYou are in room {room}.\\nIt is\\\\was dark.")
            }
            ["c", "t", "step", "sgive up", "e"] => {
                room = -100;
                "!ysNo.".to_owned()
            }
            ["c", "t", "step", _, "e"] => "!ysYou see a corridor.".to_owned(),
            ["c", "t", "getScore", "e"] => {
                format!("!yd{}", if room < 0 { -1.0 } else { f64::from(room) * 0.1 })
            }
            ["c", "t", "getCompleted", "e"] => format!("!yb{}", room >= 10),
            ["c", "t", "getTaskDescription", "e"] => format!("!ys{goal}"),
            ["c", "t", "getValidActionObjectCombinations", "e"] => {
                list(&["look around", "go on", "go on", "jump"], &mut lists)
            }
            ["c", "t", "getPossibleObjects", "e"] => list(&["room", "agent"], &mut lists),
            ["c", "t", "getGoldActionSequence", "e"] => list(&["go on"; 10], &mut lists),
            ["c", "z:java.lang.String", "join", "s\\n", id, "e"] => {
                let index: usize = id.strip_prefix("ro").unwrap().parse().unwrap();
                format!("!ys{}", lists[index].join("\\n"))
            }
            ["m", "d", _, "e"] => "!yv".to_owned(),
            other => format!("!xsunknown command {other:?}"),
        };
        if (&stream).write_all(format!("{answer}\n").as_bytes()).is_err() {
            return;
        }
    }
}
