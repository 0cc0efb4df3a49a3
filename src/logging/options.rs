//! What `--log-*` asks for, checked before anything is opened.

use serde::Deserialize;

use super::level::Level;

/// How to log.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The mildest level that is written.
    pub level: Level,
    /// The form of lines in streams and files.
    pub format: Format,
    /// Where lines go, each once.
    pub outputs: Vec<Output>,
    /// Rotation of the file among the outputs.
    pub rotation: Option<Rotation>,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// Tabs between time, level, caller, message and fields.
    Console,
}

/// Where a line goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The journal when it reads stderr, else stderr.
    Default,
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// The journal's socket.
    Journal,
    /// A file, appended to.
    File(String),
}

/// When to begin a new log file and what to keep.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "lowercase")]
pub struct Rotation {
    /// Size of a file, in MiB; 0 is 100.
    #[serde(rename = "maxsize")]
    pub size_max_mib: u64,
    /// Age in days after which old files are deleted; 0: never.
    #[serde(rename = "maxage")]
    pub age_max_days: u64,
    /// Number of old files to keep; 0: all.
    #[serde(rename = "maxbackups")]
    pub backups_max: usize,
    /// Local time in the names of old files instead of UTC.
    pub localtime: bool,
    /// Old files are compressed.
    pub compress: bool,
}

impl Default for Rotation {
    fn default() -> Self {
        Self {
            size_max_mib: 100,
            age_max_days: 0,
            backups_max: 0,
            localtime: false,
            compress: false,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            level: Level::Info,
            format: Format::Json,
            outputs: vec![Output::Default],
            rotation: None,
        }
    }
}

impl Options {
    /// Reads the values of `--log-level`, `--log-format`, `--log-outputs` and, where rotation is
    /// on, `--log-rotation-config-json`. Errors are etcd's texts.
    pub fn parse(
        level: &str,
        format: &str,
        outputs: &[String],
        rotation: Option<&str>,
    ) -> Result<Self, String> {
        let has = |word: &str| outputs.iter().any(|output| output == word);
        if outputs.len() > 1 && has("default") {
            return Err("multi logoutput for \"default\" is not supported yet".to_owned());
        }
        let rotation = match rotation {
            Some(json) => Some(parse_rotation(outputs, json)?),
            None => None,
        };
        let level = level.parse()?;
        let format = match format {
            "json" | "" => Format::Json,
            "console" => Format::Console,
            other => {
                return Err(format!(
                    "unknown log format: {other}, supported values json, console"
                ));
            }
        };
        if outputs.len() > 1 && has("systemd/journal") {
            let listed: Vec<String> = outputs.iter().map(|o| format!("{o:?}")).collect();
            return Err(format!(
                "running with systemd/journal but other '--log-outputs' values ([{}]) are \
                 configured with 'default'; override 'default' value with something else",
                listed.join(" ")
            ));
        }
        Ok(Self {
            level,
            format,
            outputs: parse_outputs(outputs),
            rotation,
        })
    }
}

/// `/dev/null` among them silences all of them.
fn parse_outputs(outputs: &[String]) -> Vec<Output> {
    if outputs.iter().any(|output| output == "/dev/null") {
        return Vec::new();
    }
    let mut parsed = Vec::new();
    for output in outputs {
        let output = match output.as_str() {
            "default" => Output::Default,
            "stderr" => Output::Stderr,
            "stdout" => Output::Stdout,
            "systemd/journal" => Output::Journal,
            path => Output::File(path.to_owned()),
        };
        if !parsed.contains(&output) {
            parsed.push(output);
        }
    }
    if parsed.is_empty() {
        parsed.push(Output::Default);
    }
    parsed
}

fn parse_rotation(outputs: &[String], json: &str) -> Result<Rotation, String> {
    let stream = |output: &&String| matches!(output.as_str(), "default" | "stderr" | "stdout");
    let files = outputs.len() - outputs.iter().filter(stream).count();
    if files > 1 || (files == 0 && outputs.len() <= 1) {
        return Err(
            "--log-outputs requires a single file path when --log-rotate-config-json is \
                    defined"
                .to_owned(),
        );
    }
    serde_json::from_str(json).map_err(|error| {
        if error.is_data() {
            format!("invalid log rotation config: {error}")
        } else if error.is_eof() {
            "improperly formatted log rotation config: unexpected end of JSON input".to_owned()
        } else {
            format!("improperly formatted log rotation config: {error}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(outputs: &[&str], rotation: Option<&str>) -> Result<Options, String> {
        let outputs: Vec<String> = outputs.iter().map(|o| (*o).to_owned()).collect();
        Options::parse("info", "json", &outputs, rotation)
    }

    #[test]
    fn outputs() {
        let of = |outputs: &[&str]| parse(outputs, None).unwrap().outputs;
        assert_eq!(of(&["default"]), [Output::Default]);
        assert_eq!(
            of(&["/x", "stdout"]),
            [Output::File("/x".into()), Output::Stdout]
        );
        assert_eq!(of(&["/dev/null", "stderr"]), []);
        assert_eq!(of(&[]), [Output::Default]);
        assert_eq!(
            parse(&["default", "stderr"], None).unwrap_err(),
            "multi logoutput for \"default\" is not supported yet"
        );
        assert_eq!(
            parse(&["stderr", "systemd/journal"], None).unwrap_err(),
            "running with systemd/journal but other '--log-outputs' values ([\"stderr\" \
             \"systemd/journal\"]) are configured with 'default'; override 'default' value with \
             something else"
        );
    }

    #[test]
    fn rotation_needs_one_file() {
        let one = parse(
            &["/x"],
            Some(r#"{"maxsize": 2, "compress": true, "other": 1}"#),
        )
        .unwrap();
        let expected = Rotation {
            size_max_mib: 2,
            compress: true,
            ..Rotation::default()
        };
        assert_eq!(one.rotation, Some(expected));
        assert!(parse(&["stderr"], Some("{}")).is_err());
        assert!(parse(&["/x", "/y"], Some("{}")).is_err());
        assert!(
            parse(&["/x"], Some("{"))
                .unwrap_err()
                .starts_with("improperly formatted")
        );
        assert!(
            parse(&["/x"], Some(r#"{"maxsize":"a"}"#))
                .unwrap_err()
                .starts_with("invalid log")
        );
    }
}
