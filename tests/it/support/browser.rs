//! A real Chromium, driven over its debugging pipe.

use base64::Engine;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long it may take for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// One browser with one page.
pub(crate) struct Browser {
    child: Child,
    to: File,
    from: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    is_loaded: bool,
    /// Every address that the page asked for.
    pub(crate) asked: Vec<String>,
    /// What the page was refused or got wrong.
    pub(crate) complaints: Vec<String>,
    folder: TempDir,
}

impl Browser {
    /// Starts one and loads a page.
    pub(crate) fn open(url: &str, scripts: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(Command::new("mkfifo").args([at("in"), at("out")]).status().unwrap().success());
        // The pipe is on the file descriptors 3 and 4.
        let child = Command::new("sh")
            .args(["-c", r#"exec chromium "$@" 3<"$0/in" 4>"$0/out""#])
            .arg(folder.path())
            // What Chromium and its helpers write goes into the folder, which is removed at the end.
            .envs(["HOME", "TMPDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"].map(|name| (name, folder.path())))
            .process_group(0)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--remote-debugging-pipe", &format!("--user-data-dir={}", at("profile").display())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let to = File::options().write(true).open(at("in")).unwrap();
        let from = BufReader::new(File::open(at("out")).unwrap());
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for message in from.split(0).map_while(Result::ok) {
                let _ = sender.send(serde_json::from_slice(&message).unwrap());
            }
        });
        let mut browser = Self {
            child,
            to,
            from: receiver,
            session: None,
            last_id: 0,
            is_loaded: false,
            asked: Vec::new(),
            complaints: Vec::new(),
            folder,
        };
        browser.load(url, scripts);
        browser
    }

    fn load(&mut self, url: &str, scripts: bool) {
        let target = self.tell("Target.createTarget", json!({ "url": "about:blank" }));
        let to = json!({ "targetId": target["targetId"], "flatten": true });
        self.session = self.tell("Target.attachToTarget", to)["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Network", "Log", "Runtime"] {
            self.tell(&format!("{domain}.enable"), json!({}));
        }
        self.tell("Emulation.setScriptExecutionDisabled", json!({ "value": !scripts }));
        self.tell("Page.navigate", json!({ "url": url }));
        // Which of the events of the empty page before are still to come, nobody knows.
        while !self.asked.iter().any(|asked| asked == url) || !self.is_loaded {
            let event = self.from.recv_timeout(PATIENCE).expect("the page is loaded");
            self.note(&event);
        }
    }

    /// The folder with everything that this browser writes.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The page as it stands.
    pub(crate) fn dom(&mut self) -> String {
        let root = self.tell("DOM.getDocument", json!({}))["root"]["nodeId"].clone();
        let html = self.tell("DOM.getOuterHTML", json!({ "nodeId": root }));
        html["outerHTML"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page has this in it.
    pub(crate) fn wait_for(&mut self, what: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let dom = self.dom();
            if dom.contains(what) {
                return dom;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}: {dom}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Runs a script as the page's user would, for clicks and fields.
    pub(crate) fn run(&mut self, script: &str) {
        let ran = self.tell("Runtime.evaluate", json!({ "expression": script }));
        assert!(ran["exceptionDetails"].is_null(), "{ran}");
    }

    /// Presses a key, as someone at the keyboard does: `Tab`, 9, for instance.
    pub(crate) fn press(&mut self, key: &str, code: u32) {
        for kind in ["keyDown", "keyUp"] {
            let text = if key == "Enter" && kind == "keyDown" { "\r" } else { "" };
            let press =
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
            self.tell("Input.dispatchKeyEvent", press);
        }
    }

    /// The beginning of the page as a picture, so wide and high, dark or light.
    pub(crate) fn picture(&mut self, width: u32, height: u32, dark: bool) -> Vec<u8> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.tell("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.tell("Emulation.setEmulatedMedia", scheme);
        self.tell("Emulation.setScrollbarsHidden", json!({ "hidden": true }));
        std::thread::sleep(Duration::from_secs(3));
        let picture = self.tell("Page.captureScreenshot", json!({ "format": "png" }));
        base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()
    }

    fn tell(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.write_all(&bytes).expect("chromium is needed: on Debian, apt-get install chromium");
        loop {
            let answer = self.from.recv_timeout(PATIENCE);
            let answer = answer.expect("chromium is needed: on Debian, apt-get install chromium");
            if answer["id"] == self.last_id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Page.loadEventFired") => self.is_loaded = true,
            Some("Network.requestWillBeSent") => {
                self.is_loaded &= !self.asked.is_empty();
                self.asked.extend(params["request"]["url"].as_str().map(str::to_owned));
            }
            Some("Log.entryAdded") => self.complaints.push(params["entry"]["text"].to_string()),
            Some("Runtime.exceptionThrown") => self.complaints.push(params["exceptionDetails"].to_string()),
            _ => {}
        }
    }
}

impl Drop for Browser {
    /// Ends Chromium with all its helpers, any of which would write into the folder while it is being removed.
    fn drop(&mut self) {
        let group = Pid::from_raw(self.child.id().cast_signed());
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
        let deadline = Instant::now() + Duration::from_secs(5);
        while killpg(group, None).is_ok() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
