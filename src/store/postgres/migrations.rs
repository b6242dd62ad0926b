//! The migrations, compiled in.

use std::sync::LazyLock;

use sqlx_core::migrate::{Migration, MigrationType, Migrator};

/// Numbered migrations; a file's place is its number.
const MIGRATIONS: [(&str, &str); 5] = [
    ("events", include_str!("../../../migrations/postgres/0001_events.sql")),
    ("progress", include_str!("../../../migrations/postgres/0002_progress.sql")),
    ("operations", include_str!("../../../migrations/postgres/0003_operations.sql")),
    ("readers", include_str!("../../../migrations/postgres/0004_readers.sql")),
    ("columns", include_str!("../../../migrations/postgres/0005_columns.sql")),
];

/// The migrations up to a version, each as it was run.
pub(super) fn up_to(version: i64) -> impl Iterator<Item = &'static str> {
    MIGRATIONS.iter().take(usize::try_from(version).unwrap_or_default()).map(|(_, sql)| *sql)
}

/// The tables that a migration makes where they are not there.
pub(super) fn tables_of(sql: &'static str) -> impl Iterator<Item = &'static str> {
    let named = |line: &'static str| line.strip_prefix("CREATE TABLE IF NOT EXISTS ")?.split(' ').next();
    sql.lines().filter_map(named)
}

/// A later release's migrations are left alone, so that workers can be upgraded one by one.
pub(super) static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let migration = |(version, (name, sql)): (i64, &(&'static str, &'static str))| {
        Migration::new(version, (*name).into(), MigrationType::Simple, (*sql).into(), false)
    };
    Migrator {
        migrations: (1..).zip(&MIGRATIONS).map(migration).collect(),
        ignore_missing: true,
        ..Migrator::DEFAULT
    }
});

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    #[test]
    fn every_migration_changes_nothing_where_it_was_run_before() {
        for sql in up_to(i64::MAX) {
            let creates = sql.lines().filter(|line| line.starts_with("CREATE"));
            assert!(creates.clone().count() > 0);
            for line in creates {
                assert!(line.contains(" IF NOT EXISTS "), "{line}");
            }
        }
        let tables: Vec<&str> = up_to(1).flat_map(tables_of).collect();
        let expected = [
            "eventos_raw",
            "eventos_agregados",
            "sluice_trimmed",
            "sluice_trimmed_windows",
            "sluice_removed",
            "sluice_tables",
        ];
        assert_eq!(tables, expected);
    }

    #[test]
    fn every_file_of_the_folder_is_a_migration_at_its_number() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .expect("the folder of migrations")
            .map(|file| file.expect("a file").file_name().into_string().expect("a name"))
            .collect();
        let compiled: BTreeSet<String> =
            MIGRATOR.iter().map(|one| format!("{:04}_{}.sql", one.version, one.description)).collect();
        assert_eq!(compiled, files);
    }
}
