//! Rows and keys are for their owner alone, and no link in the data folder is followed.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::Path,
};

use tempfile::TempDir;
use tokio::process::Command;

use crate::support::cli::{Outcome, run, sluice};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("something there").permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
}

/// Everything below a folder, the folder included.
fn all(path: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![path.to_owned()];
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("the folder") {
            found.extend(all(&entry.expect("an entry").path()));
        }
    }
    found
}

/// With the umask that most users have, whatever this process's own is.
async fn with_open_umask(folder: &Path, arguments: &[&str]) -> Outcome {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 022; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_sluice")]).args(arguments);
    command.env_clear().env("SLUICE_DATA_DIR", folder.join("data")).env("PATH", "/usr/bin:/bin");
    command.current_dir(folder).kill_on_drop(true);
    run(command).await
}

fn assert_private(folder: &Path) {
    let found = all(folder);
    assert!(found.len() > 5, "{found:?}");
    for path in found {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(
            mode(&path) | expected,
            expected,
            "{} is open to others: {:o}",
            path.display(),
            mode(&path)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_left_in_the_data_folder_is_its_owners_alone() {
    let folder = folder();
    let data = folder.path().join("data");
    let outcome = with_open_umask(folder.path(), &["sync", "leads", "--wait"]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_private(&data);

    // As an older release left it.
    for path in all(&data) {
        set_mode(&path, if path.is_dir() { 0o755 } else { 0o644 });
    }
    let outcome = with_open_umask(folder.path(), &["sync", "chat-sessions", "--wait"]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_private(&data);

    let outcome = with_open_umask(folder.path(), &["demo"]).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert_private(&data.join("demo"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_the_data_folder_is_neither_followed_nor_made_a_file() {
    for name in ["sluice.lock", "sluice.db", "sluice.db-wal", "sluice.db-shm", "sample.json", "index"] {
        for exists in [true, false] {
            let folder = folder();
            let data = folder.path().join("data");
            fs::create_dir(&data).expect("the data folder");
            let target = folder.path().join("theirs");
            if exists {
                fs::write(&target, "important").expect("a file");
            }
            symlink(&target, data.join(name)).expect("a link");
            let outcome = run(sluice(folder.path(), &["sync", "leads", "--wait"])).await;
            assert_eq!(outcome.code, Some(1), "{name}: {outcome:?}");
            assert!(outcome.stderr.contains(name) && outcome.stderr.contains("link"), "{name}: {outcome:?}");
            let content = fs::read_to_string(&target).ok();
            assert_eq!(content.as_deref(), exists.then_some("important"), "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_deep_in_the_index_is_refused() {
    let folder = folder();
    let arguments = ["sync", "leads", "--wait"];
    assert_eq!(run(sluice(folder.path(), &arguments)).await.code, Some(0));
    let target = folder.path().join("theirs");
    fs::write(&target, "important").expect("a file");
    let lock = folder.path().join("data/index/leads-000001/.tantivy-writer.lock");
    fs::remove_file(&lock).ok();
    symlink(&target, &lock).expect("a link");
    let outcome = run(sluice(folder.path(), &arguments)).await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains(".tantivy-writer.lock"), "{outcome:?}");
    assert_eq!(fs::read_to_string(&target).expect("the file"), "important");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_all_users_share_is_no_data_folder() {
    let folder = folder();
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("a folder");
    set_mode(&data, 0o1777);
    let outcome = run(sluice(folder.path(), &["status"])).await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("name a folder inside it"), "{outcome:?}");
    assert_eq!(fs::metadata(&data).expect("the folder").permissions().mode() & 0o7777, 0o1777);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_can_t_be_made_is_told_by_status_and_no_other_setting_is_blamed() {
    let folder = folder();
    let data = folder.path().join("data");
    let status = async |path: &Path| {
        let mut command = sluice(folder.path(), &["status"]);
        command.env("SLUICE_DATA_DIR", path);
        run(command).await
    };
    fs::write(&data, "").expect("a file");
    let mut refused = vec![
        (status(&data).await, "failed: it is no folder"),
        (status(&data.join("below")).await, "making the data folder"),
    ];
    if cfg!(target_os = "linux") {
        refused.push((status(Path::new("/proc/x")).await, "making the data folder /proc/x failed"));
    }
    fs::remove_file(&data).expect("removed");
    symlink(folder.path().join("nothing"), &data).expect("a link");
    refused.push((status(&data).await, "failed: it is a link that leads to no folder"));
    for (outcome, told) in refused {
        assert_eq!(outcome.code, Some(1), "{told}: {outcome:?}");
        assert!(outcome.stderr.contains(told) && outcome.stdout.is_empty(), "{told}: {outcome:?}");
        assert!(!outcome.stderr.contains("SLUICE_TABLES_DIR"), "{outcome:?}");
    }
    assert_eq!(all(folder.path()).len(), 2, "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_another_user_is_no_data_folder() {
    if !rustix::process::geteuid().is_root() {
        // Only root can give a folder away; what is done then is the same for all.
        return;
    }
    let folder = folder();
    let (data, link) = (folder.path().join("theirs"), folder.path().join("data"));
    fs::create_dir(&data).expect("a folder");
    std::os::unix::fs::chown(&data, Some(4242), None).expect("given away");
    symlink(&data, &link).expect("a link");
    let outcome = run(sluice(folder.path(), &["status"])).await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("belongs to the user 4242"), "{outcome:?}");
    assert!(fs::read_dir(&data).expect("the folder").next().is_none(), "nothing was made there");

    // A link of theirs is not followed even to a folder of one's own.
    std::os::unix::fs::chown(&data, Some(0), None).expect("taken back");
    std::os::unix::fs::lchown(&link, Some(4242), None).expect("given away");
    let outcome = run(sluice(folder.path(), &["status"])).await;
    assert!(outcome.stderr.contains("is a link that another user made"), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clients_file_that_gets_secrets_is_closed_to_others_and_so_is_its_backup() {
    let folder = folder();
    let path = folder.path().join("mcp.json");
    fs::write(&path, "{\"mcpServers\": {\"other\": {\"env\": {\"TOKEN\": \"segredo\"}}}}").expect("a file");
    set_mode(&path, 0o644);
    let write = async || {
        let path = path.to_str().expect("text");
        let mut command =
            sluice(folder.path(), &["client-config", "claude", "--write", "--with-secrets", "--path", path]);
        command.envs([("SUPABASE_URL", "https://abc.supabase.co"), ("SUPABASE_KEY", "sb_secret_segredo")]);
        let outcome = run(command).await;
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome.stdout
    };
    assert!(write().await.contains("is written"));
    assert!(fs::read_to_string(&path).expect("the file").contains("sb_secret_segredo"));
    for file in all(folder.path()).into_iter().filter(|file| file.is_file()) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    set_mode(&path, 0o644);
    assert!(write().await.contains("has it already"));
    assert_eq!(mode(&path), 0o600);
}
