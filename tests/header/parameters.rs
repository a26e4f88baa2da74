//! The parameters of src/ffi/boundary/parameters.rs, as the C types that they stand for.

/// Types without and with a parameter of their own, each with its type in C.
const PLAIN: &[(&str, &str)] = &[
    ("Fd", "c_int"),
    ("Text", "*const c_char"),
    ("TextRoom", "*mut c_char"),
    ("Texts", "*const *const c_char"),
    ("Bytes", "*const c_void"),
    ("Room", "*mut c_void"),
];
const POINTERS: &[(&str, &str)] = &[
    ("Ref", "*const "),
    ("Options", "*const "),
    ("Mut", "*mut "),
    ("Handle", "*mut "),
    ("Value", "*mut "),
    ("Array", "*mut "),
    ("Results", "*mut "),
    ("Out", "*mut *mut "),
];

/// A source of src/ffi, with the parameters of its C functions as cbindgen knows them.
pub fn as_c(source: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some(at) = rest.find("extern \"C\" fn ") {
        let (before, signature) = rest.split_at(at);
        let end = signature.find('{').unwrap_or(signature.len());
        out += before;
        out += &signature[..end].split_inclusive([',', ')']).map(parameter).collect::<String>();
        rest = &signature[end..];
    }
    out + rest
}

/// One parameter, with what ends it.
fn parameter(text: &str) -> String {
    let Some((name, rest)) = text.rsplit_once(": ") else { return text.to_owned() };
    let length = rest.trim_end_matches(|c: char| c == ',' || c == ')' || c.is_whitespace()).len();
    let (kind, end) = rest.split_at(length);
    if let Some((_, c)) = PLAIN.iter().find(|(rust, _)| *rust == kind) {
        return format!("{name}: {c}{end}");
    }
    let pointer = kind.strip_suffix('>').and_then(|kind| kind.split_once('<'));
    match pointer.and_then(|(rust, to)| Some((POINTERS.iter().find(|(r, _)| *r == rust)?.1, to))) {
        Some((c, to)) => format!("{name}: {c}{to}{end}"),
        None => text.to_owned(),
    }
}
