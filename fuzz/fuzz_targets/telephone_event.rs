#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| assent::fuzz::media::telephone_event(bytes));
