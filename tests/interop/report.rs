//! `holofs report` in a real browser: the page renders with the numbers of the catalog and without an error.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::golden::Regime;
use crate::common::sandbox::Sandbox;
use crate::common::{json, number_field, skip, stderr, stdout};

/// The page after its script ran; `None`, with the reason printed, where there is no Chromium.
fn rendered(sandbox: &Sandbox, page: &Path, dark: bool) -> Option<String> {
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.args(["--enable-logging=stderr", "--dump-dom", "--window-size=400,900"]);
    command.args(dark.then_some("--force-dark-mode"));
    command.arg(format!("--user-data-dir={}", sandbox.scratch().join("chromium").display()));
    match command.arg(format!("file://{}", page.display())).output() {
        Ok(output) => {
            assert!(!stderr(&output).contains("CONSOLE"), "an error on the console: {}", stderr(&output));
            Some(stdout(&output))
        }
        Err(error) => {
            skip(&format!("No Chromium: {error}"));
            None
        }
    }
}

#[test]
fn report_renders_in_a_browser_with_the_numbers_of_the_catalog() {
    let sandbox = Sandbox::golden(Regime::Gzip);
    let page = sandbox.scratch().join("report.html");
    let catalog = sandbox.catalogs().remove(0);
    let args = ["report", &catalog, "--since", &catalog, "--json", "--output", page.to_str().unwrap()];
    let told = json(&sandbox.holofs_ok(&args));
    let files = number_field(&told["touched"], "all_files");
    let text = fs::read_to_string(&page).unwrap();
    assert!(
        !text.contains("http://")
            || text.matches("http://").count() == text.matches("http://www.w3.org/").count()
    );
    assert!(!text.contains("https://"), "the page asks the network for nothing");
    for dark in [false, true] {
        let Some(dom) = rendered(&sandbox, &page, dark) else { return };
        assert!(dom.contains(&format!("{files} of {files} files")), "{dom}");
        assert!(dom.contains("<g tabindex=\"0\" role=\"button\""), "the map has rooms that can be entered");
        assert!(dom.contains("What changed since 14023a1f332a0231"));
        assert!(dom.contains("0 files differ"));
    }
}
