#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| sluice::fuzzing::sql_check(text));
