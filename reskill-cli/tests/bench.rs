//! `bench kernels`, `ceilings`, `prefill`, `decode` and `train` as people and programs run them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::{Command, Output};

use serde_json::Value;

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reskill-cli")).arg("bench").args(args).output().unwrap()
}

/// The JSON lines of a command that succeeds.
fn lines(args: &[&str]) -> Vec<Value> {
    let output = bench(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

const SMALL: [&str; 6] = ["--sizes", "tiny", "--quick", "--rounds", "2", "--json"];

#[test]
fn every_operation_is_right_and_beside_its_floor() {
    let lines = lines(&[&["kernels", "--rows", "9"][..], &SMALL].concat());
    assert_eq!(lines[0]["bench"], "ceilings");
    let (mut ops, mut left_out) = (Vec::new(), 0);
    for line in &lines[1..] {
        if line["op"] == "adamw_master" || line["op"].as_str().unwrap().starts_with("cast_") {
            // The CPU stores f32 alone.
            assert!(
                line["left_out"].as_str().unwrap().contains("f32") && line["seconds"].is_null(),
                "{line}"
            );
            left_out += 1;
            continue;
        }
        assert_eq!((&line["right"], &line["not_finite"]), (&true.into(), &0.into()), "{line}");
        let (share, times) = (line["fraction_of_floor"].as_f64(), line["time_over_floor"].as_f64());
        assert!((share.unwrap() * times.unwrap() - 1.0).abs() < 1e-9, "{line}");
        assert!(
            line["floor_seconds"].as_f64().unwrap() > 0.0
                && line["seconds"]["median"].as_f64().unwrap() > 0.0
        );
        let machine = &line["machine"];
        assert!(machine["seed"].is_u64() && machine["device"] == "cpu" && machine["quick"] == true, "{line}");
        assert!(machine["gemm"] == "own" && machine["commit"].as_str().unwrap().len() >= 7, "{line}");
        ops.push(line["op"].as_str().unwrap());
    }
    // Each one hot and cold.
    ops.dedup();
    assert_eq!((ops.len(), left_out, lines.len() - 1), (51, 3, 105));
    assert!(ops.contains(&"linear_logprob_backward") && ops.contains(&"attention_backward"));
}

#[test]
fn a_filter_chooses_and_a_seed_repeats() {
    let run = || lines(&[&["kernels", "--filter", "^adamw", "--seed", "7"][..], &SMALL].concat());
    let (first, second) = (run(), run());
    assert_eq!(first.len(), 6);
    for (first, second) in first[1..].iter().zip(&second[1..]) {
        assert_eq!((&first["op"], &first["error"]), (&second["op"], &second["error"]));
    }
}

#[test]
fn the_roofline_names_what_it_draws() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roofline.svg");
    lines(
        &[&["kernels", "--filter", "rms_norm|matmul_out|cache_append", "--plot", file.to_str().unwrap()][..], &SMALL]
            .concat(),
    );
    let svg = std::fs::read_to_string(file).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>"));
    assert!(svg.contains("Not drawn, for they compute nothing: cache_append<"));
    for name in
        ["rms_norm_forward N=37", "rms_norm_backward N=37", ">matmul_out<", "operations per byte", "seed "]
    {
        assert!(svg.contains(name), "{name}");
    }
}

#[test]
fn the_roofline_has_room_for_every_operation() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roofline.svg");
    lines(&[&["kernels", "--rows", "3", "--plot", file.to_str().unwrap()][..], &SMALL].concat());
    let svg = std::fs::read_to_string(file).unwrap();
    let height: f64 = svg.split("height=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
    let lowest =
        svg.split(" y=\"").skip(1).map(|text| text.split('"').next().unwrap().parse::<f64>().unwrap());
    assert!(lowest.fold(0.0, f64::max) < height, "{height}");
    assert!(svg.contains(">linear_kl_backward<"));
}

#[test]
fn names_are_listed_without_measuring() {
    let output = bench(&["kernels", "--list", "--filter", "^rope"]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "rope_forward\nrope_backward\n");
}

#[test]
fn two_measurements_are_compared_and_what_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let line = |median: f64| {
        format!(
            r#"{{"bench":"kernels","op":"swiglu_forward","shape":{{"N":8,"F":4}},"dtype":"f32","mode":"hot","seconds":{{"median":{median},"p10":1.0,"p90":1.0,"rounds":5,"noise":0.02}},"error":1e-7,"right":true}}"#
        )
    };
    let (before, after) = (file("before", &line(3.0)), file("after", &line(2.0)));
    let found = lines(&["compare", &before, &after, "--json"]);
    assert_eq!((found.len(), &found[0]["verdict"], &found[0]["ratio"]), (1, &"quicker".into(), &1.5.into()));
    assert_eq!(found[0]["shape"]["N"], 8);
    let peer = r#"{"bench":"peers","peer":"torch eager","op":"swiglu_forward","shape":{"N":8,"F":4},"dtype":"f32","seconds":{"median":2.05,"p10":2.0,"p90":2.1,"rounds":3},"error":2e-7}"#;
    let table = bench(&["compare", &after, &file("peers", peer)]);
    let table = String::from_utf8(table.stdout).unwrap();
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert!(row.contains(&"inconclusive") && row.contains(&"2.0e-7") && row.contains(&"F=4"), "{table}");
    let peers = file("peers", peer);
    let text = file("text", "no measurement\n{\"a\":1}\n");
    let other = file("other", &line(1.0).replace("swiglu_forward", "other"));
    for (files, words) in [
        (vec![&after], "all lines are ours"),
        (vec![&text], "holds no measurements"),
        (vec![&peers], "no file has lines of ours"),
        (vec![&after, &other], "nothing to compare"),
        (vec![&before, &after, &other], "give two at most"),
    ] {
        let files: Vec<&str> = files.into_iter().map(String::as_str).collect();
        let output = bench(&[&["compare"][..], &files].concat());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && text.contains(words), "{files:?}: {text}");
    }
}

#[test]
fn whole_models_are_measured_in_tokens_a_second() {
    for command in [&["prefill"][..], &["decode", "--steps", "2", "--batch", "2"], &["train"]] {
        let lines = lines(&[command, &["--tokens", "12"], &SMALL].concat());
        assert_eq!((lines.len(), &lines[0]["bench"]), (1, &Value::from(command[0])));
        assert!(lines[0]["tokens_per_second"].as_f64().unwrap() > 0.0);
        assert!(lines[0]["fraction_of_floor"].as_f64().unwrap() > 0.0);
    }
}

#[cfg(unix)]
#[test]
fn llama_cpp_decodes_beside_us_by_its_own_program() {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let (program, said) = (folder.path().join("llama-batched-bench"), folder.path().join("said"));
    // A stand-in that prints what the program of llama.cpp prints, the second run quicker than the first.
    let script = format!(
        r#"#!/bin/sh
        echo "$@" >>'{said}'
        case "$(wc -l <'{said}')" in 1) t=2.0;; *) t=1.6;; esac
        echo
        for pl in 1 8 32; do
            echo "{{\"n_threads\": 2, \"pp\": 32, \"tg\": 32, \"pl\": $pl, \"t_pp\": 0.1, \"t_tg\": $t, \"speed\": 9.0}}"
        done
        echo 'llama_perf: done' >&2
        "#,
        said = said.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let model = here.join("../reskill-model/tests/fixtures/tiny-llama.gguf");
    let (model, peers) = (model.to_str().unwrap(), here.join("../scripts/bench-cpu-peers"));
    let ours = ["cpu", "--model", model, "--cases", "decode", "--weights", "f32", "--rounds", "2", "--peers"];
    let theirs =
        [peers.to_str().unwrap(), "--peer-gguf", model, "--peer-llama-bench", program.to_str().unwrap()];
    let lines = lines(&[&ours[..], &theirs].concat());
    let batches = |peer: &str| -> Vec<(u64, f64)> {
        let of_peer = lines.iter().filter(|line| line["peer"] == peer);
        of_peer
            .map(|line| {
                assert_eq!(
                    (&line["case"], line["tokens"].as_u64()),
                    (&Value::from("decode"), Some(32 * line["batch"].as_u64().unwrap()))
                );
                (line["batch"].as_u64().unwrap(), line["tokens_per_second"].as_f64().unwrap())
            })
            .collect()
    };
    // 32 tokens a sequence in the quickest of the runs, 1.6 seconds.
    assert_eq!(batches("llama.cpp"), [(1, 20.0), (8, 160.0), (32, 640.0)]);
    assert_eq!(batches("reskill f32").iter().map(|(batch, _)| *batch).collect::<Vec<_>>(), [1, 8, 32]);
    let said = std::fs::read_to_string(said).unwrap();
    let wanted = format!("-m {model} -t 2 -tb 2 -npp 32 -ntg 32 -npl 1,8,32 -c 2048 --output-format jsonl");
    assert_eq!(said.lines().collect::<Vec<_>>(), [wanted.as_str(), wanted.as_str()]);
}

#[test]
fn what_cannot_be_measured_is_refused_in_one_line() {
    let refused = |args: &[&str], words: &str| {
        let output = bench(args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && text.trim_end().lines().count() == 1 && text.contains(words),
            "{text}"
        );
    };
    refused(&["kernels", "--dtype", "bf16"], "the CPU computes in f32");
    refused(&["kernels", "--filter", "("], "is no regular expression");
    refused(&["kernels", "--rows", "0"], "expected 1 or more");
    refused(&["ceilings", "--rounds", "1"], "expected 2 or more");
    refused(&["kernels", "--device", "gpu"], "`gpu` is not known");
    refused(&["decode", "--batch", "0"], "at least 1");
    refused(&["kernels", "--filter", "no_such"], "there are embedding_forward, rms_norm_forward");
    refused(&["kernels", "--plot", "roofline.png"], "ends in .svg");
    refused(&["kernels", "--plot", "/no/such/folder/roofline.svg"], "its folder is not there");
    let large = ["decode", "--sizes", "qwen3-0.6b", "--tokens", "1000000", "--batch", "4096"];
    refused(&large, "cpu has ");
    refused(&["compare", "/no/such/file"], "cannot be read");
}
