//! The JSON of a catalog exactly as it is on disk, parsed straight into the flat arena.
//!
//! As tolerant as RCC's reader (Go's `json.Decoder`): unknown fields are ignored, field names match in any case, `null` and absent
//! mean the default, and only the first JSON value of the file counts. Stricter where two readers could disagree: a duplicate field
//! or name is rejected, and so is an entry whose key and name differ.
//!
//! Recursion follows the nesting of the JSON, so a counter bounds it and it runs on a thread with a stack of [`STACK`] bytes. The path
//! of the current entry is kept next to the arena and only shortened on success, so that every error message can name the entry.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::error::{Flaw, Rule, shown};
use super::filemode::GoMode;
use super::inflate::{self, Json};
use super::{Dir, DirId, File, Header, MAX_DEPTH, MAX_ENTRIES, MAX_RELOCATIONS};
use crate::rcc::digest::Digest;
use crate::sys::fs::name::OwnedName;

/// The placeholder for a digest before the recorder has read the file.
pub(super) const NO_DIGEST: &str = "N/A";

/// Enough for four times [`MAX_DEPTH`] levels in a debug build. Untouched pages cost nothing.
const STACK: usize = 128 << 20;

/// Parses the bytes of a catalog file. Checks only what can be seen from one entry alone.
pub(super) fn parse(stored: &[u8]) -> Result<(Header, Vec<Dir>), Flaw> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("catalog".into()).stack_size(STACK);
        let running =
            thread.spawn_scoped(scope, || parse_here(stored)).map_err(|source| Flaw::Thread { source })?;
        running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn parse_here(stored: &[u8]) -> Result<(Header, Vec<Dir>), Flaw> {
    let encoding = inflate::encoding(stored)?;
    let mut builder = Builder::default();
    let parsed = match inflate::inflate(stored)? {
        Json::Whole(bytes) => builder.read(serde_json::de::SliceRead::new(&bytes)),
        Json::Stream(stream) => builder.read(serde_json::de::IoRead::new(stream)),
    };
    parsed
        .map(|header| (header, std::mem::take(&mut builder.dirs)))
        .map_err(|error| builder.explain(error, encoding))
}

/// The parser's state.
#[derive(Default)]
struct Builder {
    dirs: Vec<Dir>,
    /// The entry being read: every name with a `/` before it.
    path: String,
    /// How many directories, or levels of an unknown field, are open.
    depth: usize,
    entries: u64,
    relocations: u64,
    /// Why the visitor stopped, if the JSON was not the cause.
    flaw: Option<Flaw>,
}

impl Builder {
    fn read<'de, R: serde_json::de::Read<'de>>(&mut self, input: R) -> serde_json::Result<Header> {
        let mut deserializer = serde_json::Deserializer::new(input);
        deserializer.disable_recursion_limit();
        RootSeed(self).deserialize(&mut deserializer)
    }

    /// The flaw that caused an error of the deserializer.
    fn explain(&mut self, error: serde_json::Error, encoding: &'static str) -> Flaw {
        match self.flaw.take() {
            Some(flaw) => flaw,
            None if error.is_io() => Flaw::Inflate { encoding, source: error.into() },
            None => Flaw::Json { entry: self.entry(), source: error },
        }
    }

    fn entry(&self) -> String {
        if self.path.is_empty() { ".".to_owned() } else { shown(&self.path[1..]) }
    }

    fn refuse<E: de::Error>(&mut self, rule: impl Into<Rule>) -> E {
        let flaw = Flaw::Entry { entry: self.entry(), rule: rule.into() };
        self.give_up(flaw)
    }

    fn give_up<E: de::Error>(&mut self, flaw: Flaw) -> E {
        self.flaw = Some(flaw);
        E::custom("refused")
    }

    fn deeper<E: de::Error>(&mut self) -> Result<(), E> {
        // The root is at depth 0, so one more directory may be open than there are levels.
        if self.depth > MAX_DEPTH {
            return Err(self.refuse(Rule::TooDeep));
        }
        self.depth += 1;
        Ok(())
    }

    fn one_more_entry<E: de::Error>(&mut self) -> Result<(), E> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return Err(self.give_up(Flaw::TooLarge { what: "entries", limit: MAX_ENTRIES }));
        }
        Ok(())
    }

    fn one_more_relocation<E: de::Error>(&mut self) -> Result<(), E> {
        self.relocations += 1;
        if self.relocations > MAX_RELOCATIONS {
            return Err(self.give_up(Flaw::TooLarge { what: "relocations", limit: MAX_RELOCATIONS }));
        }
        Ok(())
    }

    /// The name of the most recently entered entry.
    fn name<E: de::Error>(&mut self, entered: Entered) -> Result<OwnedName, E> {
        OwnedName::new(&self.path.as_bytes()[entered.0 + 1..]).map_err(|bad| self.refuse(bad))
    }
}

/// The length of the path before an entry was entered.
#[derive(Clone, Copy)]
struct Entered(usize);

/// The members of an object with a fixed set of fields.
struct Fields {
    table: &'static [&'static str],
    seen: u16,
}

impl Fields {
    fn new(table: &'static [&'static str]) -> Fields {
        Fields { table, seen: 0 }
    }

    fn has(&self, field: &str) -> bool {
        self.table.iter().position(|&known| known == field).is_some_and(|index| self.seen & (1 << index) != 0)
    }

    /// The next field: its known name, or an empty one for an unknown field.
    fn next<'de, A: MapAccess<'de>>(
        &mut self,
        map: &mut A,
        builder: &mut Builder,
    ) -> Result<Option<&'static str>, A::Error> {
        let Some(found) = map.next_key_seed(FieldSeed(self.table))? else { return Ok(None) };
        let Some(index) = found else { return Ok(Some("")) };
        let field = self.table[index];
        if self.seen & (1 << index) != 0 {
            return Err(builder.refuse(Rule::DuplicateField { field }));
        }
        self.seen |= 1 << index;
        Ok(Some(field))
    }
}

/// Implements a seed that is its own visitor and deserializes only through `deserialize_$how`.
macro_rules! seed {
    ($type:ident $(<$life:lifetime>)?, $how:ident -> $value:ty, $expecting:literal, { $($methods:tt)* }) => {
        impl<'de $(, $life)?> DeserializeSeed<'de> for $type $(<$life>)? {
            type Value = $value;
            fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<$value, D::Error> {
                deserializer.$how(self)
            }
        }
        impl<'de $(, $life)?> Visitor<'de> for $type $(<$life>)? {
            type Value = $value;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($expecting)
            }
            $($methods)*
        }
    };
}

/// Which of the known fields a key is.
struct FieldSeed(&'static [&'static str]);

seed!(FieldSeed, deserialize_identifier -> Option<usize>, "a field", {
    fn visit_str<E: de::Error>(self, key: &str) -> Result<Option<usize>, E> {
        let exact = self.0.iter().position(|&known| known == key);
        Ok(exact.or_else(|| self.0.iter().position(|known| known.eq_ignore_ascii_case(key))))
    }
});

/// Reads the key of an entry into the path.
struct EnterSeed<'b>(&'b mut Builder);

seed!(EnterSeed<'b>, deserialize_str -> Entered, "a name", {
    fn visit_str<E: de::Error>(self, key: &str) -> Result<Entered, E> {
        let entered = Entered(self.0.path.len());
        self.0.path.push('/');
        self.0.path.push_str(key);
        self.0.one_more_entry()?;
        Ok(entered)
    }
});

/// Compares the field `name` with the key in the parent.
struct NameSeed<'b>(&'b mut Builder, Option<Entered>);

seed!(NameSeed<'b>, deserialize_str -> (), "a name", {
    fn visit_str<E: de::Error>(self, name: &str) -> Result<(), E> {
        let key = self.1.map(|entered| &self.0.path[entered.0 + 1..]);
        match key {
            Some(key) if key == name => Ok(()),
            Some(_) => Err(self.0.refuse(Rule::OtherName { name: shown(name) })),
            None if name.is_empty() => Ok(()),
            None => Err(self.0.refuse(Rule::Root)),
        }
    }
});

struct DigestSeed<'b>(&'b mut Builder);

seed!(DigestSeed<'b>, deserialize_str -> Option<Digest>, "a digest", {
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Option<Digest>, E> {
        if text == NO_DIGEST {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|bad| self.0.refuse(Rule::Digest(bad)))
    }
});

struct RewriteSeed<'b>(&'b mut Builder);

seed!(RewriteSeed<'b>, deserialize_any -> Vec<u64>, "a list of offsets", {
    fn visit_unit<E: de::Error>(self) -> Result<Vec<u64>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<u64>, A::Error> {
        let mut offsets = Vec::new();
        while let Some(offset) = list.next_element::<i64>()? {
            self.0.one_more_relocation()?;
            let positive = u64::try_from(offset);
            offsets.push(positive.map_err(|_| {
                self.0.refuse(Rule::Relocation { offset: offset.into(), size: 0 })
            })?);
        }
        Ok(offsets)
    }
});

/// A value of an unknown field. serde_json would skip it without recursion, but also without a limit.
struct UnknownSeed<'b>(&'b mut Builder);

seed!(UnknownSeed<'b>, deserialize_any -> (), "a value", {
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.0.deeper()?;
        while list.next_element_seed(UnknownSeed(self.0))?.is_some() {}
        self.0.depth -= 1;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.deeper()?;
        while map.next_key::<de::IgnoredAny>()?.is_some() {
            map.next_value_seed(UnknownSeed(self.0))?;
        }
        self.0.depth -= 1;
        Ok(())
    }
});

struct RootSeed<'b>(&'b mut Builder);

const ROOT_FIELDS: &[&str] =
    &["rcc", "identity", "path", "controller", "space", "platform", "blueprint", "lifted", "tree"];

seed!(RootSeed<'b>, deserialize_map -> Header, "a catalog", {
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let builder = self.0;
        let mut header = Header::default();
        let mut fields = Fields::new(ROOT_FIELDS);
        while let Some(field) = fields.next(&mut map, builder)? {
            match field {
                "rcc" => header.rcc = text(&mut map)?,
                "identity" => header.identity = text(&mut map)?,
                "path" => header.path = text(&mut map)?,
                "controller" => header.controller = text(&mut map)?,
                "space" => header.space = text(&mut map)?,
                "platform" => header.platform = text(&mut map)?,
                "blueprint" => header.blueprint = text(&mut map)?,
                "lifted" => header.lifted = map.next_value::<Option<bool>>()?.unwrap_or_default(),
                "tree" => map.next_value_seed(DirSeed { builder, parent: None }).map(drop)?,
                _ => map.next_value_seed(UnknownSeed(builder))?,
            }
        }
        if !fields.has("tree") {
            return Err(de::Error::missing_field("tree"));
        }
        Ok(header)
    }
});

fn text<'de, A: MapAccess<'de>>(map: &mut A) -> Result<String, A::Error> {
    map.next_value::<Option<String>>().map(Option::unwrap_or_default)
}

fn symlink<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Box<str>>, A::Error> {
    let text = map.next_value::<Option<Box<str>>>()?;
    Ok(text.filter(|text| !text.is_empty()))
}

fn mode<'de, A: MapAccess<'de>>(map: &mut A) -> Result<GoMode, A::Error> {
    map.next_value::<Option<u32>>().map(|mode| GoMode(mode.unwrap_or_default()))
}

/// A directory; for all but the root, with its parent and where its name starts.
struct DirSeed<'b> {
    builder: &'b mut Builder,
    parent: Option<(DirId, Entered)>,
}

const DIR_FIELDS: &[&str] = &["name", "symlink", "mode", "subdirs", "files", "shadow"];

seed!(DirSeed<'b>, deserialize_map -> DirId, "a directory", {
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DirId, A::Error> {
        let DirSeed { builder, parent } = self;
        builder.deeper()?;
        let id = DirId(builder.dirs.len() as u32);
        let name = parent.map(|(_, entered)| builder.name(entered)).transpose()?;
        let (parent, entered) = parent.unzip();
        let (subdirs, files) = (Vec::new(), Vec::new());
        builder.dirs.push(Dir { name, parent, symlink: None, mode: GoMode(0), shadow: false, subdirs, files });
        let mut fields = Fields::new(DIR_FIELDS);
        while let Some(field) = fields.next(&mut map, builder)? {
            match field {
                "name" => map.next_value_seed(NameSeed(builder, entered))?,
                "symlink" => builder.dirs[id.index()].symlink = symlink(&mut map)?,
                "mode" => builder.dirs[id.index()].mode = mode(&mut map)?,
                "subdirs" => {
                    let subdirs = map.next_value_seed(SubdirsSeed(builder, id))?;
                    builder.dirs[id.index()].subdirs = subdirs;
                }
                "files" => {
                    let files = map.next_value_seed(FilesSeed(builder))?;
                    builder.dirs[id.index()].files = files;
                }
                "shadow" => {
                    builder.dirs[id.index()].shadow = map.next_value::<Option<bool>>()?.unwrap_or_default();
                }
                _ => map.next_value_seed(UnknownSeed(builder))?,
            }
        }
        if entered.is_some() && !fields.has("name") {
            return Err(builder.refuse(Rule::OtherName { name: String::new() }));
        }
        builder.depth -= 1;
        Ok(id)
    }
});

struct SubdirsSeed<'b>(&'b mut Builder, DirId);

seed!(SubdirsSeed<'b>, deserialize_any -> Vec<DirId>, "an object of directories", {
    fn visit_unit<E>(self) -> Result<Vec<DirId>, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<DirId>, A::Error> {
        let SubdirsSeed(builder, id) = self;
        let mut subdirs = Vec::new();
        while let Some(entered) = map.next_key_seed(EnterSeed(builder))? {
            subdirs.push(map.next_value_seed(DirSeed { builder, parent: Some((id, entered)) })?);
            builder.path.truncate(entered.0);
        }
        // RCC writes them sorted; duplicates stay adjacent for `validate`.
        let name = |id: &DirId| builder.dirs[id.index()].name.as_ref();
        if !subdirs.is_sorted_by_key(name) {
            subdirs.sort_by_key(|id| builder.dirs[id.index()].name.clone());
        }
        Ok(subdirs)
    }
});

struct FilesSeed<'b>(&'b mut Builder);

seed!(FilesSeed<'b>, deserialize_any -> Vec<File>, "an object of files", {
    fn visit_unit<E>(self) -> Result<Vec<File>, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<File>, A::Error> {
        let mut files: Vec<File> = Vec::new();
        while let Some(entered) = map.next_key_seed(EnterSeed(self.0))? {
            files.push(map.next_value_seed(FileSeed(self.0, entered))?);
            self.0.path.truncate(entered.0);
        }
        if !files.is_sorted_by(|left, right| left.name <= right.name) {
            files.sort_by(|left, right| left.name.cmp(&right.name));
        }
        Ok(files)
    }
});

struct FileSeed<'b>(&'b mut Builder, Entered);

const FILE_FIELDS: &[&str] = &["name", "symlink", "size", "mode", "digest", "rewrite"];

seed!(FileSeed<'b>, deserialize_map -> File, "a file", {
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<File, A::Error> {
        let FileSeed(builder, entered) = self;
        let name = builder.name(entered)?;
        let mut file = File { name, symlink: None, size: 0, mode: GoMode(0), digest: None, rewrite: Vec::new() };
        let mut fields = Fields::new(FILE_FIELDS);
        while let Some(field) = fields.next(&mut map, builder)? {
            match field {
                "name" => map.next_value_seed(NameSeed(builder, Some(entered)))?,
                "symlink" => file.symlink = symlink(&mut map)?,
                "size" => {
                    let size = map.next_value::<Option<i64>>()?.unwrap_or_default();
                    let positive = u64::try_from(size);
                    file.size = positive.map_err(|_| builder.refuse(Rule::Size { size: size.into() }))?;
                }
                "mode" => file.mode = mode(&mut map)?,
                "digest" => file.digest = map.next_value_seed(DigestSeed(builder))?,
                "rewrite" => file.rewrite = map.next_value_seed(RewriteSeed(builder))?,
                _ => map.next_value_seed(UnknownSeed(builder))?,
            }
        }
        if !fields.has("name") {
            return Err(builder.refuse(Rule::OtherName { name: String::new() }));
        }
        Ok(file)
    }
});
