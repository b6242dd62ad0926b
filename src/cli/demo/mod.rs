//! `sluice demo`: the whole way on the embedded parts, in a folder of its own.

mod dashboard;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use console::style;

use super::{
    Failure,
    output::{self, OutputError},
};
use crate::{
    cli::next_step::worded,
    config::Settings,
    data_folder::DataFolder,
    domain::{Catalog, Table},
    engine::{Engine, SyncPhase, SyncStatus},
    parts::{Parts, engine_settings},
    private_files,
    source::sample::SampleSource,
    store::SyncRequest,
};

/// Longest wait for a sync; reached only when something is broken.
const PATIENCE: Duration = Duration::from_mins(1);

/// Things that happen in the sample project between two syncs.
const HURRIED: u64 = 40;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where the demonstration keeps its files; what an earlier one left is removed. Default: demo in sluice's data folder
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

/// Shows a sync, changes, a sync that adds nothing, a dashboard, and what to try next.
pub(super) async fn run(settings: Settings, options: &Options) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let folder = options.folder.clone().unwrap_or_else(|| settings.data_dir.join("demo"));
    let settings = Settings { data_dir: folder.clone(), catalog: Catalog::built_in(), ..settings };
    empty(&folder)?;
    let source = Arc::new(SampleSource::start(&folder, settings.catalog).await?);
    let Parts { log, store, index } = Parts::open(&settings)?;
    let engine = Arc::new(Engine::new(
        settings.catalog,
        source.clone(),
        log,
        store,
        index,
        engine_settings(&settings),
    ));
    engine.start_drains().await;

    heading("A first sync: from a sample Supabase through the log into the store and the index")?;
    for table in settings.catalog.tables() {
        tell(&sync(&engine, table).await?)?;
    }
    heading("Leads change and come, chats begin and end; the next sync brings only those")?;
    source.hurry(HURRIED).map_err(|error| format!("changing the sample project failed: {error}"))?;
    for table in settings.catalog.tables() {
        tell(&sync(&engine, table).await?)?;
    }
    heading("The same again: nothing new, nothing twice")?;
    for table in settings.catalog.tables() {
        let status = sync(&engine, table).await?;
        tell(&status)?;
        if status.appended > 0 {
            return Err(format!("{} events were appended a second time; report this", status.appended).into());
        }
    }
    heading("The dashboard")?;
    let (_, overview) = engine.project.overview().await?;
    output::styled(dashboard::drawn(&overview, &engine.inspection.status().await))?;
    engine.shut_down().await;

    next_steps(&folder)?;
    let seconds = began.elapsed().as_secs_f64();
    output::styled(format_args!("{}\n", style(format!("Done in {seconds:.1} s.")).dim()))?;
    Ok(ExitCode::SUCCESS)
}

/// Removes what an earlier demonstration left, and only that: a folder that is in use for anything else holds files of
/// the same names.
fn empty(folder: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| -> Failure {
        format!("emptying {} failed: {error}; name another with --folder", folder.display()).into()
    };
    let mark = folder.join(DataFolder::DEMONSTRATION);
    let is_demonstration = mark.is_file();
    let is_ours = |name: &str| {
        name == DataFolder::LOCK
            || is_demonstration && (name == DataFolder::DEMONSTRATION || DataFolder::FILES.contains(&name))
    };
    if let Ok(mut entries) = folder.read_dir()
        && let Some(foreign) = entries.find_map(|entry| {
            let name = entry.ok()?.file_name().to_string_lossy().into_owned();
            (!is_ours(&name)).then_some(name)
        })
    {
        return Err(format!(
            "{} holds {foreign}, which no demonstration made; name an empty folder with --folder",
            folder.display()
        )
        .into());
    }
    // Held until all is removed, so that nobody else begins in between.
    let held = DataFolder::open(folder, "sluice demo")?;
    held.hold("emptying the folder of the demonstration")?;
    for name in DataFolder::FILES.into_iter().filter(|name| *name != DataFolder::LOCK) {
        let path = folder.join(name);
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    private_files::replace(
        &mark,
        b"The files beside this one are a demonstration's; the next one removes them.\n",
    )
    .map_err(failed)?;
    Ok(())
}

async fn sync(engine: &Engine, table: Table) -> Result<SyncStatus, Failure> {
    let request = SyncRequest {
        table: table.into(),
        hours_ago: 24 * 100,
        limit: 100_000,
        conditions: Vec::new(),
        resume: false,
        reappend: false,
        reconcile: None,
        since: None,
    };
    let id = engine.syncs.start(request).await?;
    let status = engine.syncs.wait_for(id, PATIENCE, &mut ()).await?;
    if status.state == SyncPhase::Done {
        return Ok(status);
    }
    let problems = engine
        .inspection
        .status()
        .await
        .problems
        .iter()
        .map(|problem| problem.clone().worded(worded))
        .collect::<Vec<_>>()
        .join("; ");
    Err(format!("the sync of {table} is {:?}: {problems}", status.state).into())
}

fn heading(text: &str) -> Result<(), OutputError> {
    output::styled(format_args!("\n{}\n", style(text).bold()))
}

fn tell(status: &SyncStatus) -> Result<(), OutputError> {
    let sinks: Vec<&str> = status.sinks.iter().map(|sink| sink.sink.as_str()).collect();
    output::line(format_args!(
        "  {:<13} {:>4} rows read, {:>4} new events, {:>4} unchanged; queryable in {}",
        status.table,
        status.rows_read,
        status.appended,
        status.unchanged,
        sinks.join(" and ")
    ))
}

fn next_steps(folder: &Path) -> Result<(), Failure> {
    let program = std::env::current_exe()?;
    let call = format!("SLUICE_DATA_DIR={} {}", quoted(folder), quoted(&program));
    heading("Try next")?;
    output::lines(format_args!(
        "  {call} search 'categoria:vendas AND valor:>80' --count-by evento\n  \
         {call} search --index leads 'nome:gonc* AND score_qualificacao:[50 TO *]'\n  \
         {call} sql 'SELECT status_lead, count(*) FROM leads GROUP BY 1 ORDER BY 2 DESC'\n  \
         {call} doctor\n"
    ))?;
    heading("Give it to an MCP client, such as Claude Desktop (claude_desktop_config.json)")?;
    output::pretty_json(&serde_json::json!({"mcpServers": {"sluice": {
        "command": program, "args": ["serve"], "env": {"SLUICE_DATA_DIR": folder},
    }}}))?;
    output::lines(
        "\nWithout SLUICE_DATA_DIR, a bare `sluice serve` begins a sample project of its own; with SUPABASE_URL,\n\
         KAFKA_BOOTSTRAP_SERVERS, DATABASE_URL and ELASTICSEARCH_URL each part becomes the real one.\n",
    )?;
    Ok(())
}

/// As a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_demonstration_made_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        empty(folder.path()).expect("nothing is there");
        std::fs::create_dir(folder.path().join("index")).expect("made");
        std::fs::write(folder.path().join("sample.json"), "{}").expect("written");
        empty(folder.path()).expect("emptied");
        assert!(!folder.path().join("index").exists() && !folder.path().join("sample.json").exists());
        empty(folder.path()).expect("and again");

        std::fs::write(folder.path().join("tese.txt"), "important").expect("written");
        std::fs::write(folder.path().join("sample.json"), "{}").expect("written");
        let refusal = empty(folder.path()).expect_err("somebody else's folder").to_string();
        assert!(refusal.contains("tese.txt"), "{refusal}");
        assert!(folder.path().join("sample.json").exists(), "nothing was touched");
    }

    #[test]
    fn a_data_folder_that_no_demonstration_made_is_left_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(DataFolder::LOCK), "").expect("written");
        std::fs::write(folder.path().join("sluice.db"), "important").expect("written");
        let refusal = empty(folder.path()).expect_err("somebody's data").to_string();
        assert!(refusal.contains("sluice.db"), "{refusal}");
        assert!(folder.path().join("sluice.db").exists());
    }

    #[test]
    fn a_demonstration_that_a_project_was_synced_into_since_is_left_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        empty(folder.path()).expect("nothing is there");
        let settings = |address: &[(&str, &str)]| {
            let own = [("SLUICE_DATA_DIR", folder.path().to_str().expect("text"))];
            let pairs =
                own.iter().chain(address).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Settings::load(pairs.collect::<Vec<_>>()).expect("settings")
        };
        drop(Parts::open(&settings(&[])).expect("the parts"));
        empty(folder.path()).expect("of generated rows only");
        let project = [("SUPABASE_URL", "https://abc.supabase.co"), ("SUPABASE_KEY", "sb_secret_x")];
        drop(Parts::open(&settings(&project)).expect("the parts"));
        std::fs::write(folder.path().join("sluice.db"), "important").expect("written");
        let refusal = empty(folder.path()).expect_err("a project's data").to_string();
        assert!(refusal.contains("which no demonstration made"), "{refusal}");
        assert!(folder.path().join("sluice.db").exists());
    }

    #[test]
    fn a_path_with_blanks_and_quotes_is_one_word() {
        assert_eq!(quoted(Path::new("/a/b-c.d")), "/a/b-c.d");
        assert_eq!(quoted(Path::new("/it's here")), r"'/it'\''s here'");
    }
}
