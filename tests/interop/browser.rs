//! A real browser under control: Chromium by WebDriver, which presses real keys.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::common::skip;

/// Keys by their WebDriver code.
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const ESCAPE: &str = "\u{e00c}";
pub const RIGHT: &str = "\u{e014}";

/// A browser with one window, closed when dropped.
pub struct Browser {
    driver: Child,
    session: String,
}

impl Browser {
    /// A window of `width` by 900 pixels, with its profile in `dir`; `None`, with the reason printed, where there is no driver.
    pub fn start(dir: &Path, width: u32, is_dark: bool) -> Option<Browser> {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = match command.spawn() {
            Ok(driver) => driver,
            Err(error) => {
                skip(&format!("No chromedriver: {error}"));
                return None;
            }
        };
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut ports = lines.filter_map(|line| Some(line.split("successfully on port ").nth(1)?.to_owned()));
        let port = ports.next().unwrap();
        let port = port.trim_end_matches('.');
        let mut browser = Browser { driver, session: format!("http://127.0.0.1:{port}/session") };
        let mut args = vec![
            "--headless".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-background-networking".to_owned(),
            format!("--user-data-dir={}", dir.join(format!("driven-{width}-{is_dark}")).display()),
        ];
        args.extend(is_dark.then(|| "--force-dark-mode".to_owned()));
        let metrics =
            json!({ "width": width, "height": 900, "pixelRatio": 1, "touch": false, "mobile": false });
        let options = json!({ "args": args, "mobileEmulation": { "deviceMetrics": metrics } });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let opened = browser.post("", &wanted);
        browser.session = format!("{}/{}", browser.session, opened["sessionId"].as_str().unwrap());
        Some(browser)
    }

    /// Opens a file, and waits until it is loaded.
    pub fn open(&self, page: &Path) {
        self.post("/url", &json!({ "url": format!("file://{}", page.display()) }));
    }

    /// The value of a JavaScript expression.
    pub fn value(&self, expression: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": format!("return {expression}"), "args": [] }))
    }

    /// Presses keys one after the other.
    pub fn press(&self, keys: &str) {
        let each = |key: char| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key }));
        let actions: Vec<Value> = keys.chars().flat_map(each).collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": actions });
        self.post("/actions", &json!({ "actions": [keyboard] }));
    }

    fn post(&self, what: &str, body: &Value) -> Value {
        let request =
            ureq::post(format!("{}{what}", self.session)).header("content-type", "application/json");
        let text = request.send(body.to_string()).unwrap().body_mut().read_to_string().unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["value"].take()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium; the driver would leave it running.
        ureq::delete(&self.session).call().ok();
        self.driver.kill().ok();
        self.driver.wait().ok();
    }
}
