//! Files that people take with them: how rows are written into one, and where those lie that clients asked for.

mod encoder;
mod kept;
mod writer;

pub use encoder::{Column, Encoder, Format, Times};
pub(crate) use kept::KeptExports;
pub use kept::{KeptExport, PROCESS, Reader, file_name};
pub(crate) use writer::{WriteError, Writer};
