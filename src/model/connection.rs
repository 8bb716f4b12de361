//! The one configured connection: destination, selection, history.
//!
//! [`ConnectionSpec`] is what a user writes (`connection.toml`); [`Connection`] is what we keep.
//! Validation returns every issue at once, each with the path of the setting concerned.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ledger::Genesis;
use super::sync::{SyncId, SyncKind};
use super::table::{FileFormat, Object};

/// Identifies a connection; part of everything that is stored in the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(pub Uuid);

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// How much history is synced when connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum History {
    /// The last 30 days.
    #[serde(rename = "30d")]
    Days30,
    /// The last 90 days.
    #[serde(rename = "90d")]
    Days90,
    /// The last 365 days.
    #[serde(rename = "1y")]
    Year1,
    /// Everything that the topic holds.
    #[serde(rename = "all")]
    All,
}

impl History {
    /// Every choice.
    pub const CHOICES: [History; 4] = [History::Days30, History::Days90, History::Year1, History::All];

    /// The number of days, or `None` for everything.
    pub const fn days(self) -> Option<i64> {
        match self {
            History::Days30 => Some(30),
            History::Days90 => Some(90),
            History::Year1 => Some(365),
            History::All => None,
        }
    }

    /// As written in configuration.
    pub const fn text(self) -> &'static str {
        match self {
            History::Days30 => "30d",
            History::Days90 => "90d",
            History::Year1 => "1y",
            History::All => "all",
        }
    }
}

/// Where a secret is found: `env:NAME` or `file:PATH`. The secret itself is never part of the
/// connection, so that it cannot be stored, logged or shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretReference(pub String);

impl SecretReference {
    /// True for `env:…` and `file:…`.
    pub fn is_reference(text: &str) -> bool {
        text.strip_prefix("env:").or_else(|| text.strip_prefix("file:")).is_some_and(|rest| !rest.is_empty())
    }
}

/// Settings of Amazon S3 or of an S3-compatible endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Settings {
    /// The bucket's name.
    pub bucket: String,
    /// The bucket's location, such as `eu-west-1`.
    pub region: String,
    /// A literal or a reference. Left out together with the secret: the standard AWS chain is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// A reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretReference>,
    /// A reference to a session token, for temporary credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretReference>,
    /// Folder within the bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Base URL of an S3-compatible service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// File format.
    #[serde(default)]
    pub format: FileFormat,
}

/// Settings of a local folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderSettings {
    /// The folder; created when it is missing.
    pub path: String,
    /// File format.
    #[serde(default)]
    pub format: FileFormat,
}

/// Where rows go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum DestinationSettings {
    /// Amazon S3, or an S3-compatible endpoint.
    S3(S3Settings),
    /// A local folder.
    Folder(FolderSettings),
}

impl DestinationSettings {
    /// The destination's kind and place, for people.
    pub fn describe(&self) -> String {
        match self {
            DestinationSettings::S3(s3) => {
                let prefix = s3.prefix.as_deref().map(|p| format!("/{p}")).unwrap_or_default();
                let endpoint = s3.endpoint.as_deref().map(|e| format!(" at {e}")).unwrap_or_default();
                format!("Amazon S3 s3://{}{prefix}{endpoint}", s3.bucket)
            }
            DestinationSettings::Folder(folder) => format!("folder {}", folder.path),
        }
    }

    /// The file format that runs write.
    pub const fn format(&self) -> FileFormat {
        match self {
            DestinationSettings::S3(s3) => s3.format,
            DestinationSettings::Folder(folder) => folder.format,
        }
    }

    fn issues(&self) -> Vec<Issue> {
        let mut issues = Vec::new();
        match self {
            DestinationSettings::S3(s3) => {
                if s3.bucket.is_empty() || !s3.bucket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
                    issues.push(Issue::new("destination.bucket", "a bucket name has letters, digits, `-`, `.` and `_` only"));
                }
                if s3.region.is_empty() {
                    issues.push(Issue::new("destination.region", "the bucket's region is needed, such as `eu-west-1`"));
                }
                if s3.access_key_id.is_some() != s3.secret_access_key.is_some() {
                    issues.push(Issue::new(
                        "destination.access_key_id",
                        "give both access_key_id and secret_access_key, or neither (then the standard AWS chain is used)",
                    ));
                }
                for (path, secret) in
                    [("destination.secret_access_key", &s3.secret_access_key), ("destination.session_token", &s3.session_token)]
                {
                    if secret.as_ref().is_some_and(|secret| !SecretReference::is_reference(&secret.0)) {
                        issues.push(Issue::new(
                            path,
                            "write secrets as `env:NAME` or `file:PATH`; a literal secret would be stored in the clear",
                        ));
                    }
                }
                if let Some(prefix) = &s3.prefix
                    && (prefix.starts_with('/')
                        || prefix.ends_with('/')
                        || prefix.split('/').any(|part| part.is_empty() || part == "." || part == ".."))
                {
                    issues.push(Issue::new(
                        "destination.prefix",
                        "a prefix is a path such as `exports/klaviyo`, without a slash at either end",
                    ));
                }
                if let Some(endpoint) = &s3.endpoint
                    && !endpoint.starts_with("https://")
                    && !endpoint.starts_with("http://")
                {
                    issues.push(Issue::new("destination.endpoint", "an endpoint starts with https:// (or http:// on a trusted network)"));
                }
            }
            DestinationSettings::Folder(folder) => {
                if folder.path.is_empty() {
                    issues.push(Issue::new("destination.path", "the folder's path is needed"));
                }
            }
        }
        issues
    }
}

/// What a user configures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionSpec {
    /// Free text.
    pub name: String,
    /// Profiles, events or both. Metrics follow the events.
    pub objects: Vec<Object>,
    /// Ids or keys of integrations whose events are left out.
    #[serde(default)]
    pub exclude_integrations: Vec<String>,
    /// Metric ids to sync; empty means all events.
    #[serde(default)]
    pub selective_sync: Vec<String>,
    /// How much history.
    pub history: History,
    /// Where rows go.
    pub destination: DestinationSettings,
}

/// Something wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Issue {
    /// Path of the setting, such as `destination.bucket`.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Issue {
    /// An issue with one setting.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl std::fmt::Display for Issue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl ConnectionSpec {
    /// Everything that is wrong with these settings; empty when they are usable.
    pub fn issues(&self) -> Vec<Issue> {
        let mut issues = Vec::new();
        if self.name.trim().is_empty() {
            issues.push(Issue::new("name", "a name is needed"));
        }
        if self.objects.is_empty() {
            issues.push(Issue::new("objects", "choose `profiles`, `events` or both"));
        }
        if self.objects.contains(&Object::Metrics) {
            issues.push(Issue::new("objects", "metrics are not chosen: they follow the events"));
        }
        let has_events = self.objects.contains(&Object::Events);
        for (path, list) in [("exclude_integrations", &self.exclude_integrations), ("selective_sync", &self.selective_sync)] {
            if !has_events && !list.is_empty() {
                issues.push(Issue::new(path, "is only possible when `events` are among the objects: it never concerns profiles"));
            }
            if list.iter().any(|entry| entry.trim().is_empty()) {
                issues.push(Issue::new(path, "has an empty entry"));
            }
        }
        issues.extend(self.destination.issues());
        issues
    }

    /// The objects that have syncs: those chosen, and the metrics when events are among them.
    pub fn synced_objects(&self) -> Vec<Object> {
        let has_events = self.objects.contains(&Object::Events);
        Object::ALL.into_iter().filter(|object| self.objects.contains(object) || (*object == Object::Metrics && has_events)).collect()
    }

    /// The syncs of this connection, replays apart.
    pub fn syncs(&self) -> Vec<SyncId> {
        self.synced_objects()
            .into_iter()
            .flat_map(|object| SyncId::of(object).iter().map(move |kind: &SyncKind| SyncId::new(object, *kind)))
            .collect()
    }
}

/// How the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// In use.
    Enabled,
    /// The check failed when connecting or after an edit.
    UnableToConnect,
    /// Switched off by a person; can be enabled again.
    Disabled,
}

impl ConnectionState {
    /// As shown to people.
    pub const fn label(self) -> &'static str {
        match self {
            ConnectionState::Enabled => "Enabled",
            ConnectionState::UnableToConnect => "Unable to connect",
            ConnectionState::Disabled => "Disabled",
        }
    }
}

/// The one connection, as our store holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    /// What the user configured.
    pub spec: ConnectionSpec,
    /// How it stands.
    pub state: ConnectionState,
    /// The first ledger entry, as it stands in the destination. `None` until connecting succeeded.
    pub genesis: Option<Genesis>,
    /// When it was made.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(destination: DestinationSettings) -> ConnectionSpec {
        ConnectionSpec {
            name: "Acme".into(),
            objects: vec![Object::Profiles],
            exclude_integrations: vec!["shopify".into()],
            selective_sync: vec![],
            history: History::Days90,
            destination,
        }
    }

    #[test]
    fn every_issue_is_told_at_once_with_its_path() {
        let mut spec = spec(DestinationSettings::S3(S3Settings {
            bucket: "a b".into(),
            region: String::new(),
            access_key_id: None,
            secret_access_key: Some(SecretReference("plain".into())),
            session_token: None,
            prefix: Some("/x".into()),
            endpoint: Some("ftp://x".into()),
            format: FileFormat::NdjsonGzip,
        }));
        spec.name = " ".into();
        let paths: Vec<String> = spec.issues().into_iter().map(|issue| issue.path).collect();
        for path in [
            "name",
            "exclude_integrations",
            "destination.bucket",
            "destination.region",
            "destination.access_key_id",
            "destination.secret_access_key",
            "destination.prefix",
            "destination.endpoint",
        ] {
            assert!(paths.iter().any(|p| p == path), "{path} is missing in {paths:?}");
        }
    }

    #[test]
    fn metrics_follow_the_events() {
        let mut spec = spec(DestinationSettings::Folder(FolderSettings { path: "out".into(), format: FileFormat::NdjsonGzip }));
        assert_eq!(spec.synced_objects(), [Object::Profiles]);
        spec.objects = vec![Object::Events];
        assert_eq!(spec.synced_objects(), [Object::Events, Object::Metrics]);
        assert_eq!(spec.syncs().len(), 3);
    }
}
