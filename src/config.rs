//! The process's settings (`warehouse-sync.toml`), and secrets.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use crate::model::connection::{ConnectionSpec, Issue, SecretReference};
use crate::model::run::RetryPolicy;
use crate::model::{ErrorCode, Object, Stage, SyncError};

/// Where the settings are looked for when no file is named.
pub const DEFAULT_PLACES: [&str; 2] = ["warehouse-sync.toml", "/etc/warehouse-sync/warehouse-sync.toml"];

/// librdkafka properties that the engine depends on; a user's own value for them is refused.
pub const OWN_KAFKA_PROPERTIES: [&str; 7] = [
    "isolation.level",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
    "max.poll.interval.ms",
    "bootstrap.servers",
];

/// A secret. It cannot be shown, stored or serialised by accident.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The secret itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Reads a secret from where its reference points.
pub fn secret(reference: &SecretReference) -> Result<Secret, SyncError> {
    let unreadable = |what: String| SyncError::new(ErrorCode::SecretUnreadable, Stage::Configuration, what);
    if let Some(name) = reference.0.strip_prefix("env:") {
        return std::env::var(name).map(Secret).map_err(|_| unreadable(format!("the environment variable {name} is not set")));
    }
    if let Some(path) = reference.0.strip_prefix("file:") {
        let content =
            std::fs::read_to_string(path).map_err(|error| unreadable(format!("the secret file {path} cannot be read")).external(error))?;
        return Ok(Secret(content.trim_end_matches(['\r', '\n']).to_owned()));
    }
    Err(unreadable("a secret is neither `env:NAME` nor `file:PATH`".to_owned()))
}

/// A setting that may be a literal or a reference.
pub fn value_or_reference(text: &str) -> Result<Secret, SyncError> {
    match SecretReference::is_reference(text) {
        true => secret(&SecretReference(text.to_owned())),
        false => Ok(Secret(text.to_owned())),
    }
}

/// `[kafka]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSettings {
    /// Comma-separated `host:port` of some brokers.
    pub bootstrap_servers: String,
    /// Any librdkafka property; values may be references.
    #[serde(default)]
    pub properties: BTreeMap<String, toml::Value>,
}

/// `[folder]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderSourceSettings {
    /// Folder with `profiles/`, `events/` and `metrics/`.
    pub path: PathBuf,
}

/// `[streams]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamNames {
    /// Topic of the profiles.
    pub profiles: String,
    /// Topic of the events.
    pub events: String,
    /// Topic of the metrics.
    pub metrics: String,
}

impl Default for StreamNames {
    fn default() -> Self {
        Self { profiles: "klaviyo.profiles".into(), events: "klaviyo.events".into(), metrics: "klaviyo.metrics".into() }
    }
}

impl StreamNames {
    /// The topic of each object.
    pub fn topics(&self) -> HashMap<Object, String> {
        HashMap::from([
            (Object::Profiles, self.profiles.clone()),
            (Object::Events, self.events.clone()),
            (Object::Metrics, self.metrics.clone()),
        ])
    }
}

/// `[state]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StateSettings {
    /// The SQLite file; the spool folder lies beside it.
    pub path: PathBuf,
}

impl Default for StateSettings {
    fn default() -> Self {
        Self { path: "warehouse-sync.db".into() }
    }
}

/// `[http]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Address of `/healthz`, `/readyz` and `/metrics`.
    pub listen: SocketAddr,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8080)) }
    }
}

/// `[sync]`: operator's knobs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SyncSettings {
    /// Time between periodic runs.
    #[serde(with = "duration_text")]
    pub interval: Duration,
    /// Compressed size at which a part file is closed.
    pub max_part_bytes: ByteSize,
    /// Memory of the pipeline.
    pub memory_budget: ByteSize,
    /// About how much of a stream one run reads.
    pub chunk_bytes: ByteSize,
    /// A run with a larger share of bad records …
    pub max_rejected_share: f64,
    /// … and more of them than this fails before its commit.
    pub max_rejected_count: u64,
    /// First pause before a failed run is tried again.
    #[serde(with = "duration_text")]
    pub retry_pause: Duration,
}

impl Default for SyncSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(3600),
            max_part_bytes: ByteSize::mib(64),
            memory_budget: ByteSize::mib(96),
            chunk_bytes: ByteSize::gib(1),
            max_rejected_share: 0.01,
            max_rejected_count: 1000,
            retry_pause: RetryPolicy::default().base,
        }
    }
}

impl SyncSettings {
    /// When and how often failed runs are tried again.
    pub fn retry_policy(&self) -> RetryPolicy {
        let standard = RetryPolicy::default();
        RetryPolicy { base: self.retry_pause, longest: standard.longest.max(self.retry_pause), ..standard }
    }
}

/// `[network]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSettings {
    /// Addresses that a customer's firewall must admit; shown, not used.
    pub egress_addresses: Vec<String>,
}

/// The process's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSettings {
    /// Kafka as the source …
    pub kafka: Option<KafkaSettings>,
    /// … or a folder of files.
    pub folder: Option<FolderSourceSettings>,
    /// Names of the topics.
    #[serde(default)]
    pub streams: StreamNames,
    /// Our own state.
    #[serde(default)]
    pub state: StateSettings,
    /// The HTTP server.
    #[serde(default)]
    pub http: HttpSettings,
    /// Knobs.
    #[serde(default)]
    pub sync: SyncSettings,
    /// Shown to users.
    #[serde(default)]
    pub network: NetworkSettings,
}

fn invalid(summary: impl Into<String>) -> SyncError {
    SyncError::new(ErrorCode::ConfigurationInvalid, Stage::Configuration, summary)
}

/// Reads the settings from `file`, or from the first of [`DEFAULT_PLACES`] that exists.
pub fn load(file: Option<&Path>) -> Result<ProcessSettings, SyncError> {
    let places: Vec<&Path> = match file {
        Some(file) => vec![file],
        None => DEFAULT_PLACES.iter().map(Path::new).collect(),
    };
    let Some(path) = places.iter().find(|path| path.exists()) else {
        let tried = places.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(invalid(format!("no settings found (looked for {tried})"))
            .hint("Write a warehouse-sync.toml (deploy/warehouse-sync.toml is an example), or name one with --config. To look around first: `warehouse-sync demo`."));
    };
    let settings: ProcessSettings = parse_toml(path)?;
    let issues = settings.issues();
    match issues.is_empty() {
        true => Ok(settings),
        false => Err(invalid(format!("{} has {} issue(s):\n  {}", path.display(), issues.len(), list(&issues)))),
    }
}

/// Reads and validates a connection file.
pub fn load_connection(path: &Path) -> Result<ConnectionSpec, SyncError> {
    let spec: ConnectionSpec = parse_toml(path)?;
    let issues = spec.issues();
    match issues.is_empty() {
        true => Ok(spec),
        false => Err(invalid(format!("{} has {} issue(s):\n  {}", path.display(), issues.len(), list(&issues)))),
    }
}

fn list(issues: &[Issue]) -> String {
    issues.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ")
}

fn parse_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, SyncError> {
    let text = std::fs::read_to_string(path).map_err(|error| invalid(format!("{} cannot be read: {error}", path.display())))?;
    // The parser's message shows the line, which may hold a secret's reference but never a secret.
    toml::from_str(&text).map_err(|error| invalid(format!("{}: {error}", path.display())))
}

impl ProcessSettings {
    fn issues(&self) -> Vec<Issue> {
        let mut issues = Vec::new();
        match (&self.kafka, &self.folder) {
            (None, None) => issues.push(Issue::new("kafka", "a source is needed: [kafka] with bootstrap_servers, or [folder] with path")),
            (Some(_), Some(_)) => issues.push(Issue::new("folder", "there is one source: give [kafka] or [folder], not both")),
            (Some(kafka), None) => {
                if kafka.bootstrap_servers.trim().is_empty() {
                    issues.push(Issue::new("kafka.bootstrap_servers", "name at least one broker as host:port"));
                }
                for name in kafka.properties.keys().filter(|name| OWN_KAFKA_PROPERTIES.contains(&name.as_str())) {
                    issues.push(Issue::new(
                        format!("kafka.properties.\"{name}\""),
                        "exactly-once depends on our own value of this property; remove it",
                    ));
                }
                for (name, value) in &kafka.properties {
                    if matches!(value, toml::Value::Array(_) | toml::Value::Table(_) | toml::Value::Datetime(_)) {
                        issues.push(Issue::new(format!("kafka.properties.\"{name}\""), "must be a text, a number or true/false"));
                    }
                }
            }
            (None, Some(_)) => {}
        }
        let sync = &self.sync;
        if sync.interval < Duration::from_secs(1) {
            issues.push(Issue::new("sync.interval", "must be at least 1s"));
        }
        if sync.max_part_bytes < ByteSize::kib(64) {
            issues.push(Issue::new("sync.max_part_bytes", "must be at least 64KiB"));
        }
        if sync.memory_budget < ByteSize::mib(32) {
            issues.push(Issue::new("sync.memory_budget", "must be at least 32MiB"));
        }
        if !(0.0..=1.0).contains(&sync.max_rejected_share) {
            issues.push(Issue::new("sync.max_rejected_share", "must lie between 0 and 1"));
        }
        if !self.http.listen.ip().is_loopback() {
            issues.push(Issue::new("http.listen", "only loopback addresses are possible: put a proxy that authenticates in front of it"));
        }
        issues
    }

    /// librdkafka's properties, references resolved.
    pub fn kafka_properties(kafka: &KafkaSettings) -> Result<BTreeMap<String, String>, SyncError> {
        let text = |value: &toml::Value| match value {
            toml::Value::String(text) => value_or_reference(text).map(|secret| secret.expose().to_owned()),
            other => Ok(other.to_string()),
        };
        kafka.properties.iter().map(|(name, value)| Ok((name.clone(), text(value)?))).collect()
    }

    /// Folder for part files that wait to be uploaded.
    pub fn spool_folder(&self) -> PathBuf {
        beside(&self.state.path, "spool")
    }

    /// File by which processes on this machine agree on who executes.
    pub fn lock_file(&self) -> PathBuf {
        beside(&self.state.path, "lock")
    }

    /// File in which the folder source remembers its partition numbers.
    pub fn partitions_file(&self) -> PathBuf {
        beside(&self.state.path, "partitions.json")
    }
}

/// `state.db` and `spool` make `state.spool`.
fn beside(path: &Path, extension: &str) -> PathBuf {
    path.with_extension(extension)
}

mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(|error| serde::de::Error::custom(format!("`{text}` is no duration such as `1h` or `30s`: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<ProcessSettings, SyncError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        load(Some(file.path()))
    }

    #[test]
    fn the_documented_settings_are_read() {
        let settings = load_text(
            "[kafka]\nbootstrap_servers = \"localhost:9092\"\nproperties = { \"security.protocol\" = \"PLAINTEXT\", \"fetch.min.bytes\" = 1 }\n[sync]\ninterval = \"1h\"\nmax_part_bytes = \"64MiB\"\nmemory_budget = \"96MiB\"\nmax_rejected_share = 0.01\n[network]\negress_addresses = [\"203.0.113.7/32\"]\n",
        )
        .unwrap();
        assert_eq!(settings.sync.interval, Duration::from_secs(3600));
        assert_eq!(settings.sync.max_part_bytes, ByteSize::mib(64));
        assert_eq!(settings.streams.events, "klaviyo.events");
        let properties = ProcessSettings::kafka_properties(settings.kafka.as_ref().unwrap()).unwrap();
        assert_eq!(properties["fetch.min.bytes"], "1");
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, place) in [
            ("[sync]\ninterval = \"1h\"", "kafka"),
            ("[kafka]\nbootstrap_servers = \"\"", "kafka.bootstrap_servers"),
            ("[kafka]\nbootstrap_servers = \"a:1\"\n[folder]\npath = \"x\"", "folder"),
            ("[folder]\npath = \"x\"\n[sync]\ninterval = \"soon\"", "soon"),
            ("[folder]\npath = \"x\"\n[sync]\nintervall = \"1h\"", "intervall"),
            ("[folder]\npath = \"x\"\n[http]\nlisten = \"0.0.0.0:80\"", "http.listen"),
            ("[kafka]\nbootstrap_servers = \"a:1\"\nproperties = { \"isolation.level\" = \"read_uncommitted\" }", "isolation.level"),
        ] {
            let error = load_text(text).unwrap_err();
            assert_eq!(error.code, ErrorCode::ConfigurationInvalid);
            assert!(error.summary.contains(place), "{place} is not in: {}", error.summary);
        }
    }

    #[test]
    fn secrets_come_from_files_and_are_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let reference = SecretReference(format!("file:{}", file.path().display()));
        let secret = secret(&reference).unwrap();
        assert_eq!(secret.expose(), "s3cret");
        assert!(!format!("{secret:?}").contains("s3cret"));
        assert_eq!(
            super::secret(&SecretReference("env:WAREHOUSE_SYNC_SURELY_NOT_SET".into())).unwrap_err().code,
            ErrorCode::SecretUnreadable
        );
    }
}
