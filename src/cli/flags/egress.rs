//! Flags that say what a container may reach, and how fast.

use clap::Args;

use crate::cli::flags::namespaces::NETWORKS;
use crate::text::egress;
use crate::text::egress::Rule;
use crate::text::rate;
use crate::text::rate::Rates;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = NETWORKS)]
pub struct EgressFlags {
    /// Limit how fast the network is: bytes per second as 500k or 10m, or bits as 10mbit, for both
    /// directions, or in=RATE,out=RATE; a size after it may go at once: 10mbit,256k. What containers of one network
    /// say to each other is not slowed down
    #[arg(long, value_name = "RATE[,BURST]", value_parser = rate::parse)]
    net_rate: Option<Rates>,

    /// Say what the container may reach: rules allow or deny, each with :TO, :PORTS and /PROTOCOL where it is not
    /// for all, of which the first that matches decides, as allow:10.0.0.0/8:443/tcp,deny:private; TO is
    /// an address or network ([2001:db8::]/32; one of IPv4 is denied with its forms in IPv6, as
    /// 64:ff9b::10.0.0.1), internet, private (all others, and the host), host, or dns (the
    /// container's resolver). What no rule matches is allowed; deny:169.254.169.254 keeps a cloud's
    /// metadata away, and allow:dns,allow:internet:443/tcp,deny leaves HTTPS alone. Rules are not about what
    /// containers of one network say to each other
    #[arg(long, value_name = "RULES", value_parser = rules)]
    network_policy: Vec<Rules>,
}

#[derive(Clone, Debug)]
struct Rules(Vec<Rule>);

fn rules(text: &str) -> Result<Rules, String> {
    egress::parse(text).map(Rules)
}

impl EgressFlags {
    /// Absent is what was not said.
    pub fn into_changes(self) -> (Option<Vec<Rule>>, Option<Rates>) {
        let said = !self.network_policy.is_empty();
        let rules = self.network_policy.into_iter().flat_map(|rules| rules.0);
        (said.then(|| rules.collect()), self.net_rate)
    }
}
