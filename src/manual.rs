//! `completions` and `man`: shell completions and manual pages, made from the definition of the command line.

use std::io::Write;
use std::path::PathBuf;

use clap::{Arg, Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::console::{CommandOutcome, print, report, say};
use crate::output::write_whole;

/// The name of the program, and the first part of the names of its pages.
const PROGRAM: &str = "bucket-streamer";
/// A position behind those of all options of a command, and before that of `--help`.
const LAST: usize = 900;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bucket-streamer completions bash > ~/.local/share/bash-completion/completions/bucket-streamer
  bucket-streamer completions zsh > ~/.zfunc/_bucket-streamer       # in a folder of $fpath
  bucket-streamer completions fish > ~/.config/fish/completions/bucket-streamer.fish")]
pub(crate) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bucket-streamer man | man -l -
  bucket-streamer man extract | man -l -
  bucket-streamer man --output ~/.local/share/man/man1")]
pub(crate) struct ManArguments {
    /// Print the page of this command instead of the page of the program
    #[arg(value_name = "COMMAND", conflicts_with = "output")]
    command: Option<String>,
    /// Write the pages of the program and of all commands into this folder instead of printing one
    #[arg(short, long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    output: Option<PathBuf>,
}

/// Prints the completions of this command line for a shell.
pub(crate) fn completions(arguments: &CompletionsArguments, command_line: Command) -> CommandOutcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut prepared(command_line), PROGRAM, &mut script);
    print(&script)
}

/// Prints one manual page of this command line, or writes all of them.
pub(crate) fn man(arguments: &ManArguments, command_line: Command) -> CommandOutcome {
    let definition = prepared(command_line);
    if let Some(folder) = &arguments.output {
        let written = std::fs::create_dir_all(folder).map_err(|error| {
            let path = folder.to_string_lossy().into_owned();
            bucket_streamer::ErrorKind::Write { path, error }.into()
        });
        let mut pages = std::iter::once(&definition).chain(commands(&definition));
        let write = |command: &Command| write_whole(&folder.join(file_name(command)), &page(command));
        return match written.and_then(|()| pages.try_for_each(write)) {
            Ok(()) => CommandOutcome::Done,
            Err(error) => {
                report(&error);
                CommandOutcome::SomeFailed
            }
        };
    }
    let Some(name) = &arguments.command else { return print(&page(&definition)) };
    match definition.find_subcommand(name) {
        Some(command) => print(&page(command)),
        None => {
            let names: Vec<&str> = commands(&definition).map(Command::get_name).collect();
            say(&format!("bucket-streamer: there is no command {name}: use one of {}", names.join(", ")));
            CommandOutcome::Usage
        }
    }
}

/// The command line with the names of commands set, for generators. Options of all commands come last, as in the help.
/// Values from the environment are hidden: they may be secrets.
fn prepared(mut definition: Command) -> Command {
    let adapted = |argument: Arg| {
        let argument = argument.hide_env_values(true);
        if argument.is_global_set() { argument.display_order(LAST) } else { argument }
    };
    definition.build();
    definition.mut_args(adapted).mut_subcommands(|command| {
        let is_help = command.get_name() == "help";
        command.mut_args(adapted).hide(is_help)
    })
}

/// The commands that have pages.
fn commands(definition: &Command) -> impl Iterator<Item = &Command> {
    definition.get_subcommands().filter(|command| !command.is_hide_set())
}

/// `bucket-streamer.1`, `bucket-streamer-extract.1`.
fn file_name(command: &Command) -> String {
    format!("{}.1", page_name(command))
}

fn page_name(command: &Command) -> String {
    if command.get_name() == PROGRAM { PROGRAM.to_owned() } else { format!("{PROGRAM}-{}", command.get_name()) }
}

/// The manual page of a command, in roff.
fn page(command: &Command) -> Vec<u8> {
    let man = Man::new(command.clone())
        .title(page_name(command).to_uppercase())
        .source(format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION")))
        .manual("User Commands");
    let mut page = Vec::new();
    let mut render = || -> std::io::Result<()> {
        man.render_title(&mut page)?;
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        if command.has_subcommands() {
            man.render_subcommands_section(&mut page)?;
        }
        page.write_all(closing_sections(command).render().as_bytes())
    };
    render().expect("a vector takes all bytes");
    page
}

/// The paragraphs at the end of the help as sections: examples, exit codes, and further text as notes.
fn closing_sections(command: &Command) -> Roff {
    let mut roff = Roff::new();
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut notes = Vec::new();
    for paragraph in text.split("\n\n") {
        match paragraph.split_once(':') {
            Some((heading @ ("Examples" | "Exit codes"), body)) => {
                roff.control("SH", [heading.to_uppercase().as_str()]);
                // Lines of examples stay as they are.
                roff.control("nf", []);
                body.trim_start_matches('\n').lines().for_each(|line| _ = roff.text([roman(line.trim())]));
                roff.control("fi", []);
            }
            _ => notes.push(paragraph),
        }
    }
    if notes.iter().any(|note| !note.is_empty()) {
        roff.control("SH", ["NOTES"]);
    }
    for note in notes {
        roff.text([roman(note.lines().map(str::trim).collect::<Vec<_>>().join(" "))]);
        roff.control("PP", []);
    }
    roff
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{commands, page, prepared};
    use crate::args::Arguments;

    /// A page for each command, with its options and its examples.
    #[test]
    fn pages_have_options_and_examples() {
        let definition = prepared(Arguments::command());
        for command in commands(&definition) {
            let text = String::from_utf8(page(command)).expect("roff is text");
            for option in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                let Some(long) = option.get_long() else { continue };
                let escaped = long.replace('-', "\\-");
                assert!(text.contains(&escaped), "{}: no --{long}", command.get_name());
            }
            assert!(text.contains("\n.SH EXAMPLES\n"), "{}: no examples", command.get_name());
        }
    }
}
