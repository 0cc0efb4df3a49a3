//! What the process itself weighs: the `process_*` and `os_fd_*` families, and the `go_*` ones that
//! dashboards and etcd's tests expect of every etcd.
//!
//! Everything comes from `/proc/self` and system calls, never from `/proc/stat` or `/proc/meminfo`, which
//! a unit with `ProcSubset=pid` does not see; what cannot be read is 0. Of the `go_*` names, those with a
//! counterpart here carry it (threads, tasks for goroutines, resident and mapped memory); the garbage
//! collector's are 0, as there is none.

use std::sync::LazyLock;

use nix::sys::resource::{Resource, getrlimit};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use super::family::{Family, Kind, Quantile, Series, Summary, labels};

/// What only the program's start knows.
#[derive(Clone, Debug, Default)]
pub struct Runtime {
    /// Value of `go_info`'s label: what this was compiled with.
    pub version: String,
    /// Live asynchronous tasks, asked at each scrape.
    pub tasks: Option<fn() -> usize>,
}

/// A value of one family without labels.
type Row = (&'static str, Kind, &'static str, f64);

/// Appends all families of this file.
pub(super) fn collect(runtime: &Runtime, out: &mut Vec<Family>) {
    let process = Process::read();
    let rows = process.rows().into_iter().chain(go_rows(runtime, &process));
    for (name, kind, help, value) in rows {
        let mut family = Family::new(name, help, kind);
        family.series.push(Series::number(kind, Vec::new(), value));
        out.push(family);
    }
    out.push(info(&runtime.version));
    out.push(garbage_collections());
}

fn info(version: &str) -> Family {
    let mut family = Family::new("go_info", "What this was compiled with.", Kind::Gauge);
    family.series.push(Series::number(
        Kind::Gauge,
        labels(&["version"], [version]),
        1.0,
    ));
    family
}

/// A summary of no collections.
fn garbage_collections() -> Family {
    let mut family = Family::new("go_gc_duration_seconds", NO_COLLECTOR, Kind::Summary);
    let zero = |quantile| Quantile {
        quantile: Some(quantile),
        value: Some(0.0),
    };
    family.series.push(Series {
        summary: Some(Summary {
            sample_count: Some(0),
            sample_sum: Some(0.0),
            quantile: [0.0, 0.25, 0.5, 0.75, 1.0].map(zero).to_vec(),
        }),
        ..Series::default()
    });
    family
}

const NO_COLLECTOR: &str = "Kept for dashboards; nothing here collects garbage.";

/// Numbers of `/proc/self` and the limits.
#[derive(Debug, Default)]
struct Process {
    cpu_seconds: f64,
    start_seconds: f64,
    threads: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
    data_bytes: f64,
    open_descriptors: f64,
    descriptors_max: f64,
    virtual_bytes_max: f64,
    received_bytes: f64,
    sent_bytes: f64,
}

impl Process {
    fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let limit = |of| getrlimit(of).map_or(0.0, |(soft, _)| soft as f64);
        let mut process = Process {
            descriptors_max: limit(Resource::RLIMIT_NOFILE),
            virtual_bytes_max: limit(Resource::RLIMIT_AS),
            open_descriptors: open_descriptors(),
            ..Process::default()
        };
        process.take_stat(&text("/proc/self/stat"));
        process.take_statm(&text("/proc/self/statm"));
        process.take_netstat(&text("/proc/self/net/netstat"));
        process
    }

    /// Reads `/proc/self/stat`; the command's name may hold blanks and parentheses.
    fn take_stat(&mut self, text: &str) {
        let Some((_, rest)) = text.rsplit_once(')') else {
            return;
        };
        // The first field after the name is number 3 in proc(5).
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| -> f64 {
            fields
                .get(number - 3)
                .and_then(|text| text.parse().ok())
                .unwrap_or_default()
        };
        let ticks = *TICKS_PER_SECOND;
        self.cpu_seconds = (field(14) + field(15)) / ticks;
        self.threads = field(20);
        self.start_seconds = *BOOT_SECONDS + field(22) / ticks;
        self.virtual_bytes = field(23);
    }

    fn take_statm(&mut self, text: &str) {
        let mut pages = text
            .split_ascii_whitespace()
            .map(|text| text.parse().unwrap_or(0.0));
        self.resident_bytes = pages.nth(1).unwrap_or_default() * *PAGE_BYTES;
        self.data_bytes = pages.nth(3).unwrap_or_default() * *PAGE_BYTES;
    }

    /// Reads the octets of `/proc/self/net/netstat`: lines come in pairs, names and values.
    fn take_netstat(&mut self, text: &str) {
        let mut lines = text.lines().filter(|line| line.starts_with("IpExt:"));
        let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
            return;
        };
        for (name, value) in names.split(' ').zip(values.split(' ')) {
            match name {
                "InOctets" => self.received_bytes = value.parse().unwrap_or_default(),
                "OutOctets" => self.sent_bytes = value.parse().unwrap_or_default(),
                _ => {}
            }
        }
    }

    fn rows(&self) -> Vec<Row> {
        use Kind::{Counter, Gauge};
        vec![
            (
                "os_fd_limit",
                Gauge,
                "File descriptors allowed.",
                self.descriptors_max,
            ),
            (
                "os_fd_used",
                Gauge,
                "File descriptors open.",
                self.open_descriptors,
            ),
            (
                "process_cpu_seconds_total",
                Counter,
                "CPU time used.",
                self.cpu_seconds,
            ),
            (
                "process_max_fds",
                Gauge,
                "File descriptors allowed.",
                self.descriptors_max,
            ),
            (
                "process_network_receive_bytes_total",
                Counter,
                "Bytes received in this network namespace.",
                self.received_bytes,
            ),
            (
                "process_network_transmit_bytes_total",
                Counter,
                "Bytes sent in this network namespace.",
                self.sent_bytes,
            ),
            (
                "process_open_fds",
                Gauge,
                "File descriptors open.",
                self.open_descriptors,
            ),
            (
                "process_resident_memory_bytes",
                Gauge,
                "Resident memory.",
                self.resident_bytes,
            ),
            (
                "process_start_time_seconds",
                Gauge,
                "Unix time of the start.",
                self.start_seconds,
            ),
            (
                "process_virtual_memory_bytes",
                Gauge,
                "Mapped memory.",
                self.virtual_bytes,
            ),
            (
                "process_virtual_memory_max_bytes",
                Gauge,
                "Mapped memory allowed.",
                self.virtual_bytes_max,
            ),
        ]
    }
}

fn go_rows(runtime: &Runtime, process: &Process) -> Vec<Row> {
    use Kind::{Counter, Gauge};
    let tasks = runtime.tasks.map_or(0, |tasks| tasks()) as f64;
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let mut rows = vec![
        ("go_goroutines", Gauge, "Live asynchronous tasks.", tasks),
        ("go_threads", Gauge, "Threads.", process.threads),
        (
            "go_sched_gomaxprocs_threads",
            Gauge,
            "Processors available.",
            processors,
        ),
        (
            "go_gc_gomemlimit_bytes",
            Gauge,
            "No limit is set.",
            i64::MAX as f64,
        ),
        (
            "go_memstats_sys_bytes",
            Gauge,
            "Mapped data memory.",
            process.data_bytes,
        ),
        (
            "go_memstats_heap_sys_bytes",
            Gauge,
            "Mapped data memory.",
            process.data_bytes,
        ),
    ];
    for name in RESIDENT {
        rows.push((name, Gauge, "Resident memory.", process.resident_bytes));
    }
    for name in ABSENT_GAUGES {
        rows.push((name, Gauge, NO_COLLECTOR, 0.0));
    }
    for name in ABSENT_COUNTERS {
        rows.push((name, Counter, NO_COLLECTOR, 0.0));
    }
    rows
}

const RESIDENT: [&str; 3] = [
    "go_memstats_alloc_bytes",
    "go_memstats_heap_alloc_bytes",
    "go_memstats_heap_inuse_bytes",
];

const ABSENT_GAUGES: [&str; 15] = [
    "go_gc_gogc_percent",
    "go_memstats_buck_hash_sys_bytes",
    "go_memstats_gc_sys_bytes",
    "go_memstats_heap_idle_bytes",
    "go_memstats_heap_objects",
    "go_memstats_heap_released_bytes",
    "go_memstats_last_gc_time_seconds",
    "go_memstats_mcache_inuse_bytes",
    "go_memstats_mcache_sys_bytes",
    "go_memstats_mspan_inuse_bytes",
    "go_memstats_mspan_sys_bytes",
    "go_memstats_next_gc_bytes",
    "go_memstats_other_sys_bytes",
    "go_memstats_stack_inuse_bytes",
    "go_memstats_stack_sys_bytes",
];

const ABSENT_COUNTERS: [&str; 3] = [
    "go_memstats_alloc_bytes_total",
    "go_memstats_frees_total",
    "go_memstats_mallocs_total",
];

fn open_descriptors() -> f64 {
    // One of them is the listing's own.
    std::fs::read_dir("/proc/self/fd").map_or(0.0, |all| all.count().saturating_sub(1) as f64)
}

fn system(value: SysconfVar, otherwise: f64) -> f64 {
    sysconf(value)
        .ok()
        .flatten()
        .map_or(otherwise, |value| value as f64)
}

static TICKS_PER_SECOND: LazyLock<f64> = LazyLock::new(|| system(SysconfVar::CLK_TCK, 100.0));
static PAGE_BYTES: LazyLock<f64> = LazyLock::new(|| system(SysconfVar::PAGE_SIZE, 4096.0));

/// Unix time of the boot, once: clock adjustments later must not move the process' start.
static BOOT_SECONDS: LazyLock<f64> = LazyLock::new(|| {
    let seconds =
        |clock| clock_gettime(clock).map_or(0.0, |t| t.tv_sec() as f64 + t.tv_nsec() as f64 / 1e9);
    let boot = seconds(ClockId::CLOCK_REALTIME) - seconds(ClockId::CLOCK_BOOTTIME);
    (boot * 100.0).round() / 100.0
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_by_position() {
        let mut process = Process::default();
        process.take_stat("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 200 100 0 0 20 0 9 0 500 4096000 77 1");
        assert_eq!(process.cpu_seconds * *TICKS_PER_SECOND, 300.0);
        assert_eq!((process.threads, process.virtual_bytes), (9.0, 4096000.0));
        process.take_statm("1000 200 50 10 0 300 0\n");
        assert_eq!(process.resident_bytes, 200.0 * *PAGE_BYTES);
        assert_eq!(process.data_bytes, 300.0 * *PAGE_BYTES);
        process.take_netstat("TcpExt: A\nTcpExt: 1\nIpExt: X InOctets OutOctets\nIpExt: 0 5 6\n");
        assert_eq!((process.received_bytes, process.sent_bytes), (5.0, 6.0));
        process.take_stat("");
        process.take_statm("");
        process.take_netstat("IpExt:");
    }

    #[test]
    fn this_process_has_values() {
        let process = Process::read();
        assert!(process.resident_bytes > 0.0 && process.virtual_bytes > process.resident_bytes);
        assert!(process.open_descriptors > 2.0 && process.threads >= 1.0);
        assert!(process.data_bytes > 0.0);
        let now = clock_gettime(ClockId::CLOCK_REALTIME).unwrap().tv_sec() as f64;
        assert!(process.start_seconds > now - 86400.0 && process.start_seconds < now + 2.0);
    }
}
