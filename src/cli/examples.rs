//! Examples for every command, shown at the end of its help and its man page.

use clap::Command;

/// The examples of each command, one per line.
const EXAMPLES: &[(&str, &str)] = &[
    (
        "allow",
        "holofs allow                 # for the robot.yaml or conda.yaml here\nholofs allow ~/robots/one",
    ),
    ("build", "holofs build conda.yaml\nholofs build requirements.txt --python 3.12"),
    ("catalogs", "holofs catalogs\nholofs catalogs --json --identity"),
    ("catalogs diff", "holofs catalogs diff 14023a1f 8e87b3cb --files"),
    ("check", "holofs check\nholofs check --repair"),
    ("commit", "holofs commit work --blueprint conda.yaml"),
    (
        "completions",
        "holofs completions bash > ~/.local/share/bash-completion/completions/holofs\nholofs completions fish > ~/.config/fish/completions/holofs.fish",
    ),
    ("config", "holofs config\nholofs config --json"),
    ("config path", "$EDITOR \"$(holofs config path)\""),
    ("delete", "holofs delete work\nholofs delete --dry-run work"),
    ("deny", "holofs deny ~/robots/one"),
    ("df", "holofs df"),
    ("diff", "holofs diff work"),
    ("doctor", "holofs doctor\nholofs doctor --bundle report.json"),
    ("du", "holofs du work"),
    ("explain", "holofs explain lib/python3.12/site-packages/numpy/__init__.py"),
    ("export", "holofs export 14023a1f --zipfile hololib.zip"),
    ("gc", "holofs gc --dry-run\nholofs gc"),
    ("hash", "holofs hash conda.yaml\nholofs hash robot.yaml --show-blueprint"),
    ("holotree", "holofs holotree vars -s work -r robot.yaml\nholofs ht list --json"),
    (
        "hook",
        "eval \"$(holofs hook bash)\"     # in ~/.bashrc\neval \"$(holofs hook zsh)\"      # in ~/.zshrc\nholofs hook fish | source      # in ~/.config/fish/config.fish\nholofs hook pwsh | Out-String | Invoke-Expression # in $PROFILE",
    ),
    (
        "import",
        "holofs import hololib.zip\nholofs import https://files.example.org/hololib.zip --sha256 DIGEST",
    ),
    ("info", "holofs info\nholofs info --json"),
    ("kernel", "holofs kernel install conda.yaml --name report"),
    ("kernel install", "holofs kernel install conda.yaml --name report --display-name 'Report'"),
    ("list", "holofs list\nholofs list --json"),
    ("logs", "holofs logs work -n 20\nholofs logs work --follow"),
    (
        "materialize",
        "holofs materialize conda.yaml --space work\nholofs materialize 14023a1f work --strategy reflink",
    ),
    ("mount", "holofs mount conda.yaml --space work\nholofs mount 14023a1f work --read-only"),
    ("pull", "holofs pull oci://registry.example.org/team/env:latest"),
    ("push", "holofs push 14023a1f oci://registry.example.org/team/env:latest"),
    ("metrics", "holofs metrics\nholofs metrics --output /var/lib/node_exporter/holofs.prom"),
    ("record", "holofs record ./stage --blueprint conda.yaml"),
    ("remote", "holofs remote ls oci://registry.example.org/team/env"),
    ("remote gc", "holofs remote gc s3://bucket/envs --dry-run"),
    ("remote ls", "holofs remote ls s3://bucket/envs"),
    ("remote show", "holofs remote show s3://bucket/envs#latest"),
    ("remote verify", "holofs remote verify s3://bucket/envs#latest"),
    ("remove", "holofs remove 14023a1f --dry-run"),
    ("report", "holofs report 14023a1f --output report.html"),
    ("restart", "holofs restart work\nholofs restart --all"),
    ("reset", "holofs reset work\nholofs reset work lib/python3.11/site-packages"),
    (
        "run",
        "holofs run conda.yaml python -V\nholofs run python job.py          # the catalog of the files here\nholofs run --space auto . pytest  # a new space, removed afterwards\nholofs run                        # the task of the robot.yaml here",
    ),
    ("serve", "holofs serve --rccremote 127.0.0.1:4653"),
    ("shell", "holofs shell\nholofs shell 14023a1f --space work --shell zsh"),
    ("stats", "holofs stats work"),
    ("top", "holofs top"),
    ("trace", "holofs trace work\nholofs trace 14023a1f --chrome run.json -- python job.py"),
    ("unmount", "holofs unmount work\nholofs unmount --lazy work"),
    ("variables", "eval \"$(holofs variables conda.yaml --space work)\""),
    ("verify", "holofs verify 14023a1f"),
    ("warm", "holofs warm conda.yaml\nholofs warm 14023a1f --bytecode"),
];

/// The command line definition, which is built, with an example after the help of each command.
pub fn added(command: Command) -> Command {
    below(command, "")
}

fn below(command: Command, above: &str) -> Command {
    command.mut_subcommands(|sub| {
        let path = format!("{above} {}", sub.get_name()).trim_start().to_owned();
        let found = EXAMPLES.iter().find(|(name, _)| *name == path);
        let sub = match found {
            Some((_, lines)) if sub.get_after_help().is_none() => sub.after_help(shown(lines)),
            _ => sub,
        };
        below(sub, &path)
    })
}

fn shown(lines: &str) -> String {
    let lines: Vec<String> = lines.lines().map(|line| format!("  {line}")).collect();
    format!("Examples:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::definition;

    /// Every visible command, with its full name.
    fn all(command: &Command, above: &str) -> Vec<(String, Command)> {
        let subs = command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help");
        subs.flat_map(|sub| {
            let path = format!("{above} {}", sub.get_name()).trim_start().to_owned();
            let mut found = all(sub, &path);
            found.push((path, sub.clone()));
            found
        })
        .collect()
    }

    /// The words of an example, without shell syntax.
    fn words(line: &str) -> Option<Vec<String>> {
        let line = line.replace("eval \"$(", "").replace(")\"", "").replace("$EDITOR \"$(", "");
        let line = line
            .split(['#', '>', '|'])
            .next()
            .unwrap_or_default()
            .replace('\'', "")
            .replace("DIGEST", &"0".repeat(64));
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        (words.first().map(String::as_str) == Some("holofs")).then_some(words)
    }

    #[test]
    fn examples_are_command_lines() {
        let (mut tried, mut wrong) = (0, Vec::new());
        for (name, lines) in EXAMPLES {
            for words in lines.lines().filter_map(words) {
                if words[1] == "ht" || words[1] == "holotree" {
                    continue;
                }
                let words = words.into_iter().map(std::ffi::OsString::from).collect();
                let parsed = definition::parsed(words);
                wrong.extend(parsed.err().map(|error| format!("{name}: {error}")));
                tried += 1;
            }
        }
        assert!(wrong.is_empty() && tried > 50, "{tried}\n{}", wrong.join("\n"));
    }

    #[test]
    fn help_of_every_command_fits_80_columns_and_has_an_example() {
        let whole = definition::whole(|command| command.term_width(80));
        let commands = all(&whole, "");
        assert!(commands.len() > 40, "{}", commands.len());
        let mut wrong = Vec::new();
        for (path, command) in &commands {
            let mut command = command.clone();
            for help in [command.render_help().to_string(), command.render_long_help().to_string()] {
                if !help.contains("Examples:\n") {
                    wrong.push(format!("{path} has no example"));
                }
                let wide = help.lines().filter(|line| line.chars().count() > 80);
                wrong.extend(wide.map(|line| format!("{path} is wider than 80 columns: {line}")));
            }
        }
        for (path, _) in EXAMPLES {
            if !commands.iter().any(|(there, _)| there == path) {
                wrong.push(format!("There is no command {path}"));
            }
        }
        wrong.dedup();
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}
