//! What the allocator is told when the program is built: without it a worker keeps the memory of its largest backlog.

use std::process::Command;

#[test]
fn what_is_freed_goes_back_to_the_system() {
    let program = env!("CARGO_BIN_EXE_sluice");
    let ran = Command::new(program).arg("--version").env("MALLOC_CONF", "stats_print:true").output();
    let told = String::from_utf8_lossy(&ran.expect("it runs").stderr).into_owned();
    for setting in ["opt.background_thread: true", "opt.dirty_decay_ms: 200 ", "opt.narenas: 2"] {
        assert!(told.contains(setting), "{setting} in {told}");
    }
}
