//! Names of received files: a stranger proposes, we decide.

/// Length of a name that we give a file. It leaves room within the 255 bytes of common file systems
/// for ` (9999)`, `.gimlet-part` and `.json`. Bytes.
pub(crate) const NAME_MAX: usize = 220;

/// What a partial file is called while it grows.
pub(crate) const PART_SUFFIX: &str = ".gimlet-part";

/// How many numbers are tried to find a free name; beyond, receiving fails.
const NUMBERS_MAX: u32 = 9_999;

/// Extensions longer than this are part of the stem when a name is shortened. Bytes.
const EXTENSION_MAX: usize = 20;

/// Device names that Windows reserves in every folder, whatever the extension.
const RESERVED: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];

/// Makes a name for a new file in our folder out of whatever was proposed. It names no other folder
/// and no device, hides nothing and shows no control characters.
pub(crate) fn sanitized(proposed: &str) -> String {
    let base = proposed.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name: String = base.chars().map(|letter| if is_legible(letter) { letter } else { '_' }).collect();
    shorten(&mut name);
    let kept = name.trim_end_matches(['.', ' ']).len();
    name.truncate(kept);
    if name.trim().is_empty() {
        return "unnamed".into();
    }
    // A leading dot hides the file, and could configure a shell; a leading dash looks like an option.
    if name.starts_with(['.', '-', ' ']) {
        name.replace_range(..1, "_");
    }
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    let device = stem.trim_end_matches(|letter: char| letter.is_ascii_digit());
    if RESERVED.contains(&device) && stem.len() <= device.len() + 1 {
        name.insert(0, '_');
    }
    // It would be taken for the rest of an interrupted transfer.
    if name.contains(PART_SUFFIX) {
        name = name.replace(PART_SUFFIX, "_gimlet-part");
    }
    name
}

/// The name, then `stem (1).ext`, `stem (2).ext` and so on.
pub(crate) fn numbered(name: &str) -> impl Iterator<Item = String> {
    let (stem, extension) = split_extension(name);
    (0..=NUMBERS_MAX).map(move |number| match number {
        0 => format!("{stem}{extension}"),
        number => format!("{stem} ({number}){extension}"),
    })
}

/// Text from a peer as it may appear on a terminal: no control characters, so no escape sequences.
pub(crate) fn legible(text: &str) -> String {
    text.chars()
        .map(|letter| if is_shown(letter) || letter == '\n' || letter == '\t' { letter } else { '\u{fffd}' })
        .collect()
}

/// Whether a character may be part of a file's name everywhere.
fn is_legible(letter: char) -> bool {
    is_shown(letter) && !matches!(letter, ':' | '*' | '?' | '"' | '<' | '>' | '|')
}

/// Neither a control character nor one that changes the direction of the text around it.
fn is_shown(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cuts the stem, not the extension.
fn shorten(name: &mut String) {
    // One byte is left for the underscore that a reserved name gets.
    let limit = NAME_MAX - 1;
    if name.len() <= limit {
        return;
    }
    let (stem, extension) = split_extension(name);
    let room = limit - extension.len();
    let cut = (0..=room).rev().find(|at| stem.is_char_boundary(*at)).unwrap_or_default();
    *name = format!("{}{extension}", &stem[..cut]);
}

/// `("a.tar", ".gz")`; a name that begins with its only dot has no extension.
fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= EXTENSION_MAX => name.split_at(at),
        _ => (name, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_cannot_leave_the_folder_hide_or_imitate() {
        for (proposed, given) in [
            ("report.pdf", "report.pdf"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Users\\x\\a.txt", "a.txt"),
            ("..", "unnamed"),
            ("", "unnamed"),
            ("/", "unnamed"),
            (".bashrc", "_bashrc"),
            ("-rf", "_rf"),
            ("a\u{202e}fdp.exe", "a_fdp.exe"),
            ("a\nb", "a_b"),
            ("CON.txt", "_CON.txt"),
            ("com1", "_com1"),
            ("command.txt", "command.txt"),
            ("x.gimlet-part", "x_gimlet-part"),
            ("trailing. . ", "trailing"),
        ] {
            assert_eq!(sanitized(proposed), given, "{proposed:?}");
        }
    }

    #[test]
    fn a_long_name_keeps_its_extension() {
        let name = sanitized(&format!("{}.tar.gz", "ä".repeat(400)));
        assert!(
            name.strip_suffix(".gz").is_some() && name.len() < NAME_MAX && name.len() > NAME_MAX - 5,
            "{}",
            name.len()
        );
    }

    #[test]
    fn numbers_go_before_the_extension() {
        let names: Vec<String> = numbered("a.tar.gz").take(3).collect();
        assert_eq!(names, ["a.tar.gz", "a.tar (1).gz", "a.tar (2).gz"]);
        assert_eq!(numbered("README").nth(1).unwrap(), "README (1)");
    }

    #[test]
    fn text_for_the_terminal_has_no_escape_sequences() {
        assert_eq!(legible("a\u{1b}[31mb\r\n\tc"), "a\u{fffd}[31mb\u{fffd}\n\tc");
    }

    proptest! {
        #[test]
        fn whatever_is_proposed_the_name_is_harmless(proposed in any::<String>(), dots in "[./\\\\ ~:]{0,4}") {
            let name = sanitized(&format!("{dots}{proposed}{dots}"));
            prop_assert!(!name.is_empty() && name.len() <= NAME_MAX);
            prop_assert!(!name.contains(['/', '\\', '\0']) && !name.starts_with(['.', '-', ' ']));
            prop_assert!(!name.chars().any(char::is_control));
            prop_assert!(!name.ends_with(['.', ' ']) && !name.contains(PART_SUFFIX));
            let joined = std::path::Path::new("folder").join(&name);
            prop_assert_eq!(joined.parent(), Some(std::path::Path::new("folder")));
        }

        #[test]
        fn a_decided_name_stays_as_it_is(proposed in any::<String>()) {
            let name = sanitized(&proposed);
            prop_assert_eq!(sanitized(&name), name);
        }
    }
}
