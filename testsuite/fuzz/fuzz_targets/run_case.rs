#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| testsuite::fuzz::run_case(data));
