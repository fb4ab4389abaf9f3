//! TCP and UDP ports, and sets of them as Azure writes them in rules.

use std::fmt;

use crate::plain::quoted;
use crate::ranges::{Ranges, digits};

/// A set of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet(Ranges);

/// Why a text is not a port, a range of ports or `*`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a port (0 to 65535), a range such as 1000-1100, or *", quoted(.0))]
pub struct PortError(pub String);

impl PortSet {
    /// One port.
    pub fn one(port: u16) -> Self {
        PortSet(Ranges::of([(u128::from(port), u128::from(port))]))
    }

    /// Every port.
    pub fn all() -> Self {
        PortSet(Ranges::of([(0, u128::from(u16::MAX))]))
    }

    /// The ports of texts such as `22`, `1000-1100` and `*`.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, PortError> {
        let mut ranges = Vec::new();
        for text in texts {
            ranges.push(Self::parse_one(text)?);
        }
        Ok(PortSet(Ranges::of(ranges)))
    }

    fn parse_one(text: &str) -> Result<(u128, u128), PortError> {
        let wrong = || PortError(text.to_owned());
        let number = |part: &str| digits::<u16>(part.trim()).map(u128::from).ok_or_else(wrong);
        if text.trim() == "*" {
            return Ok((0, u128::from(u16::MAX)));
        }
        let (start, end) = match text.split_once('-') {
            Some((start, end)) => (number(start)?, number(end)?),
            None => (number(text)?, number(text)?),
        };
        if start > end {
            return Err(wrong());
        }
        Ok((start, end))
    }

    /// The ports as people say them, such as `port 22` or `ports 22, 80`.
    pub fn words(&self) -> String {
        match self.len() {
            1 => format!("port {self}"),
            _ if *self == Self::all() => "every port".to_owned(),
            _ => format!("ports {self}"),
        }
    }

    /// The ports of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        PortSet(Ranges::of(self.0.iter().chain(other.0.iter())))
    }

    /// Whether the port is in it.
    pub fn contains(&self, port: u16) -> bool {
        self.0.contains(u128::from(port))
    }

    /// The least port, if there is any.
    pub fn least(&self) -> Option<u16> {
        self.starts().next()
    }

    /// The least port of each of its ranges.
    pub fn starts(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().filter_map(|(start, _)| u16::try_from(start).ok())
    }

    /// How many ports are in it.
    pub fn len(&self) -> usize {
        usize::try_from(self.0.size()).unwrap_or(usize::MAX)
    }

    /// Whether there is no port in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> =
            self.0.iter().map(|(start, end)| if start == end { start.to_string() } else { format!("{start}-{end}") }).collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_azure_writes_them() {
        let set = PortSet::parse(["22", "1000-1100", " 3389 "]).unwrap();
        assert_eq!(set.to_string(), "22, 1000-1100, 3389");
        assert!(set.contains(1050) && !set.contains(1101) && !set.contains(21));
        assert_eq!((set.least(), set.len()), (Some(22), 103));
        assert_eq!(set.starts().collect::<Vec<_>>(), [22, 1000, 3389]);
        assert_eq!(PortSet::parse(["*"]).unwrap(), PortSet::all());
        assert_eq!(PortSet::all().len(), 65536);
        assert_eq!(PortSet::one(22), PortSet::parse(["22-22"]).unwrap());
        assert!(PortSet::parse([]).unwrap().is_empty());
        assert!(!PortSet::one(0).is_empty());
        assert_eq!(PortSet::default().least(), None);
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in ["", "ssh", "65536", "-1", "10-5", "1-2-3", "22,23"] {
            assert_eq!(PortSet::parse([text]), Err(PortError(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn ports_are_told_as_people_say_them() {
        for (texts, words) in
            [(vec!["22"], "port 22"), (vec!["22", "3389"], "ports 22, 3389"), (vec!["20-25"], "ports 20-25"), (vec!["*"], "every port")]
        {
            assert_eq!(PortSet::parse(texts).unwrap().words(), words);
        }
    }
}
