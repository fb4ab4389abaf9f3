//! Ids, sources, ports, times, durations and names of rules: one a line, each held against a naive reading of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use chrono::Datelike;
use portcullis_domain::arm_id::WorkspaceId;
use portcullis_domain::arm_id::{ArmId, NicId, NsgId, PolicyId, RuleId, SubnetId, VmId};
use portcullis_domain::incident::IncidentName;
use portcullis_domain::nsg::{JitRuleName, JitRulePurpose};
use portcullis_domain::port::PortSet;
use portcullis_domain::source::Sources;
use portcullis_domain::{duration, time};

use crate::checks::{SENTENCE, is_told, survives_json, text};

/// An id is one id in every letter case, prints as it came, and its parts make it up again.
pub(crate) fn arm_ids(data: &[u8]) {
    for line in text(data).unwrap_or_default().lines() {
        match ArmId::parse(line) {
            Ok(id) => an_arm_id(line, &id),
            Err(why) => is_told(&why, SENTENCE),
        }
        a_key(line);
    }
}

/// A name of an incident prints as one that is the same, in every letter case, and is a number, a GUID or an id below a workspace.
pub(crate) fn incident_names(data: &[u8]) {
    for line in text(data).unwrap_or_default().lines() {
        let name = match IncidentName::parse(line) {
            Ok(name) => name,
            Err(why) => {
                is_told(&why, SENTENCE);
                continue;
            }
        };
        survives_json(&name);
        for other in [line.to_ascii_uppercase(), line.to_ascii_lowercase()] {
            assert_eq!(IncidentName::parse(&other).as_ref(), Ok(&name), "{other}");
        }
        match &name {
            IncidentName::Number(number) => assert_eq!(line.trim().trim_start_matches('0'), number.to_string()),
            IncidentName::Id(id) => assert_eq!(line.trim().to_lowercase(), *id),
            IncidentName::Resource { workspace, id } => {
                assert!(WorkspaceId::parse(&workspace.to_string()).as_ref() == Ok(workspace) && id.len() == 36);
            }
        }
    }
}

fn an_arm_id(line: &str, id: &ArmId) {
    assert_eq!(id.to_string(), line.trim_end_matches('/'));
    assert_eq!(ArmId::parse(&id.to_string()).as_ref(), Ok(id));
    survives_json(id);
    for other in [line.to_ascii_uppercase(), line.to_ascii_lowercase()] {
        let other = ArmId::parse(&other).unwrap_or_else(|why| panic!("another letter case is no id: {why}"));
        assert_eq!((other.key(), &other), (id.key(), id));
        assert_eq!((other.subscription(), other.resource_group()), (id.subscription(), id.resource_group()));
        assert_eq!(other.resource_type(), id.resource_type());
    }
    assert!(id.key().ends_with(&id.name().to_ascii_lowercase()) && !id.name().is_empty());
    assert!(id.key().starts_with(&format!("/subscriptions/{}", id.subscription())));
    if let Some(parent) = id.parent() {
        assert!(id.key().starts_with(&format!("{}/", parent.key())));
    }
    let kinds = [
        typed::<VmId>(id, VmId::TYPE),
        typed::<NicId>(id, NicId::TYPE),
        typed::<SubnetId>(id, SubnetId::TYPE),
        typed::<NsgId>(id, NsgId::TYPE),
        typed::<RuleId>(id, RuleId::TYPE),
        typed::<PolicyId>(id, PolicyId::TYPE),
    ];
    assert!(kinds.iter().filter(|is| **is).count() <= 1, "{id} is of two types");
    if let Ok(vm) = VmId::from_arm_id(id.clone()) {
        assert_eq!(VmId::from_key(&vm.key()).map(|vm| vm.key()), Ok(vm.key()));
    }
    if let Ok(rule) = RuleId::from_arm_id(id.clone()) {
        rule.nsg().unwrap_or_else(|why| panic!("a rule lies in a group: {why}"));
    }
}

fn typed<T: FromStr<Err: std::fmt::Display>>(id: &ArmId, kind: &str) -> bool {
    match id.to_string().parse::<T>() {
        Ok(_) => {
            assert_eq!(id.resource_type(), kind);
            true
        }
        Err(why) => {
            is_told(&why, SENTENCE);
            false
        }
    }
}

/// A key of the store names one machine, whose key it is.
fn a_key(line: &str) {
    match VmId::from_key(line) {
        Ok(vm) => {
            assert_eq!(vm.key(), line.to_ascii_lowercase());
            survives_json(&vm);
        }
        Err(why) => is_told(&why, SENTENCE),
    }
}

/// A set of sources holds exactly the addresses that a naive reading of its texts says, however it was put together.
pub(crate) fn sources(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let texts: Vec<&str> = text.lines().collect();
    let (first, second) = texts.split_at(texts.len() / 2);
    let whole = Sources::read(texts.iter().copied());
    let naive: Vec<Naive> = text.lines().flat_map(|line| line.split(',')).map(Naive::read).collect();
    let probes: Vec<IpAddr> = naive.iter().take(64).flat_map(Naive::edges).chain(SOME_ADDRESSES).collect();
    for address in &probes {
        let holds = naive.iter().any(|one| one.holds(*address));
        assert_eq!(whole.contains(*address), holds, "{address} in {whole}");
        assert!(!holds || whole.may_contain(*address));
    }
    assert_eq!(whole.is_understood(), !naive.contains(&Naive::Unread));
    assert_eq!(whole.is_empty(), naive.is_empty());
    match Sources::parse(texts.iter().copied()) {
        Ok(parsed) => assert!(parsed == whole && whole.is_understood() && !whole.is_empty()),
        Err(why) => is_told(&why, SENTENCE),
    }
    assert_eq!(Sources::read(whole.prefixes().iter().map(String::as_str)), whole, "what is written is read as the same");
    survives_json(&whole);
    together(&Sources::read(first.iter().copied()), &Sources::read(second.iter().copied()), &whole, &probes);
}

fn together(one: &Sources, other: &Sources, whole: &Sources, probes: &[IpAddr]) {
    assert_eq!((one.union(other), other.union(one)), (whole.clone(), whole.clone()));
    let rest = one.minus(other);
    for address in probes {
        assert_eq!(rest.contains(*address), one.contains(*address) && !other.contains(*address), "{address}");
    }
    assert_eq!(whole.covers(one), one.is_understood(), "nothing covers what cannot be read");
    assert_eq!(other.covers(one), rest.is_empty());
    assert!(!one.amounts_to_internet() || whole.amounts_to_internet());
    assert!(one.size() <= whole.size() && rest.size() <= one.size());
}

/// Addresses at the edges of what a reader could mistake.
const SOME_ADDRESSES: [IpAddr; 7] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V4(Ipv4Addr::BROADCAST),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 4)),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xcb00, 0x7104)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff)),
];

/// One source, read bit by bit.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Naive {
    Everything,
    Tag,
    Unread,
    Block { address: IpAddr, bits: u32 },
    Between(Ipv4Addr, Ipv4Addr),
}

impl Naive {
    fn read(text: &str) -> Self {
        let text = text.trim();
        if ["*", "any", "internet", "0.0.0.0/0", "::/0"].contains(&text.to_ascii_lowercase().as_str()) {
            return Naive::Everything;
        }
        if let Some((from, to)) = text.split_once('-')
            && let (Ok(from), Ok(to)) = (from.trim().parse::<Ipv4Addr>(), to.trim().parse::<Ipv4Addr>())
        {
            return if from <= to { Naive::Between(from, to) } else { Naive::Unread };
        }
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        if let Ok(address) = address.parse::<IpAddr>() {
            let widest = if address.is_ipv4() { 32 } else { 128 };
            let is_number = |text: &str| !text.is_empty() && text.len() < 10 && text.bytes().all(|b| b.is_ascii_digit());
            return match length {
                None => Naive::Block { address, bits: widest },
                Some(length) if is_number(length) && length.parse::<u32>().is_ok_and(|bits| bits <= widest) => {
                    Naive::Block { address, bits: length.parse().unwrap_or(widest) }
                }
                Some(_) => Naive::Unread,
            };
        }
        let is_tag =
            text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b));
        if is_tag { Naive::Tag } else { Naive::Unread }
    }

    /// Compared bit by bit. An address of either family is compared in the family of the prefix; IPv4 addresses are also
    /// the IPv6 ones that are written for them.
    fn holds(&self, address: IpAddr) -> bool {
        let as_v6 = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        match self {
            Naive::Everything => true,
            Naive::Tag | Naive::Unread => false,
            Naive::Between(from, to) => matches!(address.to_canonical(), IpAddr::V4(v4) if *from <= v4 && v4 <= *to),
            Naive::Block { address: own, bits } => {
                let bits = if own.is_ipv4() { bits + 96 } else { *bits };
                let (own, other) = (as_v6(*own).octets(), as_v6(address).octets());
                (0..bits as usize).all(|bit| (own[bit / 8] ^ other[bit / 8]) & (0x80 >> (bit % 8)) == 0)
            }
        }
    }

    /// Addresses in and around it.
    fn edges(&self) -> Vec<IpAddr> {
        let around = |address: IpAddr| match address {
            IpAddr::V4(v4) => {
                let number = u32::from(v4);
                [number, number.wrapping_sub(1), number.wrapping_add(1), number ^ 0x100].map(|n| IpAddr::V4(n.into())).to_vec()
            }
            IpAddr::V6(v6) => {
                let number = u128::from(v6);
                [number, number.wrapping_sub(1), number.wrapping_add(1), number ^ (1 << 64)].map(|n| IpAddr::V6(n.into())).to_vec()
            }
        };
        match self {
            Naive::Everything | Naive::Tag | Naive::Unread => Vec::new(),
            Naive::Between(from, to) => [around((*from).into()), around((*to).into())].concat(),
            Naive::Block { address, .. } => around(*address),
        }
    }
}

/// A set of ports holds exactly those of a naive reading.
pub(crate) fn ports(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let naive: Vec<Option<(u16, u16)>> = text.lines().map(naive_ports).collect();
    let set = match PortSet::parse(text.lines()) {
        Ok(set) => set,
        Err(why) => {
            assert!(naive.contains(&None), "refused, though every text is one of ports: {why}");
            return is_told(&why, SENTENCE);
        }
    };
    let naive: Vec<(u16, u16)> =
        naive.into_iter().map(|one| one.unwrap_or_else(|| panic!("a text that is no port is read in {text:?}"))).collect();
    for port in naive.iter().take(64).flat_map(|(from, to)| [*from, *to, from.wrapping_sub(1), to.wrapping_add(1)]) {
        assert_eq!(set.contains(port), naive.iter().any(|(from, to)| (*from..=*to).contains(&port)), "{port} in {set}");
    }
    assert_eq!(set.least(), naive.iter().map(|(from, _)| *from).min());
    assert_eq!(set.is_empty(), naive.is_empty());
    assert!(set.len() <= 1 + usize::from(u16::MAX) && set.starts().all(|port| set.contains(port)));
    if !set.is_empty() {
        assert_eq!(PortSet::parse(set.to_string().split(',').map(str::trim)).as_ref(), Ok(&set), "what is written is read as the same");
        assert!(!set.words().is_empty());
    }
}

fn naive_ports(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        let text = text.trim();
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        is_number
            .then(|| text.trim_start_matches('0'))
            .filter(|digits| digits.len() <= 5)
            .and_then(|digits| digits.bytes().try_fold(0u16, |number, digit| number.checked_mul(10)?.checked_add(u16::from(digit - b'0'))))
    };
    if text.trim() == "*" {
        return Some((0, u16::MAX));
    }
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    Some((number(from)?, number(to)?)).filter(|(from, to)| from <= to)
}

/// A time has a year of four digits and is the same when it is written and read again.
pub(crate) fn times(data: &[u8]) {
    for line in text(data).unwrap_or_default().lines() {
        let Some(read) = time::parse(line) else { continue };
        assert!((1..=9999).contains(&read.year()), "{read}");
        assert_eq!(time::parse(&read.to_rfc3339()), Some(read));
        assert_eq!(time::parse(&format!(" {line}\t")), Some(read));
    }
}

/// A duration is one that every time can be moved by, and is the same when it is written and read again.
pub(crate) fn durations(data: &[u8]) {
    for line in text(data).unwrap_or_default().lines() {
        match duration::parse(line) {
            Ok(read) => {
                assert!((0..=3_155_760_000).contains(&read.num_seconds()) && read.subsec_nanos() == 0, "{read}");
                assert_eq!(duration::parse(&duration::format(read)), Ok(read));
                assert!(!duration::spoken(read).is_empty());
            }
            Err(why) => is_told(&why, SENTENCE),
        }
    }
}

/// A name is one of JIT's where a naive reading says so, in every letter case.
pub(crate) fn rule_names(data: &[u8]) {
    for line in text(data).unwrap_or_default().lines() {
        let read = JitRuleName::parse(line);
        assert_eq!(read.map(|name| name.purpose), naive_purpose(line), "{line}");
        assert_eq!(JitRuleName::parse(&line.to_ascii_uppercase()), read);
        assert_eq!(JitRuleName::parse(&format!("{line} ")), None);
    }
}

/// The purpose of a name of JIT's, read from its end.
fn naive_purpose(name: &str) -> Option<JitRulePurpose> {
    let name = name.to_ascii_lowercase();
    let before = name.len().checked_sub(32)?;
    let (begin, hash) = (name.get(..before)?, name.get(before..)?);
    let (separator, purpose) = if begin.ends_with('-') { ("-", JitRulePurpose::Allow) } else { ("_", JitRulePurpose::Deny) };
    let number = begin.strip_suffix(separator)?;
    let number = ["securitycenter-jitrule", "microsoftdefenderforcloud-jitrule"].iter().find_map(|begin| number.strip_prefix(begin))?;
    let number = number.strip_prefix(separator)?;
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) && number.parse::<i32>().is_ok();
    (is_number && hash.bytes().all(|b| b.is_ascii_hexdigit())).then_some(purpose)
}
