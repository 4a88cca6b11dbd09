#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| assent::fuzz::signalling::sip_message(bytes));
