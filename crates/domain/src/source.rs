//! Where traffic may come from: IPv4 and IPv6 prefixes, service tags, and the whole internet in every spelling.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::plain::quoted;
use crate::ranges::{Ranges, digits};

/// A set of sources, or of destinations, as the prefixes of a rule describe it. An IPv4 address that is written as
/// an IPv6 one (RFC 4291 section 2.5.5.2) is the IPv4 address.
///
/// What cannot be read is kept as it came: it is covered by nothing, so that a rule which nobody understands is
/// never taken for a harmless one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sources {
    v4: Ranges,
    v6: Ranges,
    tags: BTreeSet<String>,
    unread: BTreeSet<String>,
}

/// Why a text is not a source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is not a source: give an IPv4 or IPv6 address, a range in CIDR notation such as 203.0.113.0/24, or a service tag",
    quoted(.0)
)]
pub struct SourceError(pub String);

/// One readable prefix.
enum Prefix {
    V4(u128, u128),
    V6(u128, u128),
    Tag(String),
    Internet,
}

const V4_END: u128 = u32::MAX as u128;
const V4_IN_V6: u128 = 0xffff << 32;

fn all_v4() -> Ranges {
    Ranges::of([(0, V4_END)])
}

/// The IPv6 addresses that are IPv4 ones in another spelling.
fn v4_in_v6() -> Ranges {
    Ranges::of([(V4_IN_V6, V4_IN_V6 + V4_END)])
}

fn all_v6() -> Ranges {
    Ranges::of([(0, u128::MAX)]).minus(&v4_in_v6())
}

/// IPv4 space that the public internet does not use, from the IANA special-purpose and multicast registries.
const NOT_PUBLIC_V4: [([u8; 4], u32); 10] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([224, 0, 0, 0], 3),
];

impl Sources {
    /// One part in this many of the public address space amounts to the whole internet. No organisation owns a
    /// quarter of it, and a set with a few holes cut out to look narrower still counts.
    pub const INTERNET_PART: u128 = 4;

    /// Reads prefixes as a rule of Azure has them; what cannot be read is kept as it came.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let (mut tags, mut unread) = (BTreeSet::new(), BTreeSet::new());
        for text in texts.into_iter().flat_map(|t| t.split(',')) {
            match Prefix::parse(text) {
                Ok(Prefix::V4(start, end)) => v4.push((start, end)),
                Ok(Prefix::V6(start, end)) => v6.push((start, end)),
                Ok(Prefix::Internet) => v6.push((0, u128::MAX)),
                Ok(Prefix::Tag(tag)) => {
                    tags.insert(tag);
                }
                Err(SourceError(text)) => {
                    unread.insert(text);
                }
            }
        }
        // IPv4 addresses in their IPv6 spelling are IPv4 ones: all of IPv6 is all of IPv4, too.
        let v6 = Ranges::of(v6);
        v4.extend(v6.intersection(&v4_in_v6()).iter().map(|(start, end)| (start & V4_END, end & V4_END)));
        Sources { v4: Ranges::of(v4), v6: v6.minus(&v4_in_v6()), tags, unread }
    }

    /// Reads prefixes that a person gives, and refuses the first that cannot be read, or an empty list.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, SourceError> {
        let sources = Self::read(texts);
        if let Some(text) = sources.unread.first() {
            return Err(SourceError(text.clone()));
        }
        if sources.is_empty() {
            return Err(SourceError(String::new()));
        }
        Ok(sources)
    }

    /// Everything there is.
    pub fn internet() -> Self {
        Sources { v4: all_v4(), v6: all_v6(), ..Sources::default() }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty() && self.tags.is_empty() && self.unread.is_empty()
    }

    /// Whether every part of it could be read.
    pub fn is_understood(&self) -> bool {
        self.unread.is_empty()
    }

    /// Whether there is a service tag in it.
    pub fn names_tags(&self) -> bool {
        !self.tags.is_empty()
    }

    /// Whether the address may be in it: it is, or there is a tag or an unread text of which nobody knows.
    pub fn may_contain(&self, address: IpAddr) -> bool {
        self.contains(address) || !self.tags.is_empty() || !self.unread.is_empty()
    }

    /// Whether the address is in it; what a tag or an unread text holds is not known and does not count.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.v4.contains(u128::from(u32::from(v4))),
            IpAddr::V6(v6) => self.v6.contains(u128::from(v6)),
        }
    }

    /// Whether it is the whole internet, in one prefix or as a union of many: the public IPv4 or the global IPv6
    /// addresses in it are at least one part in [`Self::INTERNET_PART`] of all.
    pub fn amounts_to_internet(&self) -> bool {
        let enough = |part: &Ranges, whole: &Ranges| part.intersection(whole).size() >= whole.size() / Self::INTERNET_PART;
        enough(&self.v4, &public_v4()) || enough(&self.v6, &public_v6())
    }

    /// How many addresses are in it; tags and unread texts count as none.
    pub fn size(&self) -> u128 {
        self.v4.size().saturating_add(self.v6.size())
    }

    fn is_everything(&self) -> bool {
        self.v4 == all_v4() && self.v6 == all_v6()
    }

    /// Everything in either.
    #[must_use]
    pub fn union(&self, other: &Sources) -> Sources {
        Sources {
            v4: self.v4.union(&other.v4),
            v6: self.v6.union(&other.v6),
            tags: self.tags.union(&other.tags).cloned().collect(),
            unread: self.unread.union(&other.unread).cloned().collect(),
        }
    }

    /// Everything in this one that the other does not surely cover. Everything there is covers every tag; nothing
    /// covers what cannot be read.
    #[must_use]
    pub fn minus(&self, other: &Sources) -> Sources {
        let tags = if other.is_everything() { BTreeSet::new() } else { self.tags.difference(&other.tags).cloned().collect() };
        Sources { v4: self.v4.minus(&other.v4), v6: self.v6.minus(&other.v6), tags, unread: self.unread.clone() }
    }

    /// Whether all of the other is surely in this one.
    pub fn covers(&self, other: &Sources) -> bool {
        other.minus(self).is_empty()
    }

    /// The set in as few prefixes as say exactly this: read again, they are the same set.
    pub fn prefixes(&self) -> Vec<String> {
        let names = self.tags.iter().chain(&self.unread).cloned();
        if self.is_everything() {
            return std::iter::once("*".to_owned()).chain(names).collect();
        }
        let v4 = self.v4.iter().flat_map(|(s, e)| blocks(s, e, 32)).map(|(start, bits)| {
            let address = Ipv4Addr::from(u32::try_from(start).unwrap_or(u32::MAX));
            if bits == 32 { address.to_string() } else { format!("{address}/{bits}") }
        });
        let v6 = self.v6.iter().flat_map(|(s, e)| blocks(s, e, 128)).map(|(start, bits)| {
            let address = Ipv6Addr::from(start);
            if bits == 128 { address.to_string() } else { format!("{address}/{bits}") }
        });
        v4.chain(v6).chain(names).collect()
    }
}

fn public_v4() -> Ranges {
    all_v4().minus(&Ranges::of(NOT_PUBLIC_V4.iter().map(|(octets, bits)| {
        let start = u128::from(u32::from(Ipv4Addr::from(*octets)));
        (start, start + (1u128 << (32 - bits)) - 1)
    })))
}

fn public_v6() -> Ranges {
    // 2000::/3 is all global unicast space that IANA has opened (RFC 4291).
    Ranges::of([(0x2000_0000_0000_0000_0000_0000_0000_0000, 0x3fff_ffff_ffff_ffff_ffff_ffff_ffff_ffff)])
}

/// A range as CIDR blocks: their first numbers and prefix lengths.
fn blocks(start: u128, end: u128, width: u32) -> Vec<(u128, u32)> {
    let mut blocks = Vec::new();
    let mut at = start;
    loop {
        // Never in one block: 0.0.0.0/0 and ::/0 are read as everything, tags and the other family too.
        let mut free_bits = at.trailing_zeros().min(width - 1);
        let last = |bits: u32| at + ((1u128 << bits) - 1);
        while last(free_bits) > end {
            free_bits -= 1;
        }
        blocks.push((at, width - free_bits));
        if last(free_bits) >= end {
            return blocks;
        }
        at = last(free_bits) + 1;
    }
}

impl Prefix {
    fn parse(text: &str) -> Result<Prefix, SourceError> {
        let text = text.trim();
        let wrong = || SourceError(text.to_owned());
        if ["*", "any", "internet", "0.0.0.0/0", "::/0"].iter().any(|all| text.eq_ignore_ascii_case(all)) {
            return Ok(Prefix::Internet);
        }
        if let Some((start, end)) = text.split_once('-')
            && let (Ok(start), Ok(end)) = (start.trim().parse::<Ipv4Addr>(), end.trim().parse::<Ipv4Addr>())
        {
            return if start <= end { Ok(Prefix::V4(u32::from(start).into(), u32::from(end).into())) } else { Err(wrong()) };
        }
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(digits::<u32>(bits).ok_or_else(wrong)?)),
            None => (text, None),
        };
        match (address.parse::<IpAddr>(), bits) {
            (Ok(IpAddr::V4(v4)), bits) => {
                let bits = bits.unwrap_or(32);
                let (start, end) = block(u32::from(v4).into(), bits, 32).ok_or_else(wrong)?;
                Ok(Prefix::V4(start, end))
            }
            (Ok(IpAddr::V6(v6)), bits) => {
                let bits = bits.unwrap_or(128);
                let (start, end) = block(u128::from(v6), bits, 128).ok_or_else(wrong)?;
                Ok(Prefix::V6(start, end))
            }
            (Err(_), None) if is_tag(text) => Ok(Prefix::Tag(text.to_ascii_lowercase())),
            (Err(_), _) => Err(wrong()),
        }
    }
}

/// First and last number of the block of `bits` that holds `number`; bits of the number behind the prefix do not
/// count, as Azure ignores them.
fn block(number: u128, bits: u32, width: u32) -> Option<(u128, u128)> {
    let free = width.checked_sub(bits)?;
    let mask = if free == 128 { u128::MAX } else { (1u128 << free) - 1 };
    Some((number & !mask, number | mask))
}

fn is_tag(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-_".contains(c))
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.prefixes().join(", "))
    }
}

impl Serialize for Sources {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.prefixes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Sources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        Ok(Sources::read(texts.iter().map(String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(texts: &[&str]) -> Sources {
        Sources::read(texts.iter().copied())
    }

    #[test]
    fn many_sources_are_read_compared_and_written() {
        let texts: Vec<String> = (0..100_000u32).map(|n| Ipv4Addr::from(0x0b00_0000 + 2 * n).to_string()).collect();
        let all = Sources::read(texts.iter().map(String::as_str));
        let half = Sources::read(texts[..50_000].iter().map(String::as_str));
        assert_eq!((all.size(), half.size(), all.minus(&half).size()), (100_000, 50_000, 50_000));
        assert!(all.covers(&half) && !half.covers(&all) && !all.amounts_to_internet());
        assert_eq!(all.prefixes(), texts);
    }

    #[test]
    fn the_whole_internet_is_known_in_every_spelling() {
        for text in [
            "*",
            "Any",
            "ANY",
            "internet",
            "Internet",
            " 0.0.0.0/0 ",
            "::/0",
            "0.0.0.0/00",
            "1.2.3.4/0",
            "0.0.0.0-255.255.255.255",
            "::ffff:0:0/96",
            "2000::/3",
            "0.0.0.0/1,128.0.0.0/1",
        ] {
            assert!(of(&[text]).amounts_to_internet(), "{text}");
        }
    }

    #[test]
    fn a_union_of_smaller_ranges_that_amounts_to_the_internet_is_the_internet() {
        assert!(of(&["0.0.0.0/1", "128.0.0.0/1"]).amounts_to_internet());
        let hundred: Vec<String> = (0..128).map(|n| format!("{}.0.0.0/7", n * 2)).collect();
        assert!(Sources::read(hundred.iter().map(String::as_str)).amounts_to_internet());
        let with_a_hole = Sources::internet().minus(&of(&["198.51.100.7"]));
        assert!(with_a_hole.amounts_to_internet());
        assert!(!of(&["64.0.0.0/4", "80.0.0.0/4"]).amounts_to_internet());
    }

    #[test]
    fn a_quarter_of_public_space_is_the_line() {
        // 221 of 256 first octets are public but for ranges of less than one; a quarter is a bit over 55.
        let first_octets = |last: u32| Sources::read([format!("11.0.0.0-{last}.255.255.255")].iter().map(String::as_str));
        assert!(!first_octets(65).amounts_to_internet());
        assert!(first_octets(66).amounts_to_internet());
        // To the address: the ten ranges of NOT_PUBLIC_V4 leave 3_702_259_456, and this many begin at 11.0.0.0.
        assert!(!of(&["11.0.0.0-66.42.255.190"]).amounts_to_internet());
        assert!(of(&["11.0.0.0-66.42.255.191"]).amounts_to_internet());
        assert!(!of(&["2000::/6"]).amounts_to_internet());
        assert!(of(&["2000::/5"]).amounts_to_internet());
    }

    #[test]
    fn private_space_is_not_the_internet() {
        assert!(!of(&["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "224.0.0.0/3"]).amounts_to_internet());
        assert!(!of(&["VirtualNetwork"]).amounts_to_internet());
        assert!(!of(&["fc00::/7"]).amounts_to_internet());
    }

    #[test]
    fn sources_are_read_as_azure_writes_them() {
        let sources = of(&["10.0.0.9/24", "203.0.113.4", "AzureCloud.westeurope", "2001:db8::/32", "2001:db8::1"]);
        assert_eq!(sources.prefixes(), ["10.0.0.0/24", "203.0.113.4", "2001:db8::/32", "azurecloud.westeurope"]);
        assert_eq!(sources.to_string(), "10.0.0.0/24, 203.0.113.4, 2001:db8::/32, azurecloud.westeurope");
        assert!(sources.contains("10.0.0.255".parse().unwrap()));
        assert!(sources.contains("2001:db8:1::1".parse().unwrap()));
        assert!(!sources.contains("10.0.1.0".parse().unwrap()));
        assert_eq!(sources.size(), 257 + (1 << 96));
        assert_eq!(Sources::internet().prefixes(), ["*"]);
        assert_eq!(of(&["10.0.0.5-10.0.0.8"]).prefixes(), ["10.0.0.5", "10.0.0.6/31", "10.0.0.8"]);
    }

    #[test]
    fn what_cannot_be_read_is_kept_and_covered_by_nothing() {
        for text in ["300.1.1.1", "10.0.0.0/33", "10.0.0.0/x", "2001:db8::/129", "what is this?", "10.0.0.9-10.0.0.1", "", "-1"] {
            let sources = of(&[text]);
            assert!(!sources.is_understood(), "{text}");
            assert!(!sources.is_empty());
            assert!(!Sources::internet().covers(&sources), "{text}");
            assert_eq!(Sources::parse([text]), Err(SourceError(text.to_owned())));
        }
        assert!(Sources::parse([]).is_err());
        assert!(Sources::parse(["10.0.0.1"]).unwrap().is_understood());
        let odd = Sources::internet().union(&of(&["??"]));
        assert_eq!(odd.prefixes(), ["*", "??"]);
    }

    #[test]
    fn tags_are_covered_by_themselves_and_by_everything() {
        let tag = of(&["VirtualNetwork"]);
        assert!(tag.covers(&of(&["virtualnetwork"])));
        assert!(Sources::internet().covers(&tag));
        assert!(!of(&["0.0.0.0/1", "128.0.0.0/1"]).covers(&tag));
        assert!(!tag.covers(&of(&["10.0.0.1"])));
    }

    #[test]
    fn sources_survive_json() {
        for texts in [
            &["10.0.0.0/24", "2001:db8::/32", "Storage", "??"][..],
            &["0.0.0.0/1", "128.0.0.0/1"],
            &["::/1", "8000::/1"],
            &["*", "VirtualNetwork"],
            &["*", "??"],
            &["::ffff:0:0/96"],
            &[],
        ] {
            let sources = of(texts);
            let text = serde_json::to_string(&sources).unwrap();
            assert_eq!(serde_json::from_str::<Sources>(&text).unwrap(), sources, "{text}");
        }
        assert_eq!(of(&["0.0.0.0/1", "128.0.0.0/1"]).prefixes(), ["0.0.0.0/1", "128.0.0.0/1"]);
    }

    #[test]
    fn an_ipv4_address_is_the_same_in_its_ipv6_spelling() {
        assert_eq!(of(&["::ffff:203.0.113.4"]), of(&["203.0.113.4"]));
        assert_eq!(of(&["::ffff:203.0.113.0/120"]), of(&["203.0.113.0/24"]));
        assert!(of(&["203.0.113.4"]).contains("::ffff:203.0.113.4".parse().unwrap()));
        // A prefix above them holds all of them, and what lies around them.
        let above = of(&["::/80"]);
        assert!(above.amounts_to_internet() && above.contains("1.2.3.4".parse().unwrap()) && above.contains("::1".parse().unwrap()));
        assert!(above.covers(&of(&["0.0.0.0/1", "128.0.0.0/1", "::1"])) && !above.covers(&of(&["::1:0:0:0"])));
        assert!(!of(&["::/96"]).contains("1.2.3.4".parse().unwrap()));
    }

    #[test]
    fn only_all_addresses_of_both_families_are_everything() {
        assert_eq!(of(&["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"]), Sources::internet());
        let all_but = |hole: &str| Sources::internet().minus(&of(&[hole]));
        for hole in ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::", "255.255.255.255", "0.0.0.0"] {
            assert_ne!(all_but(hole).prefixes()[0], "*", "{hole}");
            assert!(!all_but(hole).covers(&of(&["VirtualNetwork"])), "{hole}");
        }
    }

    #[test]
    fn what_nobody_knows_may_contain_any_address() {
        let address: IpAddr = "10.0.0.4".parse().unwrap();
        for (text, may) in [("10.0.0.4", true), ("10.0.0.5", false), ("VirtualNetwork", true), ("??", true)] {
            assert_eq!(of(&[text]).may_contain(address), may, "{text}");
        }
        assert!(!Sources::default().may_contain(address));
    }

    fn some_v4() -> impl Strategy<Value = Sources> {
        proptest::collection::vec((any::<u32>(), 0u32..=32), 0..5).prop_map(|list| {
            Sources::read(list.iter().map(|(a, b)| format!("{}/{b}", Ipv4Addr::from(*a))).collect::<Vec<_>>().iter().map(String::as_str))
        })
    }

    proptest! {
        #[test]
        fn what_is_left_after_minus_and_what_was_taken_make_the_whole(a in some_v4(), b in some_v4()) {
            let left = a.minus(&b);
            prop_assert!(a.covers(&left));
            prop_assert!(left.union(&b).covers(&a));
            prop_assert!(a.union(&b).covers(&a) && a.union(&b).covers(&b));
            prop_assert!(b.covers(&a.minus(&left)));
        }

        #[test]
        fn prefixes_describe_the_same_set(a in some_v4(), host in any::<u32>()) {
            let texts = a.prefixes();
            let again = Sources::read(texts.iter().map(String::as_str));
            prop_assert_eq!(&again, &a);
            let address = IpAddr::V4(Ipv4Addr::from(host));
            prop_assert_eq!(again.contains(address), a.contains(address));
        }
    }
}
