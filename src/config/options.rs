//! The shape of an option, and the words the [table](super::table) is written in.

use super::value::{Kind, Value};

/// One option: everything that flags, environment, file, help, samples and docs say about it.
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    /// The flag without dashes.
    pub name: &'static str,
    /// How its text is read.
    pub kind: Kind,
    /// The default as flag text; the empty text is the kind's empty value.
    pub default: &'static str,
    /// What takes effect when nothing is said, where it is not `default` itself.
    pub effective: Option<&'static str>,
    /// Where help and samples list it.
    pub group: Group,
    /// Its place in a configuration file.
    pub file_key: FileKey,
    /// Whether a configuration file holds a YAML list where the flag has commas.
    pub list_in_file: bool,
    /// One line on what it does.
    pub meaning: &'static str,
    /// Whether this release acts on it.
    pub support: Support,
    /// The warning when it is used at all.
    pub deprecation: Option<&'static str>,
    /// Whether a flag and a variable exist, or only the file key.
    pub on_command_line: bool,
}

/// Sections of help and samples, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// This member and its storage.
    Member,
    /// How members find each other.
    Clustering,
    /// TLS and who may connect.
    Security,
    /// Users, roles, tokens.
    Auth,
    /// Metrics and profiles.
    Monitoring,
    /// Log lines.
    Logging,
    /// OpenTelemetry.
    Tracing,
    /// Everything with a schedule.
    Features,
    /// Options that can lose data.
    Unsafe,
    /// Not listed.
    Hidden,
}

impl Group {
    /// Every listed group.
    pub const LISTED: [Self; 9] = [
        Self::Member,
        Self::Clustering,
        Self::Security,
        Self::Auth,
        Self::Monitoring,
        Self::Logging,
        Self::Tracing,
        Self::Features,
        Self::Unsafe,
    ];

    /// The heading, as etcd's users know it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Member => "Member",
            Self::Clustering => "Clustering",
            Self::Security => "Security",
            Self::Auth => "Auth",
            Self::Monitoring => "Profiling and Monitoring",
            Self::Logging => "Logging",
            Self::Tracing => "Distributed tracing",
            Self::Features => "Features",
            Self::Unsafe => "Unsafe feature",
            Self::Hidden => "",
        }
    }
}

/// Where a configuration file has an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKey {
    /// At the top, spelled like the flag.
    Same,
    /// Inside sections, with dots between.
    Path(&'static str),
    /// Nowhere.
    None,
}

/// What this release does with an option that is not at its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Acts on it.
    Served,
    /// Nothing can depend on it here: says so and starts.
    NoEffect(&'static str),
    /// Will act on it in a later release: says so and starts.
    Later,
    /// Starting without it would do something else than asked: says so and stops.
    Refused,
}

impl Opt {
    /// An option that is served and has the same key in a file.
    pub const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        group: Group,
        meaning: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            default,
            effective: None,
            group,
            file_key: FileKey::Same,
            list_in_file: false,
            meaning,
            support: Support::Served,
            deprecation: None,
            on_command_line: true,
        }
    }

    /// With a file key of its own.
    pub const fn key(mut self, path: &'static str) -> Self {
        self.file_key = FileKey::Path(path);
        self
    }

    /// Without a file key.
    pub const fn not_in_file(mut self) -> Self {
        self.file_key = FileKey::None;
        self
    }

    /// With a file key only.
    pub const fn only_in_file(mut self) -> Self {
        self.on_command_line = false;
        self
    }

    /// As a YAML list in a file.
    pub const fn list(mut self) -> Self {
        self.list_in_file = true;
        self
    }

    /// With another effective default than the flag's.
    pub const fn effectively(mut self, text: &'static str) -> Self {
        self.effective = Some(text);
        self
    }

    /// Parsed and announced as coming later.
    pub const fn later(mut self) -> Self {
        self.support = Support::Later;
        self
    }

    /// Parsed and refused until it is served.
    pub const fn refused(mut self) -> Self {
        self.support = Support::Refused;
        self
    }

    /// Parsed, with the reason why nothing depends on it.
    pub const fn no_effect(mut self, reason: &'static str) -> Self {
        self.support = Support::NoEffect(reason);
        self
    }

    /// With etcd's deprecation warning.
    pub const fn deprecated(mut self, warning: &'static str) -> Self {
        self.deprecation = Some(warning);
        self
    }

    /// The environment variable: `ETCD_` and the flag in capitals, `_` for `-`.
    pub fn variable(&self) -> String {
        format!("ETCD_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    /// The dotted place in a configuration file.
    pub fn file_path(&self) -> Option<&'static str> {
        match self.file_key {
            FileKey::Same => Some(self.name),
            FileKey::Path(path) => Some(path),
            FileKey::None => None,
        }
    }

    /// Whether its value stays out of logs and reports.
    pub fn is_secret(&self) -> bool {
        matches!(self.name, "discovery-password" | "discovery-auth-token")
    }

    /// The text of a value of this option, for logs and reports.
    pub fn shown(&self, value: &Value) -> String {
        let text = value.to_string();
        if self.is_secret() && !text.is_empty() {
            "***".to_owned()
        } else {
            text
        }
    }

    /// The default as a value.
    pub fn default_value(&self) -> Value {
        self.kind.initial(self.default)
    }

    /// The default that help and samples show.
    pub fn shown_default(&self) -> &'static str {
        self.effective.unwrap_or(self.default)
    }
}
