//! Named ranges of addresses: what networks.yaml says.

use std::collections::BTreeMap;

use portcullis_domain::source::Sources;

use crate::files::NETWORKS;
use crate::mistake::Mistake;
use crate::yaml::{Reading, Stands, Text, holds_others};

/// The networks that rules may name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    networks: BTreeMap<String, Sources>,
    /// Whether there may be networks that cannot be read.
    unread: bool,
}

impl Networks {
    /// Reads the file; every mistake is told. An absent file names no network.
    pub(crate) fn read(text: Option<&str>) -> (Self, Vec<Mistake>) {
        Self::read_as(NETWORKS, text)
    }

    fn read_as(name: &str, text: Option<&str>) -> (Self, Vec<Mistake>) {
        let Some(text) = text else { return (Networks::default(), Vec::new()) };
        let mut reading = Reading::of(name, text);
        let Some(root) = reading.root() else { return (Networks { unread: true, ..Networks::default() }, reading.mistakes) };
        let mut networks = BTreeMap::new();
        let file = reading.sections("networks.yaml", &root, &["networks"]);
        let given = file.get("networks").map(|node| reading.named("`networks`", node)).unwrap_or_default();
        for (network, ranges) in given {
            if matches!(&ranges.value, Stands::List(nodes) if nodes.is_empty()) {
                let what = format!("network `{}` has no ranges, so that nothing comes from it", network.value);
                let wrong = reading.mistake(ranges.referenced, what).cured("name its ranges, or take it away").as_warning();
                reading.mistakes.push(wrong);
            }
            let ranges = reading.texts(&format!("`{}`", network.value), ranges);
            networks.insert(network.value.clone(), read_network(&mut reading, &network.value, &ranges));
        }
        let unread = !root.value.may_hold_names() || file.get("networks").is_some_and(|node| !node.value.may_hold_names());
        // Another section may be meant to hold them, which is told.
        let unread = unread || holds_others(&root, &["networks"]);
        (Networks { networks, unread }, reading.mistakes)
    }

    /// The same where the file says more than can be read of it.
    pub(crate) fn read_in_part(self) -> Self {
        Networks { unread: true, ..self }
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.networks.keys().map(String::as_str)
    }

    /// Whether rules may name this network. While the file cannot be read it may hold any: that it cannot be read is told.
    pub(crate) fn may_name(&self, network: &str) -> bool {
        self.unread || self.networks.contains_key(network)
    }

    /// The networks that hold all of these sources; none where there is no source.
    pub fn holding(&self, sources: &Sources) -> impl Iterator<Item = &str> {
        self.networks.iter().filter(|(_, network)| !sources.is_empty() && network.covers(sources)).map(|(name, _)| name.as_str())
    }
}

fn read_network(reading: &mut Reading<'_>, network: &str, ranges: &[Text]) -> Sources {
    let mut whole = Sources::default();
    for range in ranges {
        match read_range(&range.value) {
            Ok(read) => {
                whole = whole.union(&read);
                if range.value.contains(':') {
                    let what = format!("`{}` is never met: JIT takes no IPv6 addresses", range.value);
                    let wrong = reading.mistake(range.at, what).cured("take it away, or write the IPv4 addresses that people have there");
                    reading.mistakes.push(wrong.as_warning());
                }
            }
            Err((what, cure)) => reading.wrong_but(range.at, what, cure),
        }
    }
    if let Some(last) = ranges.last().filter(|_| whole.amounts_to_internet()) {
        let what = format!("network `{network}` amounts to the whole internet");
        reading.wrong_but(last.at, what, "name only the ranges that people really come from");
    }
    whole
}

/// A range of addresses in CIDR notation, or what is wrong with it and how to write it.
fn read_range(text: &str) -> Result<Sources, (String, String)> {
    let cidr = text.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':') && text.contains(['.', ':']) && !text.contains(['-', ',']);
    let range = Sources::parse([text]).ok().filter(|_| cidr);
    let Some(range) = range else {
        let example = "write an address such as 203.0.113.4 or a range such as 203.0.113.0/24";
        return Err((format!("`{text}` is not a range of addresses"), example.to_owned()));
    };
    let written = text.split('/').next().unwrap_or_default();
    let starts = range.prefixes().into_iter().next().unwrap_or_default();
    if starts.split('/').next() != Some(written) && !range.amounts_to_internet() && !written.contains(':') {
        return Err((
            format!("`{text}` is not the start of a range"),
            format!("write `{starts}` for the range, or `{written}` for the address"),
        ));
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::RuleFiles;
    use crate::mistake::{Colours, Weight};

    #[test]
    fn a_network_holds_sources_only_when_it_holds_all_of_them() {
        let (networks, mistakes) = Networks::read(Some(
            "networks:\n  office: [203.0.113.0/25, 198.51.100.7]\n  all: [203.0.113.0/24, 198.51.100.0/24, \"2001:db8::/32\"]\n  none: []\n",
        ));
        let told: Vec<(&str, Weight)> = mistakes.iter().map(|mistake| (mistake.what.as_str(), mistake.weight)).collect();
        assert_eq!(
            told,
            [
                ("`2001:db8::/32` is never met: JIT takes no IPv6 addresses", Weight::Warning),
                ("network `none` has no ranges, so that nothing comes from it", Weight::Warning)
            ]
        );
        let holding = |texts: &[&str]| networks.holding(&Sources::read(texts.iter().copied())).collect::<Vec<_>>().join(" ");
        assert_eq!(holding(&["203.0.113.4"]), "all office");
        assert_eq!(holding(&["203.0.113.4", "198.51.100.7"]), "all office");
        assert_eq!(holding(&["203.0.113.4", "203.0.113.200"]), "all");
        assert_eq!(holding(&["203.0.113.4", "192.0.2.1"]), "");
        assert_eq!(holding(&["2001:db8::1"]), "all");
        assert_eq!(holding(&["AzureCloud"]), "");
        assert_eq!(holding(&["odd?"]), "");
        assert_eq!(holding(&[]), "");
        assert_eq!(networks.names().collect::<Vec<_>>(), ["all", "none", "office"]);
    }

    #[test]
    fn every_range_that_is_none_is_told_with_its_place() {
        let text = "networks:\n  office:\n    - 203.0.113.4/24\n    - 203.0.113.0/33\n    - AzureCloud\n    - 10.0.0.1-10.0.0.9\n  most: [0.0.0.0/2, 128.0.0.0/1]\n  any: [\"*\"]\n";
        let files = RuleFiles::of([(NETWORKS, text)]);
        let (_, mistakes) = Networks::read(Some(text));
        let shown: Vec<String> = mistakes.iter().map(|mistake| mistake.shown(&files, "", Colours::Plain)).collect();
        insta::assert_snapshot!(shown.join("\n"), @r#"
        error: `203.0.113.4/24` is not the start of a range
         --> networks.yaml:3:7
          |
        3 |     - 203.0.113.4/24
          |       ^^^^^^^^^^^^^^
          |
          = help: write `203.0.113.0/24` for the range, or `203.0.113.4` for the address
        error: `203.0.113.0/33` is not a range of addresses
         --> networks.yaml:4:7
          |
        4 |     - 203.0.113.0/33
          |       ^^^^^^^^^^^^^^
          |
          = help: write an address such as 203.0.113.4 or a range such as 203.0.113.0/24
        error: `AzureCloud` is not a range of addresses
         --> networks.yaml:5:7
          |
        5 |     - AzureCloud
          |       ^^^^^^^^^^
          |
          = help: write an address such as 203.0.113.4 or a range such as 203.0.113.0/24
        error: `10.0.0.1-10.0.0.9` is not a range of addresses
         --> networks.yaml:6:7
          |
        6 |     - 10.0.0.1-10.0.0.9
          |       ^^^^^^^^^^^^^^^^^
          |
          = help: write an address such as 203.0.113.4 or a range such as 203.0.113.0/24
        error: network `most` amounts to the whole internet
         --> networks.yaml:7:21
          |
        7 |   most: [0.0.0.0/2, 128.0.0.0/1]
          |                     ^^^^^^^^^^^
          |
          = help: name only the ranges that people really come from
        error: `*` is not a range of addresses
         --> networks.yaml:8:9
          |
        8 |   any: ["*"]
          |         ^^^
          |
          = help: write an address such as 203.0.113.4 or a range such as 203.0.113.0/24
        "#);
    }
}
