//! SIGHUP: the configuration is read again, and the certificates that it names. Routes, policies,
//! `[sip.tls]` and `[shutdown]` take effect at once, for calls and connections that arrive from
//! then on; everything else at a restart. A configuration that is wrong changes nothing, and
//! neither do certificates that are of no use.

use std::sync::Arc;

use crate::agent::core::Inward;
use crate::agent::prior::TokenRules;
use crate::agent::start::{Agent, peers, tls, warm};
use crate::config::{self, Config, Sip, Source};

impl Agent {
    pub(super) fn reload(&mut self, source: &Source) {
        let read = match config::load(source.clone()) {
            Ok(loaded) => loaded.config,
            Err(problems) => {
                for problem in &problems.0 {
                    tracing::error!("{problem}");
                }
                return tracing::error!("the configuration stays as it was: correct {source}");
            }
        };
        let waiting = needs_restart(&self.config, &read);
        let config = Config {
            routes: read.routes,
            policies: read.policies,
            matching: read.matching,
            tokens: read.tokens,
            shutdown: read.shutdown,
            sip: Sip { tls: read.sip.tls, ..self.config.sip.clone() },
            ..(*self.config).clone()
        };
        if let Err(why) = warm(&self.prompts, &config) {
            tracing::error!(%why, "the configuration stays as it was");
            return;
        }
        let tls = match tls(&config) {
            Ok(tls) => tls,
            Err(why) => {
                return tracing::error!(
                    %why,
                    "the configuration and the certificates stay as they were"
                );
            }
        };
        match TokenRules::load(&config) {
            Ok(rules) => self.prior.replace_rules(rules),
            Err(why) => return tracing::error!(%why, "the configuration stays as it was"),
        }
        if let Some(tls) = tls {
            self.sip.set_tls(tls);
        }
        self.sip.set_peers(peers(&config));
        self.observer.book.clear();
        self.locator.look_up_all(&config);
        self.config = Arc::new(config);
        self.in_force.send_replace(Arc::clone(&self.config));
        let _ = self.inward.send(Inward::Reload(Arc::clone(&self.config)));
        let (routes, policies) = (self.config.routes.len(), self.config.policies.len());
        tracing::info!(routes, policies, "the configuration of {source} is in force");
        if !waiting.is_empty() {
            tracing::warn!("changed, but in force only after a restart: {}", waiting.join(", "));
        }
    }
}

/// What differs that a running agent cannot change.
fn needs_restart(now: &Config, read: &Config) -> Vec<&'static str> {
    // Whoever adds a part to the configuration decides here what becomes of it.
    let Config {
        tenant,
        node,
        data,
        prompts,
        sip,
        media,
        keys,
        storage,
        nats,
        http,
        shutdown: _,
        routes: _,
        policies: _,
        matching: _,
        tokens: _,
    } = now;
    [
        ("tenant", *tenant == read.tenant),
        ("node", *node == read.node),
        ("data", *data == read.data),
        ("prompts", *prompts == read.prompts),
        ("[sip]", Sip { tls: read.sip.tls.clone(), ..sip.clone() } == read.sip),
        ("[media]", *media == read.media),
        ("[keys]", *keys == read.keys),
        ("[storage]", *storage == read.storage),
        ("[nats]", *nats == read.nats),
        ("[http]", *http == read.http),
    ]
    .into_iter()
    .filter_map(|(name, same)| (!same).then_some(name))
    .collect()
}
