//! Media threads: ports, relay, prompts.
