//! Items as the text of the header: contents, sections, comments, initialisers.

use std::collections::HashSet;

use framefd::ErrorKind;

use crate::items::Item;
use crate::sections::{APPENDIX, CONVENTIONS, SECTIONS, Section};

/// The length of the longest line.
const WIDTH: usize = 95;

pub fn header(sections: &[Vec<Item>]) -> String {
    let mut text = String::from(CONVENTIONS[0]);
    text += &contents(sections);
    text += CONVENTIONS[1];
    text += "#ifndef FRAMEFD_H\n#define FRAMEFD_H\n\n#include <stdbool.h>\n#include <stddef.h>\n\
             #include <stdint.h>\n\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n";
    let mut declared = HashSet::new();
    for (number, (section, items)) in SECTIONS.iter().zip(sections).enumerate() {
        text += &title(number + 1, section);
        let mut after_constant = false;
        for item in items {
            if !(after_constant && item.is_constant()) {
                text.push('\n');
            }
            after_constant = item.is_constant();
            text += &forward_declarations(item, sections, &mut declared);
            text += &print(item);
        }
    }
    text += &title(SECTIONS.len() + 1, &APPENDIX);
    text.push('\n');
    for kind in ErrorKind::ALL {
        let meaning = kind.meaning().lines().map(|line| line.trim().to_owned()).collect();
        text += &comment(meaning, "");
        text += &format!("#define {} ({})\n", kind.c_name(), kind.code());
    }
    text + "\n#ifdef __cplusplus\n} /* extern \"C\" */\n#endif\n\n#endif /* FRAMEFD_H */\n"
}

/// A line for each section: its number, what it is about, how many functions it has.
fn contents(sections: &[Vec<Item>]) -> String {
    let counts = sections.iter().map(|items| items.iter().filter(|i| i.is_function()).count());
    let mut text = String::new();
    let mut all = 0;
    let table = SECTIONS.iter().chain([&APPENDIX]).zip(counts.chain([0]));
    for (number, (Section { title, about, .. }, count)) in table.enumerate() {
        let shown = if count == 0 { String::new() } else { count.to_string() };
        text += format!(" *  {:>2}  {title:<22}{about:<50}{shown:>3}", number + 1).trim_end();
        text.push('\n');
        all += count;
    }
    text + &format!(" *{:>79} functions\n", format!("in all {all}"))
}

/// A line across the page, then what is typical of the section.
fn title(number: usize, section: &Section) -> String {
    let name = format!(" {number}  {} ====== */", section.title);
    let mut text = format!("\n/* {:=>1$}\n", name, WIDTH - 3);
    if !section.usage.is_empty() {
        let lines: Vec<String> =
            section.usage.trim_matches('\n').lines().map(str::to_owned).collect();
        text += &comment(lines, "");
    }
    text
}

/// The structs that an item names before they were declared.
fn forward_declarations(
    item: &Item,
    sections: &[Vec<Item>],
    declared: &mut HashSet<String>,
) -> String {
    let mut text = String::new();
    if item.is_struct() {
        declared.insert(item.name.clone());
    }
    let code = item.code.iter().filter(|line| !is_comment(line));
    for name in code.flat_map(|line| line.split("struct ").skip(1)) {
        let name = name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
        if declared.insert(name.to_owned()) {
            let is_here =
                |items: &Vec<Item>| items.iter().any(|item| item.is_struct() && item.name == name);
            let number = sections.iter().position(is_here).map_or(0, |at| at + 1);
            text += &format!("struct {name}; /* section {number} */\n");
        }
    }
    text
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with(['/', '*'])
}

fn print(item: &Item) -> String {
    let mut text = comment(item.comment.clone(), "");
    if item.has_members() {
        text += &members(item);
        text += &initialiser(item);
    } else if item.is_constant() {
        text += &constant(&item.code[0]);
    } else {
        text += &wrap(&item.code[0]);
    }
    text
}

/// `#define NAME (-1)`: a negative number in parentheses.
fn constant(line: &str) -> String {
    match line.rsplit_once(' ') {
        Some((start, value)) if value.starts_with('-') => format!("{start} ({value})\n"),
        _ => format!("{line}\n"),
    }
}

/// The lines of a comment, with the least that the compiler needs around them.
fn comment(mut lines: Vec<String>, indent: &str) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut last = lines.pop().unwrap();
    last += " */";
    lines.push(last);
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let start = if number == 0 { "/*" } else { " *" };
        text += format!("{indent}{start} {line}").trim_end();
        text.push('\n');
    }
    text
}

/// A struct: cbindgen's comments are made as short as the others.
fn members(item: &Item) -> String {
    let mut text = String::new();
    let mut lines = item.code.iter();
    while let Some(line) = lines.next() {
        if line.trim() == "/**" {
            let inner = lines.by_ref().take_while(|line| line.trim() != "*/");
            let inner = inner.map(|line| line.trim_start_matches([' ', '*']).to_owned());
            text += &comment(inner.collect(), "    ");
        } else {
            text += &wrap(line);
        }
    }
    text
}

/// The macro that sets the size and makes all else 0, for a struct that the caller makes.
fn initialiser(item: &Item) -> String {
    let members: Vec<&String> =
        item.code.iter().filter(|line| line.starts_with("    ") && !is_comment(line)).collect();
    if members[0] != "    uint32_t size;" || item.name.ends_with("_inquiry") {
        return String::new();
    }
    let macro_name = item.name.to_uppercase() + "_INIT";
    let mut text = format!("#define {macro_name} {{ sizeof(struct {})", item.name);
    let mut column = text.len();
    for member in &members[1..] {
        let zero = match member {
            array if array.contains('[') => ", { 0 }",
            pointer if pointer.contains('*') => ", NULL",
            _ => ", 0",
        };
        if column + zero.len() > WIDTH - " }, \\".len() {
            text += ", \\\n   ";
            column = 3;
            text += &zero[1..];
        } else {
            text += zero;
        }
        column += zero.len();
    }
    text + " }\n"
}

/// A declaration whose parameters are spread over as many lines as they need.
fn wrap(line: &str) -> String {
    if line.len() <= WIDTH {
        return format!("{line}\n");
    }
    let open = match line.find(")(") {
        // A member that is a function; not a function with one as parameter.
        Some(at) if line.find('(') == line.find("(*") => at + 2,
        _ => line.find('(').unwrap_or_else(|| panic!("too long: {line}")) + 1,
    };
    let (mut text, parameters) = (line[..open].to_owned(), split_parameters(&line[open..]));
    let mut column = text.len();
    for (number, parameter) in parameters.iter().enumerate() {
        if number > 0 && column + 1 + parameter.len() > WIDTH {
            text += &format!("\n{:open$}", "");
            column = open;
        } else if number > 0 {
            text.push(' ');
            column += 1;
        }
        let inner = parameter.find(")(").map_or(0, |at| at + 2);
        if open + parameter.len() > WIDTH && inner > 0 {
            // A parameter that is a function has its own parameters below each other.
            let below = format!(",\n{:1$}", "", open + inner);
            text += &parameter[..inner];
            text += &parameter[inner..].trim_end_matches(',').replace(", ", &below);
            text += if parameter.ends_with(',') { "," } else { "" };
            column = WIDTH;
            continue;
        }
        text += parameter;
        column += parameter.len();
    }
    text + "\n"
}

/// Each with the comma behind it; commas of a function pointer's own do not count.
fn split_parameters(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                found.push(text[start..=at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(text[start..].trim());
    found
}
