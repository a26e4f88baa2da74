//! Writes what is installed beside the program: the manual and the completions of shells.

#[path = "../src/args.rs"]
#[allow(dead_code, reason = "only the names and the texts are used")]
mod args;

use std::path::PathBuf;

use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(std::io::Error::other("usage: pages DIRECTORY"));
    };
    std::fs::create_dir_all(&directory)?;
    let mut command = args::Arguments::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "framefd", &directory)?;
    }
    clap_mangen::generate_to(command, &directory)
}
