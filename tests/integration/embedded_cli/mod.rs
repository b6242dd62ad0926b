//! What the command line may read, leave behind and print; no service is needed.

mod first;
mod formats;
mod output;
mod private_files;
#[cfg(unix)]
mod secrets;
mod settings;
mod tables;
mod terminal;
