//! What the simulator prints.

use clap::Parser as _;

use crate::arguments::{Arguments, Command};

fn simulate(line: &str) -> Result<String, String> {
    let words = ["esker", "simulate"].into_iter().chain(line.split(' '));
    let arguments = Arguments::try_parse_from(words).map_err(|error| error.to_string())?;
    let Command::Simulate(simulated) = arguments.command else { panic!("{arguments:?}") };
    let mut out = Vec::new();
    super::run(&simulated, &mut out).map_err(|failure| failure.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len() - count..].join("\n")
}

#[test]
fn tiered_ends_as_the_course_publishes_it() {
    let text = simulate("tiered --iterations 200").unwrap();
    let expected = "write amplification: 742/200 = 3.710\nspace amplification: 280/200 = 1.400\n\
                    read amplification: 7\ntables, newest first: 0 1 1 4 5 21 28 140";
    assert_eq!(last_lines(&text, 4), expected);
}

#[test]
fn last_line_with_json_is_one_object() {
    let text = simulate("tiered --iterations 200 --size-only --json").unwrap();
    let value: serde_json::Value = serde_json::from_str(&last_lines(&text, 1)).unwrap();
    let expected = serde_json::json!({
        "flushes": 200, "tables_written": 742, "write_amplification": 3.71, "peak_tables": 280,
        "space_amplification": 1.4, "read_amplification": 7,
        "shape": [0, 1, 1, 4, 5, 21, 28, 140],
    });
    assert_eq!(value, expected);
}

#[test]
fn every_policy_takes_the_common_flags_and_repeats_itself() {
    for policy in ["simple", "tiered", "leveled", "universal", "lazy", "fifo", "time-window"] {
        let line = format!("{policy} --iterations 30 --seed 7 --dump-ids --json");
        let text = simulate(&line).unwrap();
        assert_eq!(simulate(&line).unwrap(), text);
        let value: serde_json::Value = serde_json::from_str(&last_lines(&text, 1)).unwrap();
        assert_eq!(value["flushes"], 30, "{policy}");
    }
    let with_seed = |seed: u64| simulate(&format!("leveled --seed {seed} --dump-ids")).unwrap();
    assert_ne!(with_seed(1), with_seed(2));
}

#[test]
fn sizes_ids_and_origins_are_told_apart() {
    let origins = simulate("simple --iterations 2").unwrap();
    assert!(origins.contains("level-0: L0 [2, 1] -> [3, 4]"), "{origins}");
    assert!(origins.contains("L1 (2): [2, 1]\n"), "{origins}");
    let ids = simulate("simple --iterations 2 --dump-ids").unwrap();
    assert!(ids.contains("L1 (2): [3, 4]\n"), "{ids}");
    let sizes = simulate("simple --iterations 2 --size-only").unwrap();
    assert!(sizes.contains("level-0: L0 (2) -> (2)\n"), "{sizes}");
    assert!(sizes.contains("L1 (2)\n"), "{sizes}");
}

#[test]
fn bad_parameters_are_refused_by_the_name_of_the_flag() {
    let refused = [
        ("simple --max-levels 7", "--max-levels is 7, and must be from 1 to 6"),
        ("tiered --num-tiers 1", "--num-tiers is 1, and must be at least 2"),
        ("tiered --max-merge-width 1", "--max-merge-width is 1, and must be at least 2"),
        ("leveled --sst-size-mb 0", "--sst-size-mb is 0, and must be from 1 to 1048576"),
        ("lazy --iterations 0", "--iterations is 0, and must be from 1 to 1000000"),
        ("fifo --age-max 0", "--age-max is 0ns, and must be at least 1s"),
    ];
    for (line, expected) in refused {
        assert_eq!(simulate(line), Err(expected.to_owned()));
    }
}

#[test]
fn drawing_is_written() {
    let path = std::env::temp_dir().join(format!("esker-simulate-{}.svg", std::process::id()));
    simulate(&format!("lazy --iterations 20 --svg {}", path.display())).unwrap();
    let drawing = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(drawing.starts_with("<svg ") && drawing.ends_with("</svg>\n"), "{drawing}");
    assert!(drawing.contains("20 flushes; amplification: write "), "{drawing}");
}
