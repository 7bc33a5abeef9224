//! Writes the seeds of one target into a directory: `seed TARGET DIR`.

use std::path::PathBuf;
use std::process::ExitCode;

use holofs_fuzz::targets;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(name), Some(dir)) = (args.next(), args.next().map(PathBuf::from)) else {
        eprintln!("usage: seed TARGET DIR");
        return ExitCode::from(2);
    };
    let Some(target) = targets::ALL.iter().find(|target| target.name == name) else {
        eprintln!("seed: unknown target {name}");
        return ExitCode::from(2);
    };
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/golden");
    std::fs::create_dir_all(&dir).expect("the directory can be made");
    for (number, seed) in (target.seeds)(&golden).into_iter().enumerate() {
        std::fs::write(dir.join(format!("seed-{number:04}")), seed).expect("a seed can be written");
    }
    ExitCode::SUCCESS
}
