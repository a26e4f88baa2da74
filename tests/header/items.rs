//! What src/ffi has for the header, as cbindgen prints it: one item for each constant, struct
//! and function, each put into its section.

use std::collections::HashMap;
use std::fs;

use crate::parameters;
use crate::sections::SECTIONS;

/// Whether it is a struct, and its name in C: a struct and a function may have the same.
type Key = (bool, String);

/// A constant, a struct or a function of the header.
pub struct Item {
    pub name: String,
    /// The lines of its comment.
    pub comment: Vec<String>,
    /// What the compiler reads: one line, but for a struct one for each member and comment.
    pub code: Vec<String>,
}

impl Item {
    /// Whether it is a struct whose members are public.
    pub fn has_members(&self) -> bool {
        self.code.len() > 1
    }

    /// The name of each public member, and its comment.
    pub fn member_comments(&self) -> Vec<(String, String)> {
        let (mut found, mut comment) = (Vec::new(), String::new());
        for line in self.code.iter().filter(|line| line.starts_with("    ")) {
            match line.trim_start().strip_prefix(['/', '*']) {
                Some(words) => comment += &format!(" {}", words.trim_start_matches('*').trim()),
                None => found.push((member_name(line), std::mem::take(&mut comment))),
            }
        }
        found
    }

    pub fn is_struct(&self) -> bool {
        self.code[0].starts_with("struct ") && !self.code[0].contains('(')
    }

    pub fn is_function(&self) -> bool {
        !self.is_constant() && !self.is_struct()
    }

    pub fn is_constant(&self) -> bool {
        self.code[0].starts_with("#define ")
    }
}

/// `uint32_t size;`, `char sha256[72];`, `int (*progress)(void *context, ...);`
fn member_name(member: &str) -> String {
    let name = match member.split_once("(*") {
        Some((_, rest)) => rest.split(')').next().unwrap(),
        None => member.trim_end_matches(';').split('[').next().unwrap(),
    };
    name.rsplit([' ', '*']).next().unwrap().to_owned()
}

/// The items of each section, in the order of their sources.
pub fn read() -> Vec<Vec<Item>> {
    let sources: Vec<Source> = file_names().into_iter().map(Source::read).collect();
    let mut found = generated(&sources);
    let sections = SECTIONS
        .iter()
        .map(|section| {
            let entries = section.sources.iter().map(|entry| Entry::parse(entry));
            let names = entries.flat_map(|entry| entry.names(&sources));
            names.filter_map(|key| found.remove(&key)).collect()
        })
        .collect();
    let left: Vec<&Key> = found.keys().collect();
    assert!(left.is_empty(), "in no section of tests/header/sections.rs: {left:?}");
    sections
}

/// One entry of a section's sources: a file, and the patterns of the names that it takes. An
/// entry without patterns takes what no other entry takes.
struct Entry {
    file: &'static str,
    patterns: Vec<&'static str>,
}

impl Entry {
    fn parse(text: &'static str) -> Entry {
        let (file, patterns) = text.split_once(": ").unwrap_or((text, ""));
        Entry { file, patterns: patterns.split_whitespace().collect() }
    }

    fn names(&self, sources: &[Source]) -> Vec<Key> {
        let source = sources.iter().find(|source| source.file == self.file).unwrap();
        let names = source.items.iter().map(|(_, key)| key);
        for pattern in &self.patterns {
            let used = names.clone().any(|(_, name)| matches(name, pattern));
            assert!(used, "sections.rs: {} has no {pattern}", self.file);
        }
        let taken = |(_, name): &Key| match self.patterns.as_slice() {
            [] => !patterns_of(self.file).iter().any(|pattern| matches(name, pattern)),
            mine => mine.iter().any(|pattern| matches(name, pattern)),
        };
        names.filter(|key| taken(key)).cloned().collect()
    }
}

/// All patterns that some section has for a file.
fn patterns_of(file: &str) -> Vec<&'static str> {
    let entries = SECTIONS.iter().flat_map(|section| section.sources).copied().map(Entry::parse);
    entries.filter(|entry| entry.file == file).flat_map(|entry| entry.patterns).collect()
}

fn matches(name: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |prefix| name.starts_with(prefix))
}

/// A file of src/ffi with the names of its public items in their order, in Rust and in C.
struct Source {
    file: &'static str,
    items: Vec<(String, Key)>,
}

impl Source {
    fn read(file: &'static str) -> Source {
        let path = path(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let shipped = text.split("#[cfg(test)]").next().unwrap();
        Source { file, items: shipped.lines().filter_map(item_of).collect() }
    }
}

/// The constant, struct or function that a line begins: its name in Rust, and its key.
fn item_of(line: &str) -> Option<(String, Key)> {
    let starts = ["const ", "struct ", "unsafe extern \"C\" fn ", "extern \"C\" fn "];
    let rest = line.strip_prefix("pub ")?;
    let (start, rest) = starts.iter().find_map(|s| Some((s, rest.strip_prefix(s)?)))?;
    let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    Some((name.to_owned(), (*start == "struct ", c_name(name))))
}

/// `FrameOptions` is `frame_options` in C, unless cbindgen.toml has another name.
fn c_name(rust: &str) -> String {
    let config = cbindgen::Config::from_root_or_default(crate::root());
    if let Some(name) = config.export.rename.get(rust) {
        return name.clone();
    }
    if !rust.starts_with(char::is_uppercase) || !rust.contains(char::is_lowercase) {
        return rust.to_owned();
    }
    let mut name = String::new();
    for letter in rust.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

fn file_names() -> Vec<&'static str> {
    let entries = SECTIONS.iter().flat_map(|section| section.sources).copied();
    let mut files: Vec<&str> = entries.map(|entry| Entry::parse(entry).file).collect();
    files.sort_unstable();
    files.dedup();
    files
}

fn path(file: &str) -> std::path::PathBuf {
    crate::root().join("src/ffi").join(format!("{file}.rs"))
}

/// All items by their names, as cbindgen prints them.
fn generated(sources: &[Source]) -> HashMap<Key, Item> {
    let mut config = cbindgen::Config::from_root_or_default(crate::root());
    for (rust, (is_struct, c)) in sources.iter().flat_map(|source| &source.items).cloned() {
        if is_struct {
            config.export.rename.insert(rust, c);
        }
    }
    let mut builder = cbindgen::Builder::new().with_config(config);
    let scratch = tempfile::tempdir().unwrap();
    for source in sources {
        let copy = scratch.path().join(source.file.replace('/', "_") + ".rs");
        let text = fs::read_to_string(path(source.file)).unwrap();
        fs::write(&copy, parameters::as_c(&text)).unwrap();
        builder = builder.with_src(copy);
    }
    let mut text = Vec::new();
    builder.generate().expect("cbindgen reads src/ffi").write(&mut text);
    let text = String::from_utf8(text).unwrap();
    let items = text.split("\n\n").filter(|item| !item.trim().is_empty()).map(parse);
    items.map(|item| ((item.is_struct(), item.name.clone()), item)).collect()
}

fn parse(text: &str) -> Item {
    let mut lines = text.lines().map(str::to_owned).filter(|line| !line.is_empty()).peekable();
    let mut comment = Vec::new();
    if lines.next_if(|line| line == "/**").is_some() {
        while let Some(line) = lines.next_if(|line| line != " */") {
            comment.push(line.trim_start_matches([' ', '*']).to_owned());
        }
        lines.next();
    }
    let code: Vec<String> = lines.collect();
    let name = match code[0].strip_prefix("#define ").or(code[0].strip_prefix("struct ")) {
        Some(rest) if !code[0].contains('(') => rest.split([' ', ';']).next(),
        _ => code[0].split('(').next().unwrap().rsplit([' ', '*']).next(),
    };
    Item { name: name.unwrap().to_owned(), comment, code }
}
