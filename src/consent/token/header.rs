//! Tokens as they stand in a header: User-to-User (RFC 7433) or one of the PBX's own.

use crate::consent::token::MAX_TOKEN_BYTES;

/// Of a longer header nothing is read: twice a token in hex, and its parameters.
pub const MAX_HEADER_BYTES: usize = 2 * (2 * MAX_TOKEN_BYTES + 128);

/// The tokens of one header: separated by commas, each perhaps in quotes, perhaps in hex
/// (`;encoding=hex`, or without saying so), its parameters left out. `None` for what cannot be
/// one. Nothing at all for a header that is too long.
pub(super) fn tokens(value: &[u8]) -> impl Iterator<Item = Option<String>> {
    let text = match value.len() {
        0..=MAX_HEADER_BYTES => std::str::from_utf8(value).ok(),
        _ => None,
    };
    // A comma within quotes is none of a token's characters, so there it need not be looked for.
    text.map_or("\u{fffd}", |text| text).split(',').map(token)
}

fn token(element: &str) -> Option<String> {
    let mut parts = element.split(';');
    let value = parts.next().unwrap_or_default().trim();
    let value = value.strip_prefix('"').map_or(Some(value), |v| v.strip_suffix('"'))?;
    let encoding = parts.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("encoding").then(|| value.trim().trim_matches('"'))
    });
    match encoding {
        // RFC 7433, 4.1: without `encoding` the value is in hex. Most PBXs write text all the same.
        None if value.contains('.') => Some(value.to_owned()),
        None => of_hex(value),
        Some(hex) if hex.eq_ignore_ascii_case("hex") => of_hex(value),
        Some(_) => Some(value.to_owned()),
    }
}

fn of_hex(value: &str) -> Option<String> {
    String::from_utf8(hex::decode(value).ok()?).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Vec<Option<String>> {
        tokens(value.as_bytes()).collect()
    }

    #[test]
    fn a_token_is_found_however_it_is_written() {
        let token = "v1.e30.AA";
        let hex = hex::encode(token);
        for value in [
            token.to_owned(),
            format!(" {token} "),
            format!("\"{token}\""),
            format!("{token};purpose=consent"),
            format!("{token};encoding=token"),
            format!("{hex};encoding=hex"),
            format!("{hex};purpose=consent;Encoding=\"HEX\";content=x"),
            hex.clone(),
            hex.to_uppercase(),
        ] {
            assert_eq!(read(&value), [Some(token.to_owned())], "{value}");
        }
        let both = format!("{token}, {hex};encoding=hex");
        assert_eq!(read(&both), [Some(token.to_owned()), Some(token.to_owned())]);
    }

    #[test]
    fn what_cannot_be_a_token_is_none() {
        for bad in ["", "nonsense", "\"v1.a.b", "zz;encoding=hex", "ff;encoding=hex"] {
            assert_eq!(read(bad), [None], "{bad}");
        }
        assert_eq!(tokens(&vec![b'.'; MAX_HEADER_BYTES + 1]).collect::<Vec<_>>(), [None]);
        assert_eq!(tokens(b"\xff\xfe.").collect::<Vec<_>>(), [None]);
    }
}
