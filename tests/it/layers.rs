//! The architecture as tests: which layer may name which, module headers, and file sizes.

use std::fs;
use std::path::{Path, PathBuf};

/// Layers from the bottom; a module may name its own layer's bottom tools or anything strictly below it.
const LAYERS: [&[&str]; 6] = [
    &[
        "error", "config", "secret", "budget", "deadline", "durable", "memory", "progress", "task",
        "step",
    ],
    &["postgres"],
    &["container", "storage"],
    &["repository"],
    &["wal", "backup", "restore", "retention"],
    &["cli"],
];

const LINES_PER_FILE: usize = 500;

#[test]
fn no_module_names_a_layer_above_it_or_a_neighbour() {
    let mut offences = Vec::new();
    for file in rust_files("src") {
        let relative = file.strip_prefix(source_root()).expect("found below it").to_owned();
        let Some(module) = top_module(&relative) else { continue };
        for (line, named) in named_modules(&read(&file), depth(&relative)) {
            if !may_name(&module, &named) {
                offences.push(format!("{}:{line}: {module} → {named}", relative.display()));
            }
        }
    }
    assert!(offences.is_empty(), "against the arrows of lib.rs:\n{}", offences.join("\n"));
}

#[test]
fn every_directory_module_says_what_it_owns() {
    let silent = |file: &PathBuf| !read(file).starts_with("//!");
    let modules = rust_files("src").into_iter().filter(|file| file.ends_with("mod.rs"));
    let offenders: Vec<_> = modules.filter(silent).collect();
    assert!(offenders.is_empty(), "no `//!` opens {offenders:?}");
}

#[test]
fn no_file_tells_more_than_one_story() {
    let files = rust_files("src").into_iter().chain(rust_files("tests"));
    let long = files.filter(|file| read(file).lines().count() > LINES_PER_FILE);
    let offenders: Vec<_> = long.collect();
    assert!(offenders.is_empty(), "above {LINES_PER_FILE} lines: {offenders:?}");
}

#[test]
fn paths_are_found_however_they_are_written() {
    let text = "use crate::cli;\nuse crate::{error::Error, wal::{push, fetch}};\n\
                use super::super::backup::scan; // crate::restore\nlet x = crate::task::run();";
    let found: Vec<_> = named_modules(text, 2).into_iter().map(|(_, name)| name).collect();
    assert_eq!(found, ["cli", "error", "wal", "backup", "task"]);
}

fn may_name(module: &str, named: &str) -> bool {
    let (from, to) = (layer(module), layer(named));
    module == named || to < from || (to == 0 && from == 0)
}

fn layer(module: &str) -> usize {
    let found = LAYERS.iter().position(|modules| modules.contains(&module));
    found.unwrap_or_else(|| panic!("`{module}` has no layer: name it in LAYERS and in lib.rs"))
}

/// The module below the crate's root that a file of `src` belongs to; none for the roots themselves.
fn top_module(relative: &Path) -> Option<String> {
    let first = relative.components().next()?.as_os_str().to_string_lossy().into_owned();
    let name = first.trim_end_matches(".rs").to_owned();
    (name != "main" && name != "lib").then_some(name)
}

/// How many `super` lead from the module of a file to the crate's root.
fn depth(relative: &Path) -> usize {
    let parts = relative.components().count();
    if relative.ends_with("mod.rs") { parts - 1 } else { parts }
}

/// The first names of all paths from the crate's root in `text`, with their line numbers.
fn named_modules(text: &str, depth: usize) -> Vec<(usize, String)> {
    let code = without_comments(text);
    let ancestors = "super::".repeat(depth);
    let mut found: Vec<(usize, String)> = Vec::new();
    for root in ["crate::", &ancestors] {
        for (position, _) in code.match_indices(root) {
            let line = code[..position].matches('\n').count() + 1;
            let names = first_names(&code[position + root.len()..]);
            found.extend(names.into_iter().map(|name| (line, name)));
        }
    }
    found.retain(|(_, name)| name.starts_with(|first: char| first.is_ascii_lowercase()));
    found.retain(|(_, name)| name != "super");
    found.sort_by_key(|(line, _)| *line);
    found
}

/// `error::Error` names `error`; `{error::Error, wal::{push, fetch}}` names `error` and `wal`.
fn first_names(path: &str) -> Vec<String> {
    match path.strip_prefix('{') {
        Some(group) => group_members(group).iter().map(|member| identifier(member)).collect(),
        None => vec![identifier(path)],
    }
}

fn group_members(group: &str) -> Vec<&str> {
    let (mut nested, mut start, mut members) = (0, 0, Vec::new());
    for (position, character) in group.char_indices() {
        match character {
            '{' => nested += 1,
            '}' if nested == 0 => {
                members.push(&group[start..position]);
                break;
            }
            '}' => nested -= 1,
            ',' if nested == 0 => {
                members.push(&group[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    members.retain(|member| !member.trim().is_empty());
    members
}

fn identifier(path: &str) -> String {
    let allowed = |character: &char| character.is_alphanumeric() || *character == '_';
    path.trim_start().chars().take_while(allowed).collect()
}

fn without_comments(text: &str) -> String {
    let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
    text.lines().map(code).collect::<Vec<_>>().join("\n")
}

fn source_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(directory: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), &mut files);
    files.sort();
    files
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the sources can be read") {
        let path = entry.expect("the sources can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).expect("the sources can be read")
}
