//! Phone numbers in text, as Brazilians and others write them.
//!
//! A run of digits is a phone where its groups say so: a country's code, an area's code, the lengths of what follows.
//! Dates, offsets, postal codes and other numbers are none. What can't be told from a number is left alone: eight
//! digits without an area code, unless what stands before them says what they are.

/// Digits of the longest number there is, with its prefix: 15 and `00`.
const MAX_DIGITS: usize = 17;

/// Digits of a number without its area code.
pub(super) const MIN_DIGITS: usize = 8;

/// Groups of digits that numbers are written in at most.
const MAX_GROUPS: usize = 7;

/// The bytes of the phone number that a run of digits and separators begins with.
pub(super) fn leading(run: &str) -> Option<usize> {
    let groups = groups(run);
    // What follows a number may be another one: "11 91234-5678 2 filhos".
    (1..=groups.len()).rev().find(|count| is_phone(run, &groups[..*count])).map(|count| {
        let last = &groups[count - 1];
        last.start + last.digits.len()
    })
}

/// The bytes of the number at the beginning of a run that stands beside a phone's name: it need not have an area's code.
pub(super) fn of_a_phone(run: &str) -> Option<usize> {
    leading(run).or_else(|| {
        let mut digits = 0;
        let ends = groups(run).into_iter().map(|group| {
            digits += group.digits.len();
            (digits, group.start + group.digits.len())
        });
        ends.into_iter()
            .find(|(digits, _)| *digits >= MIN_DIGITS)
            .filter(|(digits, _)| *digits <= 9)
            .map(|(_, end)| end)
    })
}

/// A whole text that is nothing but a number: also without separators, as forms and columns of numbers give it.
pub(super) fn is_whole(text: &str) -> bool {
    let text = text.trim();
    looks_like(text)
        && (leading(text) == Some(text.len())
            || (text.bytes().all(|byte| byte.is_ascii_digit())
                && national(text.strip_prefix("55").filter(|_| text.len() > 11).unwrap_or(text))))
}

/// Whether a number may be a phone; one of a field that holds phones need not have an area's code.
pub(super) fn is_number(digits: &str, of_a_phone: bool) -> bool {
    is_whole(digits)
        || (of_a_phone && digits.len() >= MIN_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a text has the digits of a phone number and nothing that a number has not.
pub(super) fn looks_like(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    (7..=MAX_DIGITS).contains(&digits)
        && text.chars().all(|c| c.is_ascii_digit() || is_separator(c) || c == '+')
}

pub(super) fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '\t' | '.' | '-' | '(' | ')' | '/' | '\u{a0}' | '\u{202f}' | '\u{2010}'..='\u{2015}')
}

struct Group<'a> {
    start: usize,
    digits: &'a str,
}

fn groups(run: &str) -> Vec<Group<'_>> {
    let mut groups = Vec::new();
    let mut at = 0;
    while groups.len() < MAX_GROUPS
        && let Some(start) = run[at..].find(|c: char| c.is_ascii_digit()).map(|found| at + found)
    {
        let rest = &run[start..];
        let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        groups.push(Group { start, digits: &rest[..length] });
        at = start + length;
    }
    groups
}

fn is_phone(run: &str, groups: &[Group<'_>]) -> bool {
    let [first, .., last] = groups else {
        return groups.first().is_some_and(|only| alone(&run[..only.start], only.digits));
    };
    let length: usize = groups.iter().map(|group| group.digits.len()).sum();
    if !(MIN_DIGITS..=MAX_DIGITS).contains(&length) {
        return false;
    }
    let digits: String = groups.iter().map(|group| group.digits).collect();
    let texts: Vec<&str> = groups.iter().map(|group| group.digits).collect();
    if run.trim_start_matches('(').starts_with('+') {
        return is_international(&digits);
    }
    if let Some(international) = digits.strip_prefix("00") {
        return is_international(international);
    }
    // One dot is a decimal point.
    let between = &run[first.start + first.digits.len()..last.start];
    if groups.len() == 2 && between == "." {
        return false;
    }
    is_brazilian(&texts) || is_american(&texts) || has_trunk_prefix(&texts, digits.len())
}

/// Digits without a separator among others: only a mobile number is unlike every other number.
fn alone(before: &str, digits: &str) -> bool {
    if before.ends_with('+') {
        return is_international(digits);
    }
    let national = digits.strip_prefix("55").filter(|_| digits.len() == 13).unwrap_or(digits);
    national.len() == 11 && self::national(national)
}

fn is_international(digits: &str) -> bool {
    !digits.starts_with('0')
        && if digits.starts_with("55") {
            matches!(digits.len(), 12..=14)
        } else {
            (8..=15).contains(&digits.len())
        }
}

/// An area code and a number: mobile numbers have nine digits, the first a nine; others begin with 2 to 5.
fn national(digits: &str) -> bool {
    match digits.as_bytes() {
        [area, code, rest @ ..] => *area != b'0' && *code != b'0' && is_local(rest),
        _ => false,
    }
}

fn is_local(digits: &[u8]) -> bool {
    match digits.len() {
        9 => digits[0] == b'9',
        8 => (b'2'..=b'5').contains(&digits[0]),
        _ => false,
    }
}

fn is_brazilian(groups: &[&str]) -> bool {
    let groups = match groups {
        ["55" | "0", rest @ ..] => rest,
        groups => groups,
    };
    match groups {
        // Without an area code only a mobile number's shape is its own.
        ["9", four, last] => four.len() == 4 && last.len() == 4,
        [five, last] if five.len() == 5 && last.len() == 4 && five.starts_with('9') => true,
        // The area code is the end of the first group, after the country's, a zero or a carrier's code.
        [first, rest @ ..] => {
            let area = match (first.len(), first.get(..2)) {
                (2, _) => *first,
                (3 | 5, Some(prefix)) if prefix.starts_with('0') => &first[first.len() - 2..],
                (4, Some("55")) => &first[2..],
                (7, _) if first.as_bytes()[2] == b'9' => first,
                _ => return false,
            };
            national(&format!("{area}{}", rest.concat()))
        }
        [] => false,
    }
}

/// Three, three and four digits, with or without the country's one.
fn is_american(groups: &[&str]) -> bool {
    let groups = groups.strip_prefix(&["1"]).unwrap_or(groups);
    let begins = |group: &str| group.len() == 3 && group.as_bytes()[0] >= b'2';
    matches!(groups, [area, exchange, line] if begins(area) && begins(exchange) && line.len() == 4)
}

/// A zero and an area code, as much of Europe writes numbers at home.
fn has_trunk_prefix(groups: &[&str], digits: usize) -> bool {
    let Some((first, rest)) = groups.split_first() else { return false };
    let begins = first.len() >= 3 && first.starts_with('0') && !first.starts_with("00");
    begins && (10..=12).contains(&digits) && rest.iter().all(|group| group.len() >= 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_at_the_beginning_of_what_follows_them() {
        for (run, phone) in [
            ("11 91234-5678 2", "11 91234-5678"),
            ("+44 20 7946 0958 2026 11", "+44 20 7946 0958"),
            ("(11) 3123-5678 (11) 3123-9999", "(11) 3123-5678"),
        ] {
            assert_eq!(leading(run), Some(phone.len()), "{run}");
        }
    }

    #[test]
    fn digits_between_letters_are_none() {
        for id in ["feab00dd-7bde-529b-acdf-9becea3e7430", "a11b91234c5678"] {
            assert!(!is_whole(id), "{id}");
        }
    }

    #[test]
    fn numbers_of_other_kinds_are_none() {
        for run in [
            "01310-100",
            "123.456.789-09",
            "12.345.678/0001-90",
            "1000-2000",
            "2024-2026",
            "23.45678901",
            "1191234567",
            "4111 1111 1111 1111",
            "01 02 03 04 05",
            "1.234.567.890",
            "3000 5000",
        ] {
            assert_eq!(leading(run), None, "{run}");
        }
    }
}
