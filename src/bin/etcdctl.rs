//! The command line client.

fn main() -> std::process::ExitCode {
    etcd::ctl::main().into()
}
