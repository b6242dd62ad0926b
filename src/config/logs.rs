//! Where sluice's own log is kept, besides stderr.

use std::path::PathBuf;

use super::reader::Reader;

/// Where sluice's own log is kept, besides stderr.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSettings {
    /// A folder of rotated files; `None` for no files.
    pub dir: Option<PathBuf>,
    /// How large a file grows.
    pub file_bytes: u64,
    /// How many files of one process are kept.
    pub files: usize,
    /// Whether lines go to a data stream of Elasticsearch or OpenSearch, too.
    pub elasticsearch: bool,
    /// How many days lines are kept, in files and in the data stream.
    pub days: u16,
}

const ELASTICSEARCH: &str = "SLUICE_LOG_ELASTICSEARCH";

impl LogSettings {
    pub(super) fn read(read: &mut Reader, has_elasticsearch: bool) -> Self {
        let settings = Self {
            dir: read.optional("SLUICE_LOG_DIR").map(PathBuf::from),
            file_bytes: read.number("SLUICE_LOG_FILE_MIB", 16_u64, 1..=1024) << 20,
            files: read.number("SLUICE_LOG_FILES", 20, 2..=1000),
            elasticsearch: read.flag(ELASTICSEARCH, false),
            days: read.number("SLUICE_LOG_DAYS", 30, 1..=3650),
        };
        if settings.elasticsearch && !has_elasticsearch && !read.has_problem("ELASTICSEARCH_URL") {
            read.problem(ELASTICSEARCH, "needs a server: set ELASTICSEARCH_URL, or remove it");
        }
        settings
    }
}
