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
            let (id, public) = (key.key_id().to_string(), hex::encode(key.public().to_bytes()));
            if output.is_json() {
                let key = json!({ "key_id": id, "algorithm": "Ed25519", "public": public });
                return Ok(output.value(&key)?);
            }
            output.line(format!("{:<12}{id}", "Key"))?;
            output.line(format!("{:<12}Ed25519", "Algorithm"))?;
            output.line(format!("{:<12}{public}", "Public"))?;
        }
    }
    Ok(())
}
