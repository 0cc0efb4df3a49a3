//! The offline tool for data directories and snapshots.

fn main() -> std::process::ExitCode {
    etcd::utl::main().into()
}
