//! `assent keys`: epochs, and the public half of the signing key.

use serde_json::json;

use crate::cli::context::{self, Context};
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::keys::{FileKeyStore, KeyStore, SigningKey};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  assent keys status
  assent keys public --json | jq -r .public")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the epochs whose key still exists, and which one is current
    Status,
    /// Show the public half of the signing key (Ed25519), with which receipts are checked
    Public,
}

pub(super) fn run(
    arguments: &Arguments,
    context: &Context,
    output: &mut Output,
) -> Result<(), Failure> {
    let folder = context.config()?.keys.path;
    context::refuse_missing(&folder.join("signing-key"), &folder)?;
    match arguments.command {
        Command::Status => {
            let store = FileKeyStore::open(&folder).map_err(Failure::unavailable)?;
            let epochs: Vec<u32> = store.epochs().iter().map(|epoch| epoch.0).collect();
            let current = store.current().0;
            if output.is_json() {
                let path = folder.display().to_string();
                let status = json!({
                    "provider": "file", "path": path, "epochs": epochs, "current": current,
                });
                return Ok(output.value(&status)?);
            }
            output.line(format!("{:<12}file, in {}", "Provider", folder.display()))?;
            let rows: Vec<[String; 2]> = epochs
                .iter()
                .map(|epoch| {
                    let state = if *epoch == current { "current" } else { "unwraps only" };
                    [epoch.to_string(), state.to_owned()]
                })
                .collect();
            output.table(["EPOCH", "STATE"], &rows)?;
        }
        Command::Public => {
            let key = SigningKey::open(&folder).map_err(Failure::unavailable)?;
            let (id, bytes) = (key.key_id().to_string(), key.public().to_bytes());
            let (public, base64, pem) = (hex::encode(bytes), base64(&bytes), pem(&bytes));
            if output.is_json() {
                let key = json!({
                    "key_id": id, "algorithm": "Ed25519", "public": public, "base64": base64,
                    "pem": pem,
                });
                return Ok(output.value(&key)?);
            }
            output.line(format!("{:<12}{id}", "Key"))?;
            output.line(format!("{:<12}Ed25519", "Algorithm"))?;
            output.line(format!("{:<12}{public}", "Public"))?;
            output.line(format!("{:<12}{base64}", "Base64"))?;
            output.line("")?;
            for line in pem.lines() {
                output.line(line)?;
            }
        }
    }
    Ok(())
}

/// What is before an Ed25519 public key's 32 bytes in its SubjectPublicKeyInfo (RFC 8410, 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The key as other programs read it (RFC 7468, 13).
fn pem(public: &[u8; 32]) -> String {
    let text = base64(&[&SPKI[..], public].concat());
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

/// Base64 with padding (RFC 4648, 4).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let at = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let held = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = usize::try_from(held >> (18 - 6 * place) & 63).unwrap_or_default();
            let digit = DIGITS.get(digit).copied().unwrap_or(b'=');
            text.push(if place > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_as_in_the_vectors_of_the_rfc() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }
}
