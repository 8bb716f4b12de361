//! The real binary, as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use super::broker::Topics;
use super::lake::Lake;

/// A folder with settings, a connection file and a state, and the binary that works on them.
pub struct Installation {
    /// The folder.
    pub folder: tempfile::TempDir,
    /// Where rows go.
    pub lake: Lake,
    /// Knobs written below `[sync]`.
    knobs: String,
}

impl Installation {
    /// Settings for the real broker and a lake. `knobs` are lines below `[sync]`.
    pub fn new(topics: &Topics, lake: Option<Lake>, knobs: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lake = lake.unwrap_or_else(|| Lake::folder(folder.path()));
        let installation = Self { folder, lake, knobs: knobs.to_owned() };
        installation.write_settings(&topics.bootstrap, topics, "");
        installation.write_connection("", "ndjson.gz");
        installation
    }

    /// Writes warehouse-sync.toml.
    pub fn write_settings(&self, bootstrap: &str, topics: &Topics, properties: &str) {
        let text = format!(
            "[kafka]\nbootstrap_servers = \"{bootstrap}\"\nproperties = {{ {properties} }}\n[streams]\nprofiles = \"{}\"\nevents = \"{}\"\nmetrics = \"{}\"\n[state]\npath = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[sync]\n{}\n",
            topics.names.profiles,
            topics.names.events,
            topics.names.metrics,
            self.folder.path().join("state.db").display(),
            self.knobs
        );
        std::fs::write(self.settings(), text).unwrap();
    }

    /// Writes connection.toml; `more` are further top-level lines.
    pub fn write_connection(&self, more: &str, format: &str) {
        let history = if more.contains("history") { "" } else { "history = \"all\"\n" };
        let objects = if more.contains("objects") { "" } else { "objects = [\"profiles\", \"events\"]\n" };
        let text = format!("name = \"Test\"\n{objects}{history}{more}\n{}", self.lake.settings(format));
        std::fs::write(self.connection(), text).unwrap();
    }

    /// Path of warehouse-sync.toml.
    pub fn settings(&self) -> PathBuf {
        self.folder.path().join("warehouse-sync.toml")
    }

    /// Path of connection.toml.
    pub fn connection(&self) -> PathBuf {
        self.folder.path().join("connection.toml")
    }

    /// The binary with some arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warehouse-sync"));
        command.arg("--config").arg(self.settings()).args(arguments).current_dir(self.folder.path());
        command
    }

    /// Runs the binary to its end.
    pub fn try_run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs the binary to its end; it must succeed. Returns its standard output.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments:?} ended with {}:\n{out}\n{err}", output.status);
        out
    }

    /// Runs the binary; its standard output is JSON.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.run(arguments)).unwrap()
    }

    /// `connect connection.toml`.
    pub fn connect(&self, options: &[&str]) -> String {
        let mut arguments = vec!["connect", "connection.toml"];
        arguments.extend_from_slice(options);
        self.run(&arguments)
    }

    /// Starts the binary in the background; standard error goes to `log`.
    pub fn start(&self, arguments: &[&str], environment: &[(&str, &Path)]) -> Running {
        self.start_with(arguments, &environment.iter().map(|(name, value)| (*name, value.display().to_string())).collect::<Vec<_>>())
    }

    /// Starts the binary in the background with an environment.
    pub fn start_with(&self, arguments: &[&str], environment: &[(&str, String)]) -> Running {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let mut command = self.command(arguments);
        for (name, value) in environment {
            command.env(name, value);
        }
        Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// Where background processes log.
    pub fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// True once the folder's event table has a file.
    pub fn lake_has_events(&self) -> bool {
        self.folder.path().join("lake/klaviyo_event").exists()
    }

    /// The status of one sync, in one word, and the code of its error.
    pub fn status(&self, sync: &str) -> (String, Option<String>) {
        let status = self.json(&["status", "--json"]);
        let view =
            status["syncs"].as_array().unwrap().iter().find(|view| view["sync"] == sync).unwrap_or_else(|| panic!("no {sync} in {status}"));
        (view["status"].as_str().unwrap().to_owned(), view["error"]["code"].as_str().map(str::to_owned))
    }

    /// `verify` must find nothing.
    pub fn verify(&self) -> serde_json::Value {
        let output = self.try_run(&["verify", "--json"]);
        assert!(output.status.success(), "verify: {}\n{}", text(&output.stdout), text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Bytes as text, for messages.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A process in the background, killed at the end of the test.
pub struct Running(pub Child);

impl Running {
    /// SIGKILL, and wait until it is gone.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM, and wait until it has ended by itself.
    pub fn stop(mut self) -> std::process::ExitStatus {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let mut status = None;
        super::wait_until("the process ends after SIGTERM", Duration::from_secs(60), || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
