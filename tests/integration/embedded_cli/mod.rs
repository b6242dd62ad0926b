//! What the command line may read, leave behind and print; no service is needed.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod allocator;
mod first;
mod formats;
mod output;
mod private_files;
#[cfg(unix)]
mod secrets;
mod settings;
mod tables;
mod terminal;
