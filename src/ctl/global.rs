//! The flags of every command, `ETCDCTL_*`, and the client they describe.
//!
//! The environment is looked at when a client is about to be made, not before: commands that fix their deadline
//! earlier do not see `ETCDCTL_COMMAND_TIMEOUT`, and those without a client see nothing of it. That is etcd's
//! behaviour, and scripts have come to rest on it.

use super::cli::{Flag, Invocation, Kind};
use super::exit::{Failure, code};
use super::print::{Display, Format, complain};
use super::prompt;
use crate::client::log::{Level, Logger, Value};
use crate::client::{Client, Config, Credentials, Deadline, TlsOptions, discover_endpoints};
use std::time::Duration;
use tokio::time::Instant;

const fn hidden(flag: Flag) -> Flag {
    Flag {
        hidden: true,
        ..flag
    }
}

const fn duration(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    hidden(Flag {
        name,
        default,
        help,
        kind: Kind::Duration,
        ..Flag::NEW
    })
}

const fn text(name: &'static str, help: &'static str) -> Flag {
    hidden(Flag::text(name, help))
}

const fn bool(name: &'static str, help: &'static str) -> Flag {
    hidden(Flag::bool(name, help))
}

/// Names of the output formats, as completion offers them.
const FORMATS: &[&str] = &["fields", "json", "protobuf", "simple", "table"];

/// The flags of every command. Help leaves them to `etcdctl options`.
pub(super) static FLAGS: [Flag; 21] = [
    hidden(Flag {
        name: "endpoints",
        kind: Kind::List,
        default: "127.0.0.1:2379",
        help: "servers to talk to, separated by commas",
        ..Flag::NEW
    }),
    bool("debug", "print the settings in effect to stderr"),
    text(
        "write-out",
        "output format: fields, json, protobuf, simple or table",
    )
    .short('w')
    .or("simple")
    .offering(FORMATS),
    bool("hex", "print bytes and ids in hexadecimal"),
    duration("dial-timeout", "2s", "longest time for logging in"),
    duration("command-timeout", "5s", "longest time for a short command"),
    duration(
        "keepalive-time",
        "2s",
        "silence after which a connection in use is probed",
    ),
    duration(
        "keepalive-timeout",
        "6s",
        "silence after a probe that breaks the connection",
    ),
    hidden(Flag::int(
        "max-request-bytes",
        "largest request in bytes, 0 for 2 MiB",
    )),
    hidden(Flag::int(
        "max-recv-bytes",
        "largest response in bytes, 0 for 2 GiB",
    )),
    bool(
        "insecure-transport",
        "no TLS unless an endpoint or a certificate asks for it",
    )
    .or("true"),
    bool(
        "insecure-discovery",
        "accept endpoints without TLS from DNS discovery",
    )
    .or("true"),
    bool(
        "insecure-skip-tls-verify",
        "accept any server certificate (for tests only)",
    ),
    text("cert", "client certificate file"),
    text("key", "key file of the client certificate"),
    text("cacert", "CA bundle to check server certificates with"),
    text(
        "auth-jwt-token",
        "token to authenticate with, instead of --user",
    ),
    text(
        "user",
        "user[:password] to authenticate as; asks for a missing password",
    ),
    text(
        "password",
        "password of --user, which then is a user name only",
    ),
    text(
        "discovery-srv",
        "domain whose SRV records name the endpoints",
    )
    .short('d'),
    text(
        "discovery-srv-name",
        "suffix of the service name in these SRV records",
    ),
];

const PREFIX: &str = "ETCDCTL_";

/// What a client is made of, short of its TLS files being read and its connection being up.
#[derive(Clone)]
pub struct Spec {
    /// The servers.
    pub endpoints: Vec<String>,
    /// See [`Config`].
    pub dial_timeout: Duration,
    /// See [`Config`].
    pub keepalive_time: Duration,
    /// See [`Config`].
    pub keepalive_timeout: Duration,
    /// 0: the default.
    pub request_bytes_max: i64,
    /// 0: the default.
    pub response_bytes_max: i64,
    /// TLS.
    pub tls: TlsOptions,
    /// Who calls.
    pub credentials: Credentials,
    /// The client's name in log lines.
    pub log_name: &'static str,
}

impl Spec {
    /// Reads the TLS files.
    pub fn config(&self) -> Result<Config, Failure> {
        let limit = |bytes: i64, default: usize| match usize::try_from(bytes) {
            Ok(bytes @ 1..) => bytes,
            _ => default,
        };
        Ok(Config {
            endpoints: self.endpoints.clone(),
            dial_timeout: self.dial_timeout,
            keepalive_time: self.keepalive_time,
            keepalive_timeout: self.keepalive_timeout,
            request_bytes_max: limit(self.request_bytes_max, Config::REQUEST_BYTES_MAX),
            response_bytes_max: limit(self.response_bytes_max, Config::RESPONSE_BYTES_MAX),
            tls: self.tls.load().map_err(Failure::args)?,
            credentials: self.credentials.clone(),
            logger: Logger::client(self.log_name),
        })
    }

    /// Makes the client, logged in.
    pub async fn connect(&self) -> Result<Client, Failure> {
        let config = self.config()?;
        let connected = Client::connect(config).await;
        connected.map_err(|error| Failure::new(code::BAD_CONNECTION, error))
    }

    /// The same for one endpoint.
    pub fn at(&self, endpoint: &str) -> Self {
        Self {
            endpoints: vec![endpoint.to_owned()],
            ..self.clone()
        }
    }
}

impl Invocation {
    /// A client as the flags and the environment say, and how to print.
    pub async fn connect(&mut self) -> Result<(Client, Display), Failure> {
        let (spec, display) = self.spec().await?;
        Ok((spec.connect().await?, display))
    }

    /// What a client would be made of, and how to print. Takes the environment in.
    pub async fn spec(&mut self) -> Result<(Spec, Display), Failure> {
        self.read_environment()?;
        if self.flags.bool("debug") {
            self.print_settings();
        }
        let spec = Spec {
            endpoints: self.endpoints().await?,
            dial_timeout: self.duration("dial-timeout"),
            keepalive_time: self.duration("keepalive-time"),
            keepalive_timeout: self.duration("keepalive-timeout"),
            request_bytes_max: self.flags.int("max-request-bytes"),
            response_bytes_max: self.flags.int("max-recv-bytes"),
            tls: self.tls_options()?,
            credentials: self.credentials()?,
            log_name: "etcd-client",
        };
        Ok((spec, self.display()?))
    }

    /// When this command gives up, from now on.
    pub fn deadline(&self) -> Deadline {
        Some(Instant::now() + self.duration("command-timeout"))
    }

    /// The servers to talk to: discovered ones, or those of `--endpoints`.
    pub async fn endpoints(&self) -> Result<Vec<String>, Failure> {
        let domain = self.flags.text("discovery-srv");
        if !domain.is_empty() {
            let found = discover_endpoints(&domain, &self.flags.text("discovery-srv-name")).await?;
            let found = self.without_insecure(found);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        let given = self.flags.list("endpoints");
        Ok(given
            .iter()
            .map(|endpoint| endpoint.trim().to_owned())
            .collect())
    }

    /// The TLS settings.
    pub fn tls_options(&self) -> Result<TlsOptions, Failure> {
        for name in ["cert", "key", "cacert"] {
            if self.flags.is_given(name) && self.flags.bytes(name).is_empty() {
                return Err(Failure::args(format!(
                    "empty string is passed to --{name} option"
                )));
            }
        }
        let server_name = match self.flags.bool("insecure-discovery") {
            true => String::new(),
            false => self.flags.text("discovery-srv"),
        };
        Ok(TlsOptions {
            cert: self.flags.text("cert"),
            key: self.flags.text("key"),
            cacert: self.flags.text("cacert"),
            server_name,
            insecure_transport: self.flags.bool("insecure-transport"),
            insecure_skip_verify: self.flags.bool("insecure-skip-tls-verify"),
        })
    }

    /// Who calls; asks for a password that is missing.
    pub fn credentials(&self) -> Result<Credentials, Failure> {
        let token = self.flags.text("auth-jwt-token");
        if !token.is_empty() {
            return Ok(Credentials::Token(token));
        }
        let password = self.flags.text("password");
        user_and_password(self.flags.text("user"), password, "Password: ")
    }

    /// A duration flag; negative ones are zero.
    pub fn duration(&self, name: &str) -> Duration {
        Duration::from_nanos(u64::try_from(self.flags.int(name)).unwrap_or_default())
    }

    fn display(&self) -> Result<Display, Failure> {
        let format = Format::named(&self.flags.text("write-out"))
            .ok_or_else(|| Failure::new(code::BAD_FEATURE, "unsupported output format"))?;
        Ok(Display {
            format,
            hex: self.flags.bool("hex"),
            value_only: false,
        })
    }

    fn without_insecure(&self, endpoints: Vec<String>) -> Vec<String> {
        if self.flags.bool("insecure-discovery") {
            return endpoints;
        }
        let (insecure, secure): (Vec<_>, Vec<_>) = endpoints
            .into_iter()
            .partition(|endpoint| endpoint.starts_with("http://"));
        for endpoint in insecure {
            complain(format_args!(
                "ignoring discovered insecure endpoint {endpoint:?}"
            ));
        }
        secure
    }

    /// Gives every inherited flag that was not given the value of its variable. Values that do not parse are
    /// passed over.
    fn read_environment(&mut self) -> Result<(), Failure> {
        let inherited: Vec<_> = self.path.inherited_flags().collect();
        let given: Vec<_> = inherited
            .iter()
            .map(|flag| self.flags.is_given(flag.name))
            .collect();
        let mut used = Vec::new();
        for (flag, given) in inherited.iter().zip(&given) {
            let variable = variable_of(flag.name);
            let value = std::env::var_os(&variable).unwrap_or_default();
            if !given && !value.is_empty() {
                let value = std::os::unix::ffi::OsStringExt::into_vec(value);
                let _ = self.flags.set(flag, &value);
                used.push(variable);
            }
        }
        let watch = self.path.command().name == "watch";
        for (variable, value) in std::env::vars_os() {
            let (variable, value) = (variable.to_string_lossy(), value.to_string_lossy());
            let known = |name: &str| variable == variable_of(name);
            if used.iter().any(|used| *used == variable)
                || (watch && (known("watch-key") || known("watch-range-end")) && !value.is_empty())
            {
                continue;
            }
            if inherited
                .iter()
                .zip(&given)
                .any(|(flag, given)| *given && known(flag.name))
            {
                let fields = [("environment-variable", Value::from(variable.as_ref()))];
                Logger::plain().log(Level::Fatal, SHADOWED, &fields);
                return Err(Failure::silent(code::ERROR));
            }
            if variable.starts_with(PREFIX) {
                let fields = [(
                    "environment-variable",
                    Value::from(format!("{variable}={value}")),
                )];
                Logger::plain().log(Level::Warn, "unrecognized environment variable", &fields);
            }
        }
        Ok(())
    }

    fn print_settings(&self) {
        let mut flags: Vec<_> = self.path.inherited_flags().collect();
        flags.sort_by_key(|flag| flag.name);
        for flag in flags {
            let value = match self.flags.get(flag.name) {
                super::cli::Value::Bool(value) => value.to_string(),
                super::cli::Value::Text(text) => String::from_utf8_lossy(&text).into_owned(),
                super::cli::Value::List(list) => format!("[{}]", list.join(",")),
                super::cli::Value::Int(number) if flag.kind == Kind::Duration => {
                    super::go::duration::print(number)
                }
                super::cli::Value::Int(number) => number.to_string(),
                super::cli::Value::Uint(number) => number.to_string(),
            };
            complain(format_args!("{}={value}", variable_of(flag.name)));
        }
    }
}

const SHADOWED: &str = "conflicting environment variable is shadowed by corresponding command-line flag \
                        (either unset environment variable or disable flag))";

fn variable_of(flag: &str) -> String {
    format!("{PREFIX}{}", flag.to_uppercase().replace('-', "_"))
}

/// Reads `user[:password]`; asks when neither has a password.
pub(super) fn user_and_password(
    user: String,
    password: String,
    prompt: &str,
) -> Result<Credentials, Failure> {
    if user.is_empty() {
        return Ok(Credentials::None);
    }
    if !password.is_empty() {
        return Ok(Credentials::Password { user, password });
    }
    Ok(match user.split_once(':') {
        Some((user, password)) => Credentials::Password {
            user: user.to_owned(),
            password: password.to_owned(),
        },
        None => Credentials::Password {
            password: prompt::password(prompt)?,
            user,
        },
    })
}
