//! The `ownproc` command: argv -> command -> exit code.

fn main() -> std::process::ExitCode {
    ownproc::cli::main()
}
