//! Commands on a CUDA device as a person runs them: on the stand-in of `reskill-simt`, or on the machine's own driver with
//! `RESKILL_GPU_TESTS=1`.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A warm start of few small batches, and one step of GRPO.
const SMALL: &[&str] = &[
    "env.household.n_train=12",
    "env.household.n_seen=2",
    "env.household.n_unseen=2",
    "policy.model.hidden_size=16",
    "policy.model.intermediate_size=24",
    "policy.model.num_hidden_layers=1",
    "policy.model.num_attention_heads=2",
    "policy.model.num_key_value_heads=1",
    "policy.model.head_dim=8",
    "sft.episodes=6",
    "sft.epochs=1",
    "sft.steps=3",
    "sft.batch_episodes=2",
    "sft.optimizer.warmup_steps=0",
    "rollout.tasks_per_step=1",
    "rollout.group_size=2",
    "rollout.max_turns=4",
    "grpo.steps=1",
    "eval.games=1",
    "eval.every=0",
    "skills.mode=off",
    "checkpoint.every=1",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../reskill-model/tests/fixtures").join(name)
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reskill-cli"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if reskill_simt::is_stand_in() {
        command.env("LD_LIBRARY_PATH", reskill_simt::library_dir());
    }
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

fn succeed(args: &[&str]) -> Output {
    let output = command(args).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    output
}

/// Log-probabilities of a fixture's texts.
fn scores(model: &str, more: &[&str]) -> Vec<f64> {
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids.json");
    std::fs::write(&ids, "[[1,2,3,4,5,6,7,8],[9,30,7]]").unwrap();
    let folder = fixture(model);
    let args = ["score", "--model", folder.to_str().unwrap(), "--ids-file", ids.to_str().unwrap()];
    let output = succeed(&[&args[..], more].concat());
    let lines = String::from_utf8(output.stdout).unwrap();
    let numbers = lines.lines().flat_map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["logprobs"].as_array().unwrap().iter().filter_map(Value::as_f64).collect::<Vec<_>>()
    });
    numbers.collect()
}

#[test]
fn score_on_a_device_prints_what_the_processor_prints() {
    let adapter = fixture("adapter");
    let beside = ["--adapter", adapter.to_str().unwrap()];
    for (model, more) in [("parity/llama", &[][..]), ("parity/qwen2-sharded", &[]), ("parity/llama", &beside)]
    {
        let want = scores(model, more);
        assert_eq!(want.len(), 9);
        // f32: sums in another order. bf16: weights and activations rounded to 2^-9 through a few blocks.
        for (precision, within) in [("f32", 1e-4), ("bf16", 0.15)] {
            let got = scores(model, &[more, &["--device", "cuda", "--precision", precision]].concat());
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() < within, "{model} {precision}: {got}, expected {want}");
            }
        }
    }
}

#[test]
fn score_on_a_device_refuses_a_token_outside_the_vocabulary() {
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids.json");
    std::fs::write(&ids, "[[1,61]]").unwrap();
    let folder = fixture("parity/llama");
    let args = ["score", "--device", "cuda", "--model", folder.to_str().unwrap(), "--ids-file"];
    let output = command(&[&args[..], &[ids.to_str().unwrap()]].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output);
    assert!(
        message.contains("text 1 cannot be scored: embedding_forward: `tokens` = 61, expected < 61"),
        "{message}"
    );
}

#[test]
fn generate_on_a_device_writes_what_the_processor_writes() {
    let model = fixture("tiny-qwen3.gguf");
    let say = |more: &[&str]| {
        let args =
            ["generate", "--model", model.to_str().unwrap(), "--prompt", "the", "--max-new-tokens", "12"];
        succeed(&[&args[..], more].concat()).stdout
    };
    for how in [["--temperature", "0"], ["--seed", "5"]] {
        assert_eq!(say(&[&how[..], &["--device", "cuda:0"]].concat()), say(&how));
    }
    assert!(!say(&["--device", "cuda", "--precision", "bf16"]).is_empty());
}

/// The records of `metrics.jsonl` of one kind.
fn records(run: &Path, kind: &str) -> Vec<Value> {
    let file = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records = file.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["kind"] == kind).collect()
}

fn train(run: &Path, more: &[&str]) -> Output {
    let mut args = vec!["train", "--out", run.to_str().unwrap()];
    args.extend(SMALL.iter().flat_map(|assignment| ["--set", assignment]));
    succeed(&[&args[..], more].concat())
}

#[test]
fn train_on_a_device_goes_the_way_of_the_processor_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    train(&at("cpu"), &[]);
    for (name, precision, within) in [("f32", "f32", 1e-3), ("bf16", "bf16", 0.05)] {
        let output = train(&at(name), &["--device", "cuda", "--precision", precision]);
        let said = text(&output);
        assert!(said.contains("device: cuda:0 (") && said.contains("memory: weights "), "{said}");
        let losses = |run: &Path| -> Vec<f64> {
            records(run, "warm_start")
                .iter()
                .map(|record| record["update"]["loss"].as_f64().unwrap())
                .collect()
        };
        let (got, want) = (losses(&at(name)), losses(&at("cpu")));
        assert_eq!((got.len(), want.len()), (3, 3));
        for (got, want) in got.iter().zip(&want) {
            assert!((got - want).abs() < within, "{precision}: {got}, expected {want}");
        }
        let steps = records(&at(name), "step");
        assert_eq!(steps.len(), 1);
        // Sampler and trainer compute in different orders on a device; in bf16 they round differently.
        let mismatch = steps[0]["update"]["sampler_mismatch"].as_f64().unwrap();
        assert!(mismatch < 10.0 * within, "{precision}: {mismatch}");
        assert!(at(name).join("policy/model.safetensors").is_file());
        let config = std::fs::read_to_string(at(name).join("config.toml")).unwrap();
        assert!(
            config.contains("name = \"cuda\"") && config.contains(&format!("precision = \"{precision}\""))
        );
    }
    // The finished run is read back to the device.
    succeed(&["train", "--resume", at("bf16").to_str().unwrap()]);
    evaluations_agree(&at("cpu"), &at("bf16"));
}

/// What `eval` prints of a run; where it plays is not part of it.
fn evaluate(run: &Path, more: &[&str]) -> Value {
    let args = ["eval", run.to_str().unwrap(), "--split", "seen", "--greedy", "--json"];
    serde_json::from_slice(&succeed(&[&args[..], more].concat()).stdout).unwrap()
}

/// A run of the processor is played on a device, and one of a device on either: the same likeliest tokens.
fn evaluations_agree(cpu: &Path, bf16: &Path) {
    let want = evaluate(cpu, &[]);
    assert_eq!(want["splits"][0]["played"][0]["n_episodes"], 1);
    for more in [&["--device", "cuda"][..], &["--device", "cuda:0", "--gemm", "auto", "--slots", "1"]] {
        assert_eq!(evaluate(cpu, more), want, "{more:?}");
    }
    assert_eq!(evaluate(bf16, &["--device", "cpu"])["splits"][0]["played"][0]["n_episodes"], 1);
    let on_device = evaluate(bf16, &[]);
    assert_eq!(evaluate(bf16, &["--device", "cuda", "--precision", "bf16"]), on_device);
    if !reskill_simt::is_stand_in() {
        return;
    }
    // A machine without the device is told how to play all the same.
    let output = command(&["eval", bf16.to_str().unwrap()]).env_remove("LD_LIBRARY_PATH").output().unwrap();
    let message = text(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    let expected = "error: the run was trained on cuda; give --device cpu to play on the processor: device: cuda:0: no CUDA";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn sft_on_a_device_writes_a_policy() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let mut args = vec!["sft", "--out", run.to_str().unwrap(), "--device", "cuda", "--precision", "bf16"];
    args.extend(SMALL.iter().flat_map(|assignment| ["--set", assignment]));
    succeed(&args);
    assert_eq!(records(&run, "warm_start").len(), 3);
    assert!(run.join("policy/model.safetensors").is_file());
}

#[test]
fn a_device_that_is_not_there_is_one_clear_line_and_exit_code_2() {
    for (args, expected) in [
        (["train", "--device", "cuda:99"], ["no CUDA driver (libcuda)", "this machine has "]),
        (["train", "--device", "gpu"], ["device `gpu` is not known"; 2]),
        (["train", "--precision", "bf16"], ["cpu does not offer weights and activations in bf16"; 2]),
    ] {
        for loads in [true, false] {
            let mut command = command(&args);
            if !loads {
                command.env_remove("LD_LIBRARY_PATH");
            }
            let dir = tempfile::tempdir().unwrap();
            let output = command.args(["--out", dir.path().join("run").to_str().unwrap()]).output().unwrap();
            let message = text(&output);
            assert_eq!(output.status.code(), Some(2), "{message}");
            let errors: Vec<&str> = message.lines().filter(|line| line.starts_with("error: ")).collect();
            assert_eq!(errors.len(), 1, "{message}");
            assert!(expected.iter().any(|expected| errors[0].contains(expected)), "{message}");
            assert!(!message.contains("panicked"), "{message}");
        }
    }
}

#[test]
fn a_driver_older_than_the_kernels_is_one_line_that_names_the_one_to_install() {
    if !reskill_simt::is_stand_in() {
        return; // A real driver has the version that it has.
    }
    let output = command(&["train", "--device", "cuda"]).env("RESKILL_SIMT_DRIVER_VERSION", "12080").output();
    let output = output.unwrap();
    let message = text(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    let expected = "cuda:0: the driver is for CUDA 12.8, the kernels need 13.0; install driver 580 or newer";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_device_without_room_is_one_line_that_says_what_helps() {
    if !reskill_simt::is_stand_in() {
        return; // A real device has the memory that it has.
    }
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let mut args = vec!["train", "--out", run.to_str().unwrap(), "--device", "cuda"];
    args.extend(SMALL.iter().flat_map(|assignment| ["--set", assignment]));
    let output = command(&args).env("RESKILL_SIMT_MEMORY_MB", "64").output().unwrap();
    let message = text(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    let errors: Vec<&str> = message.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{message}");
    assert!(errors[0].starts_with("error: memory: training needs "), "{message}");
    assert!(errors[0].contains(" of cuda:0, ") && errors[0].contains("--device cpu"), "{message}");
    assert!(!run.join("metrics.jsonl").exists());
}

#[test]
fn every_way_to_multiply_gives_the_same_scores_and_a_missing_library_is_one_line() {
    let want = scores("parity/llama", &["--device", "cuda"]);
    for who in ["own", "portable", "cublaslt", "auto"] {
        for (got, want) in scores("parity/llama", &["--device", "cuda", "--gemm", who]).iter().zip(&want) {
            // f32 sums in another order.
            assert!((got - want).abs() < 1e-4, "{who}: {got}, expected {want}");
        }
    }
    if !reskill_simt::is_stand_in() {
        return;
    }
    // A driver without cuBLASLt beside it.
    let dir = tempfile::tempdir().unwrap();
    for name in ["libcuda.so", "libcuda.so.1"] {
        std::os::unix::fs::symlink(reskill_simt::library_dir().join("libcuda.so"), dir.path().join(name))
            .unwrap();
    }
    let run = dir.path().join("run");
    let args = ["train", "--device", "cuda", "--gemm", "cublaslt", "--out", run.to_str().unwrap()];
    let output = command(&args).env("LD_LIBRARY_PATH", dir.path()).output().unwrap();
    let message = text(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(
        message.contains("products by cuBLASLt (") && message.contains("use gemm backend `own`"),
        "{message}"
    );
    assert!(!message.contains("panicked"), "{message}");
}

/// The JSON lines of a benchmark on a device.
fn bench(args: &[&str]) -> Vec<Value> {
    let output = succeed(&[&["bench"][..], args, &["--device", "cuda", "--quick", "--json"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn benchmarks_say_who_multiplied_and_hold_products_against_the_quickest() {
    let on = ["--sizes", "tiny", "--rounds", "2"];
    let lines =
        bench(&[&["kernels", "--filter", "matmul_qkv|cast_to_bf16", "--gemm", "auto"][..], &on].concat());
    let ceilings = &lines[0]["ceilings"];
    let rates = ceilings["matrix_rates"].as_object().unwrap();
    assert!(rates.contains_key("own") && rates.contains_key("auto"), "{ceilings}");
    let best = rates.values().map(|rate| rate.as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(ceilings["flops_per_second"].as_f64(), Some(best));
    assert_eq!(rates[ceilings["matrix_by"].as_str().unwrap()].as_f64(), Some(best));
    let machine = &lines[1]["machine"];
    assert_eq!((&machine["gemm"], machine["capability"].is_string()), (&"auto".into(), true));
    assert!(
        machine["driver"].as_str().unwrap().contains('.') && machine["multiprocessors"].as_u64() > Some(0)
    );
    let choice = lines.iter().find(|line| line["bench"] == "gemm_choice").unwrap();
    assert!(choice["candidates"][0]["micros"].is_f64() && choice["chosen"].is_string(), "{choice}");
    assert!(lines.iter().any(|line| line["op"] == "cast_to_bf16" && line["right"] == true));
}

#[test]
fn every_operation_in_bf16_is_right_or_left_out_with_its_reason() {
    if !reskill_simt::is_stand_in() {
        return; // `scripts/gpu-check` does this at real sizes.
    }
    let on = ["kernels", "--sizes", "tiny", "--rows", "9", "--rounds", "2", "--dtype", "bf16"];
    let lines = bench(&on);
    assert!(lines.iter().any(|line| line["op"] == "adamw_master" && line["right"] == true));
    for line in lines.iter().filter(|line| line["bench"] == "kernels") {
        assert!(line["right"] == true || line["left_out"].is_string(), "{line}");
    }
}

#[test]
fn what_finds_no_room_is_left_out_or_refused_with_numbers() {
    if !reskill_simt::is_stand_in() {
        return; // A real device has the memory that it has.
    }
    let run = |args: &[&str]| {
        let args = [&["bench"][..], args, &["--device", "cuda", "--quick", "--rounds", "2"]].concat();
        command(&args).env("RESKILL_SIMT_MEMORY_MB", "64").output().unwrap()
    };
    let output =
        run(&["kernels", "--sizes", "smollm2", "--rows", "4", "--filter", "^matmul_lm_head$", "--json"]);
    assert!(output.status.success(), "{}", text(&output));
    let last: Value =
        serde_json::from_slice(output.stdout.split(|&byte| byte == b'\n').nth(1).unwrap()).unwrap();
    assert!(last["left_out"].as_str().unwrap().contains("has no room for"), "{last}");
    assert_eq!((&last["op"], &last["bench"]), (&"matmul_lm_head".into(), &"kernels".into()));
    // As `scripts/gpu-check` looks for it.
    assert!(text(&output).contains("\"op\":\"matmul_lm_head\",\"left_out\":\""), "{}", text(&output));
    let output = run(&["decode", "--sizes", "smollm2", "--batch", "64"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output).contains("decode: needs ") && text(&output).contains("cuda:0 has "),
        "{}",
        text(&output)
    );
}

#[test]
fn doctor_names_the_driver_and_the_library_for_products() {
    if !reskill_simt::is_stand_in() {
        return; // A real device may have no cuBLASLt.
    }
    let said = String::from_utf8(command(&["doctor"]).output().unwrap().stdout).unwrap();
    let line = |part: &str| said.lines().find(|line| line.contains(part)).unwrap().to_string();
    assert!(
        line("gpu ").contains("driver for CUDA 13.0") && line("gpu ").matches("cuda:0").count() == 1,
        "{said}"
    );
    assert!(line("cublaslt").starts_with("ok"), "{said}");
}
