//! The language of all texts (words that this project does not use), and the links of the pages, checked offline.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::project;

/// Words and pairs of words for which there are standard terms. Only this file may contain them.
const BANNED: [&str; 11] =
    ["told", "tells", "anew", "beside", "whoever", "he", "him", "his", "himself", "asked for", "can be had"];

/// Directories with texts. Recorded data and build results in them are skipped.
const PLACES: [&str; 9] =
    ["src", "mount-helper", "tests", "benches", "fuzz", "scripts", "docs", "examples", ".github"];

fn files_below(place: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(place).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let kind = entry.file_type().unwrap();
        if kind.is_dir()
            && !["target", "data", "corpus", "__pycache__"].iter().any(|left_out| name == *left_out)
        {
            files_below(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

/// The pages at the top of the project.
fn top_pages() -> Vec<PathBuf> {
    let entries = fs::read_dir(project()).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
}

/// The words of `text` in lower case, separated and surrounded by blanks. `_` separates words, too.
fn words_of(text: &str) -> String {
    let words = text.split(|letter: char| !letter.is_alphabetic()).filter(|word| !word.is_empty());
    format!(" {} ", words.collect::<Vec<_>>().join(" ").to_lowercase())
}

fn banned_in(text: &str) -> Vec<&'static str> {
    let words = words_of(text);
    BANNED.into_iter().filter(|banned| words.contains(&format!(" {banned} "))).collect()
}

/// The places of banned words in a text. A pair of words that the end of a line separates is in no line, so only its file is named.
fn report(path: &Path, text: &str) -> Vec<String> {
    let mut in_no_line = banned_in(text);
    if in_no_line.is_empty() {
        return Vec::new();
    }
    let mut places = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let banned = banned_in(line);
        places.extend(banned.iter().map(|word| format!("{}:{}: {word}", path.display(), number + 1)));
        in_no_line.retain(|word| !banned.contains(word));
    }
    places.extend(in_no_line.iter().map(|words| format!("{}: {words}", path.display())));
    places
}

#[test]
fn texts_use_no_banned_word() {
    let mut files = top_pages();
    for place in PLACES {
        files_below(&project().join(place), &mut files);
    }
    assert!(files.len() > 500, "{}", files.len());
    let mut wrong = Vec::new();
    for path in files.iter().filter(|path| !path.ends_with(file!())) {
        let Ok(text) = fs::read_to_string(path) else { continue };
        wrong.extend(report(path, &text));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(banned_in("as_told, Anew; asked\nfor"), ["told", "anew", "asked for"]);
    assert!(banned_in("the toll, she, asks for").is_empty());
    assert_eq!(
        report(Path::new("page"), "All\nwas told and asked\nfor."),
        ["page:2: told", "page: asked for"]
    );
}

/// The lines of a page outside of code blocks.
fn prose_of(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let is_prose = |line: &&str| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    };
    text.lines().filter(is_prose).collect()
}

/// The targets of the Markdown links in a page.
fn links_of(text: &str) -> Vec<&str> {
    let targets = prose_of(text).into_iter().flat_map(|line| line.split("](").skip(1));
    targets.filter_map(|rest| Some(rest.split_once(')')?.0)).collect()
}

/// The anchor that GitHub gives a heading.
fn anchor_of(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter(|letter| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter));
    kept.map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}

fn has_anchor(page: &Path, anchor: &str) -> bool {
    let text = fs::read_to_string(page).unwrap();
    text.lines().any(|line| line.starts_with('#') && anchor_of(line) == anchor)
}

#[test]
fn links_of_the_pages_lead_to_files_and_headings() {
    let mut pages = top_pages();
    files_below(&project().join("docs"), &mut pages);
    let mut wrong = Vec::new();
    let mut checked = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(page).unwrap();
        for link in links_of(&text).into_iter().filter(|link| !link.contains("://")) {
            let (path, anchor) =
                link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            if !target.exists() || anchor.is_some_and(|anchor| !has_anchor(&target, anchor)) {
                wrong.push(format!("{}: {link}", page.display()));
            }
            checked += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 30, "{checked}");
}

#[test]
fn readme_links_every_page() {
    let readme = fs::read_to_string(project().join("README.md")).unwrap();
    let mut pages = Vec::new();
    files_below(&project().join("docs"), &mut pages);
    let names = pages.iter().map(|page| page.file_name().unwrap().to_string_lossy());
    let missing: Vec<_> = names.filter(|name| !readme.contains(&format!("(docs/{name})"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// The paths in backticks in a page that begin with one of [`PLACES`]; patterns are skipped.
fn paths_of(text: &str) -> Vec<&str> {
    let quoted = prose_of(text).into_iter().flat_map(|line| line.split('`').skip(1).step_by(2));
    let is_pattern = |path: &str| path.contains(|letter: char| "<>*…{ ".contains(letter));
    let is_ours = |path: &str| path.split_once('/').is_some_and(|(first, _)| PLACES.contains(&first));
    quoted.filter(|path| is_ours(path) && !is_pattern(path)).collect()
}

#[test]
fn paths_in_the_pages_exist() {
    let mut pages = top_pages();
    files_below(&project().join("docs"), &mut pages);
    let mut wrong = Vec::new();
    let mut checked = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for path in paths_of(&text) {
            if !project().join(path.split("::").next().unwrap_or(path)).exists() {
                wrong.push(format!("{}: {path}", page.display()));
            }
            checked += 1;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 50, "{checked}");
}

#[test]
fn configuration_names_every_variable() {
    let mut sources = Vec::new();
    files_below(&project().join("src"), &mut sources);
    let page = fs::read_to_string(project().join("docs/configuration.md")).unwrap();
    let is_variable = |text: &&str| {
        let is_ours = text.starts_with("HOLOFS_") || text.starts_with("RCC_NO_");
        is_ours && text.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_')
    };
    let mut variables = std::collections::BTreeSet::new();
    for path in sources {
        let text = fs::read_to_string(&path).unwrap_or_default();
        variables.extend(text.split('"').filter(is_variable).map(str::to_owned));
    }
    // Only for tests.
    variables.remove("HOLOFS_UPDATE_DOCS");
    assert!(variables.len() > 20, "{variables:?}");
    let missing: Vec<_> = variables.iter().filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
