//! What fuzzing has found and what it begins with hold in every run of the tests: each kept input, what is made of it by
//! writing over parts of it, and each of them grown long.
//!
//! The variations are the same in every run: a new failure is one of the change under test. Longer fuzzing is `make fuzz`.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use portcullis_targets::{TARGETS, Target};

/// Variations of each kept input: together some seconds of work.
const VARIATIONS: u64 = 20;

/// Inputs are grown to this many bytes. What takes more than its length to read would take minutes.
const LONG: usize = 64 * 1024;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The inputs of a folder, by name; none where there is no such folder.
fn inputs(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut inputs: Vec<(String, Vec<u8>)> = entries
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.path().display().to_string(), fs::read(entry.path()).unwrap())
        })
        .collect();
    inputs.sort();
    inputs
}

fn kept(target: Target) -> Vec<(String, Vec<u8>)> {
    let folders = ["corpus", "regressions"].map(|folder| fuzz().join(folder).join(target.name));
    folders.iter().flat_map(|folder| inputs(folder)).collect()
}

fn holds(target: Target, input: &str, data: &[u8]) {
    if catch_unwind(|| (target.run)(data)).is_err() {
        panic!("{} fails on {input}:\n{}", target.name, String::from_utf8_lossy(data.get(..2000).unwrap_or(data)));
    }
}

fn each(run: impl Fn(Target, &str, &[u8], &[(String, Vec<u8>)])) {
    for target in TARGETS {
        let kept = kept(target);
        assert!(!kept.is_empty(), "nothing is kept for {}", target.name);
        for (name, data) in &kept {
            run(target, name, data, &kept);
        }
    }
}

/// A stream of numbers that is the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        start..(start + self.below(24)).min(length)
    }
}

/// Pieces that readers stumble over.
const PIECES: [&str; 24] = [
    "",
    "\0",
    "\u{1b}[2J",
    "\u{202e}",
    "\u{feff}",
    "é",
    "ſ",
    "\n",
    "\r\n",
    "\t",
    " ",
    "-1",
    "0",
    "65536",
    "18446744073709551616",
    "1e999",
    "null",
    "[]",
    "{}",
    "\"",
    "\\",
    "%2F",
    "9999-12-31T23:59:59Z",
    "+262142-12-31T23:59:59Z",
];

fn varied(data: &[u8], others: &[(String, Vec<u8>)], numbers: &mut Numbers) -> Vec<u8> {
    let mut varied = data.to_vec();
    for _ in 0..=numbers.below(4) {
        let place = numbers.range(varied.len());
        let piece = match numbers.below(4) {
            0 => PIECES[numbers.below(PIECES.len())].as_bytes().to_vec(),
            1 => {
                let other = &others[numbers.below(others.len())].1;
                other[numbers.range(other.len())].to_vec()
            }
            2 => varied[numbers.range(varied.len())].to_vec(),
            _ => vec![u8::try_from(numbers.below(256)).unwrap()],
        };
        varied.splice(place, piece);
    }
    varied
}

#[test]
fn every_kept_input_holds() {
    each(|target, name, data, _| holds(target, name, data));
}

#[test]
fn variations_of_kept_inputs_hold() {
    each(|target, name, data, kept| {
        let mut numbers = Numbers(name.bytes().fold(data.len() as u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte))));
        for n in 0..VARIATIONS {
            holds(target, &format!("variation {n} of {name}"), &varied(data, kept, &mut numbers));
        }
    });
}

#[test]
fn long_inputs_are_read_to_their_end() {
    each(|target, name, data, _| {
        let line: Vec<u8> = data.iter().copied().take_while(|byte| *byte != b'\n').chain(*b"\n").collect();
        for (how, piece) in [("whole", data), ("first line", &line)] {
            let long: Vec<u8> = piece.iter().copied().cycle().take(if piece.is_empty() { 0 } else { LONG }).collect();
            holds(target, &format!("{name}, its {how} again and again"), &long);
        }
    });
    for target in TARGETS {
        for byte in [b'[', b'{', b'(', b'"', b'-', b',', b'\n', b'!', b'&', b'0', b'\\', 0xff] {
            holds(target, &format!("{:?} alone", byte as char), &vec![byte; LONG]);
        }
    }
}

#[test]
fn each_target_has_its_program_and_its_folders() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len());
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let programs: BTreeSet<String> =
        manifest.split("[[bin]]").skip(1).filter_map(|program| program.split('"').nth(1)).map(str::to_owned).collect();
    assert_eq!(programs, names);
    for name in &names {
        let program = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        let wanted = format!(
            "//! Runs the target `{name}` of crates/targets.\n#![no_main]\n\n\
             libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis_targets::run(\"{name}\", data));\n"
        );
        assert_eq!(program, wanted);
    }
    for folder in ["corpus", "regressions"] {
        let folders = fs::read_dir(fuzz().join(folder)).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let strangers: Vec<String> = folders.filter(|folder| !names.contains(folder)).collect();
        assert_eq!(strangers, Vec::<String>::new(), "{folder}");
    }
}
