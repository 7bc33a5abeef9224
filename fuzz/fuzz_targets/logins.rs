#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| holofs_fuzz::targets::logins::run(data));
