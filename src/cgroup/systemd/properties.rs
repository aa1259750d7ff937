//! Settings as properties of a unit (systemd.resource-control(5), org.freedesktop.systemd1(5)).

use anyhow::Result;
use rustbus::Marshal;
use rustbus::Signature;
use rustbus::message_builder::MarshalledMessage;

use crate::cgroup::Settings;
use crate::cgroup::settings::parse_set;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    pub name: String,
    pub value: Value,
}

/// On the wire a variant of what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Marshal, Signature)]
pub enum Value {
    Bool(bool),
    Number(u64),
    Text(String),
    Bytes(Vec<u8>),
    Numbers(Vec<u32>),
}

/// No limit.
const INFINITY: u64 = u64::MAX;

impl Property {
    pub fn new(name: &str, value: Value) -> Property {
        Property {
            name: name.to_owned(),
            value,
        }
    }

    /// The version of systemd that made it known, or this value of it.
    fn since(&self) -> u32 {
        match (self.name.as_str(), &self.value) {
            ("AllowedCPUs" | "AllowedMemoryNodes", _) => 244,
            ("CPUWeight", Value::Number(0)) => 252,
            ("OOMPolicy", _) => 253,
            _ => 0,
        }
    }
}

/// Without the newest of them; none where all are old.
pub(super) fn older(properties: &[Property]) -> Option<Vec<Property>> {
    let newest = properties.iter().map(Property::since).max()?;
    let kept = properties
        .iter()
        .filter(|property| property.since() < newest);
    (newest > 0).then(|| kept.cloned().collect())
}

/// What systemd knows of the settings, so that its own writing (daemon-reload) does not undo them; those that it
/// does not know are for `Group::apply` alone, which writes all of them.
pub fn properties(settings: &Settings) -> Vec<Property> {
    let mut list: Vec<Property> = Vec::new();
    let mut add = |name: &str, value: Option<Value>| {
        list.extend(value.map(|value| Property::new(name, value)));
    };
    for (file, name) in [
        ("memory.min", "MemoryMin"),
        ("memory.low", "MemoryLow"),
        ("memory.high", "MemoryHigh"),
        ("memory.max", "MemoryMax"),
        ("memory.swap.max", "MemorySwapMax"),
        ("pids.max", "TasksMax"),
    ] {
        let number = settings.value(file).and_then(number);
        // systemd has no limit of no processes; the file has.
        add(
            name,
            number.filter(|_| settings.value(file) != Some("0") || file != "pids.max"),
        );
    }
    match settings.value("cpu.idle") {
        Some("1") => add("CPUWeight", Some(Value::Number(0))),
        _ => add("CPUWeight", settings.value("cpu.weight").and_then(number)),
    }
    if let Some((quota, period)) = settings.value("cpu.max").and_then(quota) {
        add("CPUQuotaPerSecUSec", Some(Value::Number(quota)));
        add("CPUQuotaPeriodUSec", Some(Value::Number(period)));
    }
    for (file, name) in [
        ("cpuset.cpus", "AllowedCPUs"),
        ("cpuset.mems", "AllowedMemoryNodes"),
    ] {
        let set = settings.value(file).and_then(parse_set);
        add(name, set.map(|numbers| Value::Bytes(mask(&numbers))));
    }
    let policy = match settings.value("memory.oom.group") {
        Some("0") => Some("continue"),
        Some("1") => Some("kill"),
        _ => None,
    };
    add("OOMPolicy", policy.map(|policy| Value::Text(policy.into())));
    add("IOWeight", settings.value("io.weight").and_then(number));
    list
}

fn number(text: &str) -> Option<Value> {
    match text {
        "max" => Some(Value::Number(INFINITY)),
        text => text.parse().ok().map(Value::Number),
    }
}

/// `QUOTA PERIOD` as processor time a second, and the period. systemd counts in whole percents, of which this must
/// not be less than what was asked for.
fn quota(text: &str) -> Option<(u64, u64)> {
    const SECOND: u64 = 1_000_000;
    const PERCENT: u64 = 10_000;
    let (quota, period) = text.split_once(' ').unwrap_or((text, "100000"));
    let period: u64 = period.parse().ok().filter(|period| *period != 0)?;
    let quota = match quota {
        "max" => INFINITY,
        quota => {
            let quota: u64 = quota.parse().ok()?;
            quota
                .checked_mul(SECOND)?
                .div_ceil(period)
                .checked_next_multiple_of(PERCENT)?
        }
    };
    Some((quota, period))
}

/// Bit 3 of byte 1 is number 11.
fn mask(numbers: &[usize]) -> Vec<u8> {
    let bytes = numbers.iter().max().map_or(0, |most| most / 8 + 1);
    let mut mask = vec![0; bytes];
    for number in numbers {
        mask[number / 8] |= 1 << (number % 8);
    }
    mask
}

/// `a(sv)`.
pub(super) fn push(call: &mut MarshalledMessage, properties: &[Property]) -> Result<()> {
    let pairs: Vec<(&str, &Value)> = properties
        .iter()
        .map(|property| (property.name.as_str(), &property.value))
        .collect();
    Ok(call.body.push_param(pairs)?)
}

/// `a(sa(sv))`: other units to start along.
pub(super) fn push_no_units(call: &mut MarshalledMessage) -> Result<()> {
    let none: Vec<(&str, Vec<(&str, Value)>)> = Vec::new();
    Ok(call.body.push_param(none)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cgroup::settings;

    #[track_caller]
    fn of(resources: serde_json::Value) -> Vec<(String, Value)> {
        let settings = settings(&serde_json::from_value(resources).unwrap()).unwrap();
        let pairs = properties(&settings).into_iter();
        pairs
            .map(|property| (property.name, property.value))
            .collect()
    }

    #[test]
    fn settings_become_properties() {
        let number = |name: &str, number| (name.to_owned(), Value::Number(number));
        let bytes = |name: &str, bytes: &[u8]| (name.to_owned(), Value::Bytes(bytes.to_vec()));
        let all = json!({
            "memory": {"limit": 1000, "swap": 1500, "reservation": 10},
            "cpu": {"shares": 2048, "quota": 33_333, "period": 100_000, "cpus": "0-1,11", "mems": "0"},
            "pids": {"limit": 7},
            "unified": {"memory.high": "max"},
        });
        assert_eq!(
            of(all),
            [
                number("MemoryLow", 10),
                number("MemoryHigh", INFINITY),
                number("MemoryMax", 1000),
                number("MemorySwapMax", 500),
                number("TasksMax", 7),
                number("CPUWeight", 174),
                // 33.333 % of a processor, rounded up to 34.
                number("CPUQuotaPerSecUSec", 340_000),
                number("CPUQuotaPeriodUSec", 100_000),
                bytes("AllowedCPUs", &[3, 8]),
                bytes("AllowedMemoryNodes", &[1]),
            ]
        );
        assert_eq!(
            of(json!({"cpu": {"idle": 1}, "pids": {"limit": 0}})),
            [number("CPUWeight", 0)]
        );
        assert_eq!(
            of(json!({"cpu": {"quota": -1, "period": 50_000}})),
            [
                number("CPUQuotaPerSecUSec", INFINITY),
                number("CPUQuotaPeriodUSec", 50_000)
            ]
        );
        let group = of(json!({"unified": {"memory.oom.group": "1"}}));
        assert_eq!(
            group,
            [("OOMPolicy".to_owned(), Value::Text("kill".into()))]
        );
        assert_eq!(
            of(json!({"blockIO": {"weight": 1000}})),
            [number("IOWeight", 10_000)]
        );
    }

    #[test]
    fn an_older_systemd_gets_what_it_knows() {
        let number = |name: &str, number| Property::new(name, Value::Number(number));
        let all = [
            number("MemoryMax", 1),
            number("CPUWeight", 0),
            Property::new("OOMPolicy", Value::Text("kill".into())),
        ];
        let less = older(&all).unwrap();
        assert_eq!(less, all[..2]);
        let least = older(&less).unwrap();
        assert_eq!(least, all[..1]);
        assert_eq!(older(&least), None);
        assert_eq!(older(&[number("CPUWeight", 5)]), None);
    }

    #[test]
    fn values_are_variants() {
        let mut call = rustbus::MessageBuilder::new().call("x").on("/x").build();
        push(
            &mut call,
            &[
                Property::new("a", Value::Bytes(vec![1])),
                Property::new("b", Value::Bool(true)),
            ],
        )
        .unwrap();
        push_no_units(&mut call).unwrap();
        assert_eq!(call.get_sig(), "a(sv)a(sa(sv))");
    }
}
