//! The counters etcd's gRPC library keeps per method, for every method the server knows.
//!
//! The table is fixed, so that a request costs one look-up of its path and then plain additions, and so
//! that all methods × codes exist from the start, as etcd's do. Two services appear only once used.

use super::family::{Family, Kind, Series, labels};
use super::value::{Counter, Histogram, Value};

macro_rules! codes {
    ($($name:ident)+) => {
        /// gRPC status codes, in the order of their numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum GrpcCode { $($name),+ }

        impl GrpcCode {
            const ALL: &[GrpcCode] = &[$(GrpcCode::$name),+];

            /// The label value.
            fn name(self) -> &'static str {
                match self { $(GrpcCode::$name => stringify!($name)),+ }
            }

            /// The code with this number; Unknown for numbers gRPC does not have.
            pub fn from_number(number: i32) -> Self {
                let known = usize::try_from(number).ok().and_then(|number| Self::ALL.get(number));
                known.copied().unwrap_or(GrpcCode::Unknown)
            }
        }

        const CODES: usize = [$(stringify!($name)),+].len();
    };
}
codes! {
    OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied
    ResourceExhausted FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable
    DataLoss Unauthenticated
}

const UNARY: &str = "unary";
const SERVER_STREAM: &str = "server_stream";
const BIDI_STREAM: &str = "bidi_stream";

/// Service, methods of a kind; whether they show before their first call.
type Row = (&'static str, &'static str, &'static [&'static str], bool);

const TABLE: &[Row] = &[
    (
        "etcdserverpb.KV",
        UNARY,
        &["Range", "Put", "DeleteRange", "Txn", "Compact"],
        true,
    ),
    ("etcdserverpb.KV", SERVER_STREAM, &["RangeStream"], true),
    ("etcdserverpb.Watch", BIDI_STREAM, &["Watch"], true),
    (
        "etcdserverpb.Lease",
        UNARY,
        &[
            "LeaseGrant",
            "LeaseRevoke",
            "LeaseTimeToLive",
            "LeaseLeases",
        ],
        true,
    ),
    ("etcdserverpb.Lease", BIDI_STREAM, &["LeaseKeepAlive"], true),
    (
        "etcdserverpb.Cluster",
        UNARY,
        &[
            "MemberAdd",
            "MemberRemove",
            "MemberUpdate",
            "MemberList",
            "MemberPromote",
        ],
        true,
    ),
    (
        "etcdserverpb.Maintenance",
        UNARY,
        &[
            "Alarm",
            "Status",
            "Defragment",
            "Hash",
            "HashKV",
            "MoveLeader",
            "Downgrade",
        ],
        true,
    ),
    (
        "etcdserverpb.Maintenance",
        SERVER_STREAM,
        &["Snapshot"],
        true,
    ),
    (
        "etcdserverpb.Auth",
        UNARY,
        &[
            "AuthEnable",
            "AuthDisable",
            "AuthStatus",
            "Authenticate",
            "UserAdd",
            "UserGet",
            "UserList",
            "UserDelete",
            "UserChangePassword",
            "UserGrantRole",
            "UserRevokeRole",
            "RoleAdd",
            "RoleGet",
            "RoleList",
            "RoleDelete",
            "RoleGrantPermission",
            "RoleRevokePermission",
        ],
        true,
    ),
    ("grpc.health.v1.Health", UNARY, &["Check", "List"], true),
    ("grpc.health.v1.Health", SERVER_STREAM, &["Watch"], true),
    (
        "v3electionpb.Election",
        UNARY,
        &["Campaign", "Proclaim", "Leader", "Resign"],
        false,
    ),
    ("v3electionpb.Election", SERVER_STREAM, &["Observe"], false),
    ("v3lockpb.Lock", UNARY, &["Lock", "Unlock"], false),
];

const METHODS: usize = {
    let (mut rows, mut methods) = (0, 0);
    while rows < TABLE.len() {
        methods += TABLE[rows].2.len();
        rows += 1;
    }
    methods
};

/// Prometheus' default bounds, in seconds.
const HANDLING_BOUNDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// One method's counters.
pub struct GrpcMethod {
    service: &'static str,
    method: &'static str,
    kind: &'static str,
    from_start: bool,
    /// Calls begun.
    pub started: Counter,
    /// Messages read from clients.
    pub received: Counter,
    /// Messages written to clients.
    pub sent: Counter,
    /// Bytes of the messages read, after decompression.
    received_bytes: Counter,
    /// Bytes of the messages written, before compression.
    sent_bytes: Counter,
    handled: [Counter; CODES],
    handling: Histogram,
}

impl GrpcMethod {
    const fn new((service, kind, methods, from_start): Row, method: usize) -> Self {
        Self {
            service,
            method: methods[method],
            kind,
            from_start,
            started: Counter::new(),
            received: Counter::new(),
            sent: Counter::new(),
            received_bytes: Counter::new(),
            sent_bytes: Counter::new(),
            handled: [const { Counter::new() }; CODES],
            handling: Histogram::new(HANDLING_BOUNDS),
        }
    }

    /// Counts the end of a client's messages: for etcd's library the attempt to read one more is a message, too,
    /// where a call may have many.
    pub fn received_end(&self) {
        if self.kind == BIDI_STREAM {
            self.received.inc();
        }
    }

    /// Counts the refusal of a unary call, which is a message for etcd's library.
    pub fn sent_refusal(&self) {
        self.sent.inc();
    }

    /// Counts a message read from a client.
    pub fn received(&self, bytes: usize) {
        self.received.inc();
        self.received_bytes.add(bytes as u64);
    }

    /// Counts a message written to a client.
    pub fn sent(&self, bytes: usize) {
        self.sent.inc();
        self.sent_bytes.add(bytes as u64);
    }

    /// Counts a call that ended with this code after `seconds`. The duration shows only where
    /// [`GrpcMethods::show_handling`] was asked for.
    pub fn handled(&self, code: GrpcCode, seconds: f64) {
        self.handled[code as usize].inc();
        self.handling.observe(seconds);
    }

    /// Whether a call is one request and one reply.
    pub fn is_unary(&self) -> bool {
        self.kind == UNARY
    }

    fn shows(&self) -> bool {
        self.from_start || self.started.get() > 0
    }

    fn labels(&self) -> [&'static str; 3] {
        [self.method, self.service, self.kind]
    }
}

const LABELS: &[&str] = &["grpc_method", "grpc_service", "grpc_type"];
const HANDLED_LABELS: &[&str] = &["grpc_code", "grpc_method", "grpc_service", "grpc_type"];

/// Every method's counters.
pub struct GrpcMethods {
    methods: [GrpcMethod; METHODS],
    show_handling: std::sync::atomic::AtomicBool,
}

impl GrpcMethods {
    pub(super) const fn new() -> Self {
        let mut methods = [const { GrpcMethod::new(TABLE[0], 0) }; METHODS];
        let (mut next, mut row) = (0, 0);
        while row < TABLE.len() {
            let mut method = 0;
            while method < TABLE[row].2.len() {
                methods[next] = GrpcMethod::new(TABLE[row], method);
                next += 1;
                method += 1;
            }
            row += 1;
        }
        Self {
            methods,
            show_handling: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// The method of a request path such as `/etcdserverpb.KV/Put`.
    pub fn method(&self, path: &str) -> Option<&GrpcMethod> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        self.methods
            .iter()
            .find(|row| row.method == method && row.service == service)
    }

    /// Shows how long calls took (`--metrics=extensive`).
    pub fn show_handling(&self) {
        self.show_handling
            .store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Appends all families.
    pub(super) fn collect(&self, out: &mut Vec<Family>) {
        let shown = || self.methods.iter().filter(|method| method.shows());
        let mut handled = Family::new(
            "grpc_server_handled_total",
            "Calls ended, by code.",
            Kind::Counter,
        );
        for method in shown() {
            for (code, count) in GrpcCode::ALL.iter().zip(&method.handled) {
                if method.from_start || count.get() > 0 {
                    let [method, service, kind] = method.labels();
                    let label = labels(HANDLED_LABELS, [code.name(), method, service, kind]);
                    handled.series.push(count.series(label));
                }
            }
        }
        out.push(handled);
        if self
            .show_handling
            .load(std::sync::atomic::Ordering::Relaxed)
        {
            let help = "How long calls took, in seconds.";
            let mut family = Family::new("grpc_server_handling_seconds", help, Kind::Histogram);
            let series = |row: &GrpcMethod| row.handling.series(labels(LABELS, row.labels()));
            family.series = shown().map(series).collect::<Vec<Series>>();
            out.push(family);
        }
        for (name, help, of) in BYTES {
            let mut family = Family::new(name, help, Kind::Counter);
            let total: u64 = self.methods.iter().map(|row| of(row).get()).sum();
            let series = Series::number(Kind::Counter, Vec::new(), total as f64);
            family.series.push(series);
            out.push(family);
        }
        for (name, help, of) in NUMBERS {
            let mut family = Family::new(name, help, Kind::Counter);
            let series = |row: &GrpcMethod| of(row).series(labels(LABELS, row.labels()));
            family.series = shown().map(series).collect();
            out.push(family);
        }
    }
}

type Number = (&'static str, &'static str, fn(&GrpcMethod) -> &Counter);

/// Sums over all methods.
const BYTES: [Number; 2] = [
    (
        "etcd_network_client_grpc_received_bytes_total",
        "Bytes of messages read from gRPC clients.",
        |row| &row.received_bytes,
    ),
    (
        "etcd_network_client_grpc_sent_bytes_total",
        "Bytes of messages written to gRPC clients.",
        |row| &row.sent_bytes,
    ),
];

const NUMBERS: [Number; 3] = [
    (
        "grpc_server_msg_received_total",
        "Messages read from clients.",
        |row| &row.received,
    ),
    (
        "grpc_server_msg_sent_total",
        "Messages written to clients.",
        |row| &row.sent,
    ),
    ("grpc_server_started_total", "Calls begun.", |row| {
        &row.started
    }),
];
