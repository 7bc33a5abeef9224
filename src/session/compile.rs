//! Compiles the shared bytecode of a catalog: its own sources, by its own interpreter, in a view of the catalog only.
//!
//! ```text
//! run ends ─ names of what was imported ─▶ `holofs warm --imported` ─▶ `holofs run --isolate … python3 -I -S -B` ─ .pyc ─▶ pack
//!             (the space's own directory)    lowest priority, detached    private read-only view of the catalog
//! ```
//! Nothing that a program wrote is read: neither its bytecode nor its space. If no namespace is available, the view is a
//! read-only mount of a separate space; if nothing can be mounted, no bytecode is shared, and each space compiles its own. Site
//! hooks, PYTHON* variables and the current directory have no influence (`-I -S`).

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use serde::Serialize;

use crate::error::chain;
use crate::space::bytecode::interpreter;
use crate::space::bytecode::names::{self, CacheName};
use crate::space::bytecode::pack::{self, Fresh, Pack};
use crate::space::bytecode::pack_place;
use crate::space::bytecode::seed::Imported;
use crate::space::bytecode::travel;
use crate::store::Library;
use crate::store::index::{FileNode, Index, Ino};
use crate::sys::fs::lock;
use crate::sys::fs::name::Name;
use crate::sys::fs::place::Place;
use crate::sys::process::this_process::effective_uid;

use super::context::Context;
use super::error::{SessionError, Tried as _};

/// The space in which bytecode is compiled if no namespace is available; nothing of it is kept.
pub const SPACE: &str = "holofs warm";
/// The controller of that space.
pub const CONTROLLER: &str = "holofs";
/// The maximum size of one `.pyc`.
const LONGEST: u64 = 64 << 20;
/// Compiling fewer imports than this is faster than starting a process for it, if they are compiled once.
pub const WORTH_IT: usize = 20;

/// How a program in machine code begins on Linux.
const ELF: &[u8] = b"\x7fELF";

/// Reads lines with tag, level and source. For each source that compiles, it answers with level, source and length, followed by the
/// `.pyc`: one that Python validates against the source by hash (PEP 552). Some sources are not meant to compile: templates, tests of
/// syntax errors.
const SCRIPT: &str = r#"
import importlib._bootstrap_external as external, importlib.util, os, sys, warnings
warnings.simplefilter("ignore")
root, out = os.environ["RCC_HOLOTREE_SPACE_ROOT"], sys.stdout.buffer
for line in sys.stdin.buffer.read().decode().splitlines():
    tag, level, source = line.split("\t")
    if tag != sys.implementation.cache_tag:
        continue
    path = os.path.join(root, source)
    try:
        with open(path, "rb") as file:
            data = file.read()
        code = compile(data, path, "exec", dont_inherit=True, optimize=int(level or 0))
        pyc = bytes(external._code_to_hash_pyc(code, importlib.util.source_hash(data), True))
    except Exception:
        continue
    out.write(("%s\t%s\t%d\n" % (level, source, len(pyc))).encode() + pyc)
out.flush()
"#;

/// The result of a compilation.
#[derive(Debug, Default, Serialize)]
pub struct Compiled {
    /// Sources that were compiled now.
    pub compiled: usize,
    /// Sources that cannot be compiled.
    pub left_out: usize,
    /// The number of sources whose bytecode is shared now.
    pub shared: usize,
}

/// The first bytes of what is written to it.
#[derive(Default)]
struct Start(Vec<u8>);

impl Write for Start {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let missing = ELF.len() - self.0.len();
        self.0.extend(bytes.iter().take(missing));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A catalog whose bytecode is to be compiled.
pub struct Compiler<'a> {
    /// The invocation.
    pub context: &'a Context,
    /// The catalog's file.
    pub catalog: &'a Path,
    /// The catalog.
    pub index: &'a Index,
}

impl Compiler<'_> {
    /// Compiles everything that is not shared yet.
    pub fn everything(&self) -> Result<Compiled, SessionError> {
        let held = self.lock()?;
        held.lock().tried("Cannot lock the bytecode")?;
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        self.compile(names::all(self.index), &[], workers)
    }

    /// Compiles what a run imported, from its `list`. If another process is compiling, this is left to a later run.
    pub fn imported(&self, list: impl BufRead) -> Result<(), SessionError> {
        let (mut wanted, mut confirmed) = (Vec::new(), Vec::new());
        for line in list.lines() {
            let line = line.tried("Cannot read what was imported")?;
            match line.split_once('\t') {
                Some(("compiled", path)) => wanted.extend(CacheName::parse(path)),
                Some(("confirmed", path)) => confirmed.push(path.to_owned()),
                _ => {}
            }
        }
        wanted.retain(|name| name.is_shared_by(self.index));
        let held = self.lock()?;
        if held.try_lock().is_err() {
            return Ok(());
        }
        self.compile(wanted, &confirmed, 1).map(drop)
    }

    fn lock(&self) -> Result<fs::File, SessionError> {
        if !has_python(self.index) {
            return Err(SessionError::State("The catalog has no bin/python3".into()));
        }
        lock::open_own(&self.pack().with_extension("lock")).tried("Cannot open the lock of the bytecode")
    }

    fn pack(&self) -> Place {
        pack_place(&self.context.home, self.index, effective_uid())
    }

    /// Compiles `wanted` with this many workers, and records `confirmed` imports: one worker after a run, several for everything.
    fn compile(
        &self,
        mut wanted: Vec<CacheName>,
        confirmed: &[String],
        workers: usize,
    ) -> Result<Compiled, SessionError> {
        let (place, id) = (self.pack(), self.index.id());
        pack::tidy(&place).tried("Cannot clean up the bytecode")?;
        if let Some(pack) = Pack::open(&place, id).tried("Cannot open the bytecode")? {
            let known: HashSet<&str> = pack.pieces.iter().map(|piece| &*piece.path).collect();
            wanted.retain(|name| !known.contains(&*name.path()));
        }
        let mut fresh = self.by_workers(&wanted, workers)?;
        self.name_origins(&mut fresh);
        let (compiled, left_out) = (fresh.len(), wanted.len() - fresh.len());
        let shared = pack::add(&place, id, fresh, confirmed).tried("Cannot write the bytecode")?;
        Ok(Compiled { compiled, left_out, shared })
    }

    /// Notes what each `.pyc` was made from, so that other catalogs can take it over.
    fn name_origins(&self, fresh: &mut [Fresh]) {
        let program = interpreter::program(self.index).filter(|file| self.is_machine_code(*file));
        let Some(interpreter) = program.and_then(|_| interpreter::identity(self.index)) else {
            return log::debug!("Other catalogs cannot take over the bytecode: its interpreter is not known");
        };
        for fresh in fresh {
            let name = CacheName::parse(&fresh.path);
            let origin = name.and_then(|name| interpreter::origin(&interpreter, &name, self.index));
            fresh.origin = origin.unwrap_or_default();
        }
    }

    /// False for scripts, which may start another program as the interpreter, and for what cannot be read.
    fn is_machine_code(&self, file: FileNode<'_>) -> bool {
        let mut start = Start::default();
        let read = Library::open(&self.context.home.library())
            .and_then(|library| library.stream(&file.digest, file.size, &mut start));
        read.inspect_err(|error| log::debug!("Cannot read the interpreter: {}", chain(error))).is_ok()
            && start.0 == ELF
    }

    /// Compiles `wanted` with this many interpreters in parallel; keeps the order.
    fn by_workers(&self, wanted: &[CacheName], workers: usize) -> Result<Vec<Fresh>, SessionError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let work = |share| {
            self.by_one(share, workers == 1, "--isolate").or_else(|why| {
                log::debug!("Cannot compile bytecode in a namespace: {}", chain(&why));
                self.by_one(share, workers == 1, "--read-only")
            })
        };
        let work = &work;
        let mut made = Vec::new();
        std::thread::scope(|scope| {
            let shares = wanted.chunks(wanted.len().div_ceil(workers.max(1)));
            let threads: Vec<_> = shares.map(|share| scope.spawn(move || work(share))).collect();
            for thread in threads {
                made.push(
                    thread
                        .join()
                        .unwrap_or_else(|_| Err(SessionError::State("A thread that compiles failed".into()))),
                );
            }
        });
        Ok(made.into_iter().collect::<Result<Vec<_>, SessionError>>()?.concat())
    }

    /// Compiles `wanted` with one interpreter of the catalog, in the view that the option `how` selects.
    fn by_one(&self, wanted: &[CacheName], imported: bool, how: &str) -> Result<Vec<Fresh>, SessionError> {
        let mut command = self.context.this_program()?;
        command.args([
            "run",
            "--no-bytecode",
            "--mode=mount",
            "--profile=off",
            how,
            "--controller",
            CONTROLLER,
        ]);
        command.arg(self.catalog).args([SPACE, "--", "python3", "-I", "-S", "-B", "-c", SCRIPT]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/");
        let mut child = command.spawn().tried("Cannot start a process to compile in")?;
        let asked = wanted.iter().map(|name| format!("{}\t{}\t{}\n", name.tag, name.level, name.source));
        let asked: String = asked.collect();
        let answers = speak(&mut child, &asked, |answers| read_answers(answers, wanted, imported));
        let status = child.wait().tried("Cannot wait for the process that compiles")?;
        if !status.success() {
            return Err(SessionError::State(format!("The process that compiles failed ({status})").into()));
        }
        answers
    }
}

fn has_python(index: &Index) -> bool {
    let child = |dir: Ino, name: &[u8]| index.lookup(dir, Name::new(name).ok()?);
    child(Ino::ROOT, b"bin").and_then(|bin| child(bin, b"python3")).is_some()
}

/// Writes all of `asked` while `read` reads the answers.
fn speak<T>(
    child: &mut Child,
    asked: &str,
    read: impl FnOnce(BufReader<ChildStdout>) -> Result<T, SessionError>,
) -> Result<T, SessionError> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let stdout = stdout.tried("A process was started without a pipe")?;
    std::thread::scope(|scope| {
        let said = scope.spawn(move || stdin.map_or(Ok(()), |mut stdin| stdin.write_all(asked.as_bytes())));
        let answer = read(BufReader::with_capacity(256 << 10, stdout));
        if let Ok(Err(error)) = said.join() {
            log::debug!("The compiling process did not read its input: {error}");
        }
        answer
    })
}

/// Accepts answers only for requested sources, and only bytecode that Python validates against its source.
fn read_answers(
    mut answers: impl BufRead,
    wanted: &[CacheName],
    imported: bool,
) -> Result<Vec<Fresh>, SessionError> {
    let mut asked = wanted.iter();
    let mut fresh = Vec::new();
    loop {
        let mut line = String::new();
        if answers.read_line(&mut line).tried("Cannot read compiled bytecode")? == 0 {
            return Ok(fresh);
        }
        let (name, size) =
            understand(&line, &mut asked).tried_with(|| format!("The compiling process sent {line:?}"))?;
        let mut bytes = Vec::new();
        answers.by_ref().take(size).read_to_end(&mut bytes).tried("Cannot read compiled bytecode")?;
        let whole = u64::try_from(bytes.len()) == Ok(size) && pack::is_checked(&bytes);
        if !whole {
            return Err(SessionError::State(format!("The bytecode of {} is incomplete", name.source).into()));
        }
        fresh.push(Fresh { path: name.path(), imported, origin: String::new(), bytes });
    }
}

/// The request in `asked` that a line answers; answers come in the same order.
fn understand<'n>(
    line: &str,
    asked: &mut impl Iterator<Item = &'n CacheName>,
) -> Option<(&'n CacheName, u64)> {
    let mut parts = line.strip_suffix('\n')?.split('\t');
    let (level, source, size) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
    let name = asked.find(|name| name.level == level && name.source == source)?;
    (size <= LONGEST && parts.next().is_none()).then_some((name, size))
}

/// Starts a background process that compiles what a run imported, for all spaces; not for fewer modules than `fewest`.
pub fn after_run(context: &Context, catalog: &str, seen: &Imported, fewest: usize) {
    let few = seen.compiled.len() + seen.confirmed.len() < fewest;
    if few || cfg!(windows) || context.cache_not_writable().is_some() {
        return;
    }
    if let Err(error) = start(context, catalog, seen) {
        log::debug!("Cannot compile bytecode for other spaces: {}", chain(&error));
    }
}

fn start(context: &Context, catalog: &str, seen: &Imported) -> Result<(), SessionError> {
    let (head, ..) = context.head(catalog)?;
    travel::announce(&pack_place(&context.home, &head, effective_uid()))?;
    let mut list = tempfile::tempfile_in(context.home.holofs())?;
    let compiled = seen.compiled.iter().map(|name| format!("compiled\t{}\n", name.path()));
    let confirmed = seen.confirmed.iter().map(|path| format!("confirmed\t{path}\n"));
    let lines: String = compiled.chain(confirmed).collect();
    list.write_all(lines.as_bytes())?;
    io::Seek::rewind(&mut list)?;
    let mut command = context.this_program()?;
    command.args(["warm", "--imported", "--"]).arg(fs::canonicalize(context.home.find_catalog(catalog)?)?);
    // Keep no pipe of the caller open, and no directory busy.
    command.stdin(list).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    let child = command.spawn()?;
    log::debug!("Process {} compiles {} sources for other spaces", child.id(), seen.compiled.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pyc(flags: u8) -> Vec<u8> {
        [&b"\x01\x02\x0d\x0a"[..], &[flags, 0, 0, 0], b"hashhash", b"code"].concat()
    }

    #[test]
    fn only_requested_bytecode_is_taken_and_only_if_python_compares_it() {
        let wanted: Vec<CacheName> = ["a.cpython-311.pyc", "b.cpython-311.opt-1.pyc", "c.cpython-311.pyc"]
            .iter()
            .filter_map(|path| CacheName::parse(path))
            .collect();
        let answer = |level: &str, source: &str, bytes: &[u8]| {
            [format!("{level}\t{source}\t{}\n", bytes.len()).as_bytes(), bytes].concat()
        };
        let good = [answer("", "a.py", &pyc(3)), answer("", "c.py", &pyc(3))].concat();
        let fresh = read_answers(&good[..], &wanted, true).unwrap();
        let paths: Vec<&str> = fresh.iter().map(|fresh| &*fresh.path).collect();
        assert_eq!(paths, ["a.cpython-311.pyc", "c.cpython-311.pyc"]);
        for bad in [
            answer("", "x.py", &pyc(3)),
            answer("1", "a.py", &pyc(3)),
            answer("", "a.py", &pyc(0)),
            answer("", "a.py", &pyc(1)),
            answer("", "a.py", &pyc(3))[..20].to_vec(),
            [answer("", "c.py", &pyc(3)), answer("", "a.py", &pyc(3))].concat(),
            format!("\ta.py\t{}\n", LONGEST + 1).into_bytes(),
        ] {
            assert!(read_answers(&bad[..], &wanted, true).is_err(), "{}", bad.escape_ascii());
        }
    }
}
