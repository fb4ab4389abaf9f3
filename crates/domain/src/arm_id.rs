//! ARM resource ids. Azure gives the same resource in different letter cases, so ids compare without case and
//! are never used as a key in the form they came in.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::plain::{is_hidden, quoted};

/// Why a text is not an ARM id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArmIdError {
    /// It does not begin with `/subscriptions/{id}` or has empty segments.
    #[error("`{}` is not an ARM resource id: it must look like /subscriptions/…/resourceGroups/…/providers/…", quoted(.0))]
    NotAnId(String),
    /// It is longer than any id of Azure.
    #[error("an ARM resource id of {0} characters is longer than the {limit} that Azure allows", limit = ArmId::LONGEST)]
    TooLong(usize),
    /// It is an id of another kind of resource.
    #[error("`{}` is not the id of a {expected}", quoted(.id))]
    OtherType {
        /// The id.
        id: String,
        /// The type that was expected.
        expected: &'static str,
    },
}

/// An ARM resource id: shown as it came, compared without letter case.
#[derive(Clone)]
pub struct ArmId(Arc<str>);

impl ArmId {
    /// No id of Azure is longer; a longer text is refused before anything else looks at it.
    pub const LONGEST: usize = 2048;

    /// No name in an id of Azure is longer (documentation of naming rules); the store's names are made of such names.
    pub const LONGEST_NAME: usize = 260;

    /// Reads an id. A trailing slash is dropped.
    pub fn parse(text: &str) -> Result<Self, ArmIdError> {
        if text.len() > Self::LONGEST {
            return Err(ArmIdError::TooLong(text.len()));
        }
        let trimmed = text.trim_end_matches('/');
        let not_an_id = || ArmIdError::NotAnId(text.to_owned());
        let rest = trimmed.strip_prefix('/').ok_or_else(not_an_id)?;
        let segments: Vec<&str> = rest.split('/').collect();
        let sized = |s: &str| (1..=Self::LONGEST_NAME).contains(&s.len());
        let plain = |s: &str| sized(s) && s != "." && s != ".." && !s.chars().any(|c| matches!(c, '?' | '#' | '\\' | '%') || is_hidden(c));
        let begins = segments.first().is_some_and(|s| s.eq_ignore_ascii_case("subscriptions"));
        if !begins || segments.len() < 2 || !segments.len().is_multiple_of(2) || !segments.iter().all(|s| plain(s)) {
            return Err(not_an_id());
        }
        Ok(ArmId(Arc::from(trimmed)))
    }

    /// The id in lower case: the only form to be used as a key.
    pub fn key(&self) -> String {
        lower(&self.0)
    }

    /// The subscription's GUID in lower case.
    pub fn subscription(&self) -> String {
        lower(self.0.split('/').nth(2).unwrap_or_default())
    }

    /// The resource group in lower case, if the id lies in one.
    pub fn resource_group(&self) -> Option<String> {
        let mut segments = self.0.split('/').skip(3);
        let is_in_one = segments.next().is_some_and(|segment| segment.eq_ignore_ascii_case("resourceGroups"));
        segments.next().filter(|_| is_in_one).map(lower)
    }

    /// The resource type in lower case, such as `microsoft.network/networksecuritygroups/securityrules`; empty for
    /// a subscription or a resource group.
    pub fn resource_type(&self) -> String {
        let key = self.key();
        let segments: Vec<&str> = key.split('/').collect();
        let Some(at) = segments.iter().rposition(|s| *s == "providers") else {
            return String::new();
        };
        let mut parts = segments[at + 1..].iter();
        let mut kind = parts.next().map(|s| (*s).to_owned()).unwrap_or_default();
        for segment in parts.step_by(2) {
            kind.push('/');
            kind.push_str(segment);
        }
        kind
    }

    /// The last segment, as it came.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The id without its last type and name: the resource that this one lies in.
    pub fn parent(&self) -> Option<ArmId> {
        let cut = self.0.rfind('/')?;
        let cut = self.0[..cut].rfind('/')?;
        ArmId::parse(&self.0[..cut]).ok()
    }
}

impl fmt::Display for ArmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ArmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ArmId {
    type Err = ArmIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ArmId::parse(text)
    }
}

impl PartialEq for ArmId {
    fn eq(&self, other: &Self) -> bool {
        // From their ends, since ids of one estate begin alike.
        let mut both = self.0.bytes().rev().zip(other.0.bytes().rev());
        let is_same = self.0.len() == other.0.len() && both.all(|(mine, theirs)| mine.eq_ignore_ascii_case(&theirs));
        is_same || (!self.0.is_ascii() && !other.0.is_ascii() && self.0.chars().map(folded).eq(other.0.chars().map(folded)))
    }
}

impl Eq for ArmId {}

impl Hash for ArmId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut piece = [0; 32];
        let mut write = |text: &[u8]| {
            for bytes in text.chunks(piece.len()) {
                let piece = &mut piece[..bytes.len()];
                piece.copy_from_slice(bytes);
                piece.make_ascii_lowercase();
                state.write(piece);
            }
        };
        if self.0.is_ascii() {
            write(self.0.as_bytes())
        } else {
            write(self.key().as_bytes())
        }
        // Ends it, as a text's hash does, or two ids after each other would hash like others that are cut elsewhere.
        state.write_u8(0xFF);
    }
}

impl Ord for ArmId {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mine, theirs) = (self.0.as_bytes(), other.0.as_bytes());
        let pieces = mine.as_chunks::<16>().0.iter().zip(theirs.as_chunks::<16>().0);
        // Ids of one estate begin alike, and mostly in letter case too.
        let alike = 16 * pieces.take_while(|(mine, theirs)| mine == theirs).count();
        let (mine, theirs) = (&mine[alike..], &theirs[alike..]);
        if mine.is_ascii() && theirs.is_ascii() {
            let lower = u8::to_ascii_lowercase;
            return mine.iter().map(lower).cmp(theirs.iter().map(lower));
        }
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for ArmId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for ArmId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ArmId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        ArmId::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// A text as Azure compares it, in lower case. Names of resource groups may have letters of any alphabet (documentation of naming
/// rules); which of them are two cases of one is told by their upper case, letter by letter, as .NET's `OrdinalIgnoreCase` does, and none
/// is one of ASCII's.
pub fn lower(text: &str) -> String {
    if text.is_ascii() { text.to_ascii_lowercase() } else { text.chars().map(folded).collect() }
}

fn folded(letter: char) -> char {
    if letter.is_ascii() {
        return letter.to_ascii_lowercase();
    }
    let upper = alone(letter.to_uppercase()).unwrap_or(letter);
    let is_its_own = |lower: &char| alone(lower.to_uppercase()) == Some(upper);
    alone(upper.to_lowercase()).filter(is_its_own).unwrap_or(upper)
}

/// The one letter that this is, if it is one and none of ASCII's.
fn alone(mut letters: impl Iterator<Item = char>) -> Option<char> {
    let first = letters.next().filter(|letter| !letter.is_ascii());
    first.filter(|_| letters.next().is_none())
}

/// Whether a text is a GUID in its usual form, in any letter case.
pub fn is_guid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal $(, stored: $also:literal, never: $suffix:expr)?) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(ArmId);

        impl $name {
            /// The resource type of these ids, in lower case.
            pub const TYPE: &'static str = $kind;

            /// Reads an id and refuses one of another type.
            pub fn parse(text: &str) -> Result<Self, ArmIdError> {
                Self::from_arm_id(ArmId::parse(text)?)
            }

            /// Takes an id of this type and refuses one of another.
            pub fn from_arm_id(id: ArmId) -> Result<Self, ArmIdError> {
                if id.resource_type() != Self::TYPE || id.resource_group().is_none() {
                    return Err(ArmIdError::OtherType { id: id.to_string(), expected: Self::TYPE });
                }
                $(if id.name().to_ascii_lowercase().ends_with($suffix) {
                    return Err(ArmIdError::NotAnId(id.to_string()));
                })?
                Ok($name(id))
            }

            /// The id itself.
            pub fn arm_id(&self) -> &ArmId {
                &self.0
            }

            /// The resource's name, as it came.
            pub fn name(&self) -> &str {
                self.0.name()
            }

            /// The resource group in lower case.
            pub fn resource_group(&self) -> String {
                self.0.resource_group().unwrap_or_default()
            }

            /// The subscription's GUID in lower case.
            pub fn subscription(&self) -> String {
                self.0.subscription()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = ArmIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let id = ArmId::deserialize(deserializer)?;
                $(if id.resource_type() == $also && id.resource_group().is_some() {
                    return Ok($name(id));
                })?
                Self::from_arm_id(id).map_err(serde::de::Error::custom)
            }
        }
    };
}

typed_id!(
    /// A virtual machine; or, where rules of JIT lead to none any more, the group that they are in ([`VmId::of_orphans`]). No
    /// text of somebody else's is read as the latter, nor has a machine its key: Azure gives none a name with a tilde.
    VmId, "microsoft.compute/virtualmachines", stored: "microsoft.network/networksecuritygroups", never: OF_A_GROUP
);
typed_id!(
    /// A network interface.
    NicId, "microsoft.network/networkinterfaces"
);
typed_id!(
    /// A subnet of a virtual network.
    SubnetId, "microsoft.network/virtualnetworks/subnets"
);
typed_id!(
    /// A network security group.
    NsgId, "microsoft.network/networksecuritygroups"
);
typed_id!(
    /// A security rule of a network security group.
    RuleId, "microsoft.network/networksecuritygroups/securityrules"
);
typed_id!(
    /// A JIT network access policy.
    PolicyId, "microsoft.security/locations/jitnetworkaccesspolicies"
);
typed_id!(
    /// A Log Analytics workspace, in which Microsoft Sentinel keeps its incidents.
    WorkspaceId, "microsoft.operationalinsights/workspaces"
);

impl RuleId {
    /// The group that the rule belongs to.
    pub fn nsg(&self) -> Result<NsgId, ArmIdError> {
        let parent = self.0.parent().ok_or_else(|| ArmIdError::NotAnId(self.0.to_string()))?;
        NsgId::from_arm_id(parent)
    }
}

impl VmId {
    /// What stands for the rules of a group that lead to no VM: they are looked at as if the group were one.
    pub fn of_orphans(nsg: &NsgId) -> Self {
        VmId(nsg.0.clone())
    }

    /// The group whose orphans it stands for, if it is no VM.
    pub fn orphans_of(&self) -> Option<NsgId> {
        NsgId::from_arm_id(self.0.clone()).ok()
    }

    /// The key under which the store keeps what is known of it: `subscription/group/name` in lower case. The name of a group
    /// ends with `~nsg`, as no VM's does.
    pub fn key(&self) -> String {
        let kind = if self.orphans_of().is_some() { OF_A_GROUP } else { "" };
        format!("{}/{}/{}{kind}", self.subscription(), self.resource_group(), lower(self.name()))
    }

    /// The VM of a store key, as [`Self::key`] makes it.
    pub fn from_key(key: &str) -> Result<Self, ArmIdError> {
        let parts: Vec<&str> = key.split('/').collect();
        let [subscription, group, name] = parts.as_slice() else {
            return Err(ArmIdError::NotAnId(key.to_owned()));
        };
        let group = format!("/subscriptions/{subscription}/resourceGroups/{group}/providers");
        match name.strip_suffix(OF_A_GROUP) {
            Some(name) => Ok(VmId::of_orphans(&NsgId::parse(&format!("{group}/Microsoft.Network/networkSecurityGroups/{name}"))?)),
            None => VmId::parse(&format!("{group}/Microsoft.Compute/virtualMachines/{name}")),
        }
    }
}

/// What the key of a group's orphans ends with. No name of Azure has a tilde (documentation of naming rules).
const OF_A_GROUP: &str = "~nsg";

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use proptest::prelude::*;

    use super::*;

    const VM: &str =
        "/subscriptions/20FF7FC3-e762-44dd-bd96-b71116dcdc23/resourceGroups/myRg1/providers/Microsoft.Compute/virtualMachines/vm1";

    #[test]
    fn a_groups_orphans_have_a_key_of_their_own_and_no_text_is_read_as_one() {
        let nsg = "/subscriptions/S/resourceGroups/Rg/providers/Microsoft.Network/networkSecurityGroups/Web";
        let orphans = VmId::of_orphans(&NsgId::parse(nsg).unwrap());
        assert_eq!((orphans.key().as_str(), orphans.to_string().as_str()), ("s/rg/web~nsg", nsg));
        assert_eq!(VmId::from_key(&orphans.key()).unwrap(), orphans);
        assert_eq!(orphans.orphans_of().unwrap(), NsgId::parse(nsg).unwrap());
        let kept: VmId = serde_json::from_str(&serde_json::to_string(&orphans).unwrap()).unwrap();
        assert_eq!(kept, orphans);
        assert!(VmId::parse(nsg).is_err() && VmId::parse(VM).unwrap().orphans_of().is_none());
        assert!(serde_json::from_str::<VmId>(&format!("\"{nsg}/securityRules/r\"")).is_err());
        for name in ["web~nsg", "WEB~NSG", "~nsg"] {
            let machine = VM.replace("/vm1", &format!("/{name}"));
            assert!(VmId::parse(&machine).is_err(), "{name} would have the key of a group");
        }
    }

    #[test]
    fn ids_compare_without_letter_case_and_are_shown_as_they_came() {
        let one = VmId::parse(VM).unwrap();
        let other = VmId::parse(&VM.to_uppercase().replace("/SUBSCRIPTIONS", "/Subscriptions")).unwrap();
        assert_eq!((&one, one.cmp(&other)), (&other, Ordering::Equal));
        assert_eq!(one.to_string(), VM);
        assert_eq!(one.key(), other.key());
        assert_eq!(one.key(), "20ff7fc3-e762-44dd-bd96-b71116dcdc23/myrg1/vm1");
        assert_eq!(VmId::from_key(&one.key()).unwrap(), one);
        assert!(VmId::from_key("a/b").is_err() && VmId::from_key("a/b/c/d").is_err());
    }

    fn swapped(c: char) -> char {
        let one = |mut letters: Vec<char>| if letters.len() == 1 { letters.remove(0) } else { c };
        if c.is_uppercase() { one(c.to_lowercase().collect()) } else { one(c.to_uppercase().collect()) }
    }

    #[test]
    fn a_name_of_any_alphabet_is_one_key_in_every_letter_case_and_is_no_other_name() {
        let of = |group: &str| VmId::parse(&VM.replace("myRg1", group)).unwrap();
        for (one, other) in [("Büro-Σίσυφος", "BÜRO-ΣΊΣΥΦΟΣ"), ("Straße", "STRAßE"), ("ресурсы", "РЕСУРСЫ")]
        {
            assert_eq!((of(one), of(one).key()), (of(other), of(other).key()));
            assert_eq!(of(one).cmp(&of(other)), Ordering::Equal);
            assert_eq!(VmId::from_key(&of(one).key()).unwrap(), of(other));
        }
        // The sign for kelvin, the long s and the dotless i have lower or upper cases that are letters of ASCII.
        for (one, other) in
            [("rg-\u{212a}", "rg-k"), ("rg\u{17f}", "rgs"), ("r\u{131}g", "rig"), ("büro", "buro"), ("straße", "stra\u{1e9e}e")]
        {
            assert!(of(one) != of(other) && of(one).key() != of(other).key(), "{one}");
        }
    }

    proptest! {
        #[test]
        fn ids_are_ordered_and_told_apart_as_their_lower_case_forms_are(
            one in "/[sS]ubscriptions/(0000-)?[aAbBz]{1,3}/resource[gG]roups/[aAbBzüÜσΣ]{1,3}",
            other in "/[sS]ubscriptions/(0000-)?[aAbBz]{1,3}/resource[gG]roups/[aAbBzüÜσΣς]{1,3}",
            flips in prop::option::of(prop::collection::vec(any::<bool>(), 20)),
        ) {
            let other = match &flips {
                Some(flips) => one.chars().zip(flips.iter().cycle()).map(|(c, flip)| if *flip { swapped(c) } else { c }).collect(),
                None => other,
            };
            let (one, other) = (ArmId::parse(&one).unwrap(), ArmId::parse(&other).unwrap());
            prop_assert_eq!(one.cmp(&other), one.key().cmp(&other.key()));
            prop_assert_eq!(one == other, one.key() == other.key());
            let hasher = RandomState::new();
            prop_assert!(flips.is_none() || hasher.hash_one(&one) == hasher.hash_one(&other));
        }
    }

    #[test]
    fn the_parts_of_an_id_are_found() {
        let rule =
            RuleId::parse("/subscriptions/S/resourcegroups/RG/providers/microsoft.network/networkSecurityGroups/Web/securityRules/R1")
                .unwrap();
        assert_eq!(rule.subscription(), "s");
        assert_eq!(rule.resource_group(), "rg");
        assert_eq!(rule.name(), "R1");
        assert_eq!(rule.nsg().unwrap().name(), "Web");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in [
            "",
            "/",
            "vm1",
            "/subscriptions",
            "/subscriptions//resourceGroups/rg",
            "/subscriptions/s/resourceGroups",
            "/providers/Microsoft.Compute/virtualMachines/vm1",
            "/subscriptions/s/resourceGroups/../providers/Microsoft.Compute/virtualMachines/vm1",
            "/subscriptions/s/resourceGroups/r?x/providers/Microsoft.Compute/virtualMachines/vm1",
        ] {
            assert!(matches!(ArmId::parse(text), Err(ArmIdError::NotAnId(_))), "{text}");
        }
        let long = format!("{VM}{}", "x".repeat(2048));
        assert!(matches!(ArmId::parse(&long), Err(ArmIdError::TooLong(_))));
        let named = |length: usize| VM.replace("vm1", &"x".repeat(length));
        assert!(ArmId::parse(&named(ArmId::LONGEST_NAME)).is_ok());
        assert!(matches!(ArmId::parse(&named(ArmId::LONGEST_NAME + 1)), Err(ArmIdError::NotAnId(_))));
        let mut exact = VM.to_owned();
        while exact.len() < ArmId::LONGEST {
            let left = (ArmId::LONGEST - exact.len()).min(402) - 2;
            exact.push_str(&format!("/{}/{}", "x".repeat(left / 2), "y".repeat(left - left / 2)));
        }
        assert_eq!(exact.len(), ArmId::LONGEST);
        assert!(ArmId::parse(&exact).is_ok());
        assert!(matches!(ArmId::parse(&format!("{exact}z")), Err(ArmIdError::TooLong(_))));
    }

    #[test]
    fn an_id_of_another_type_is_refused() {
        assert!(matches!(NsgId::parse(VM), Err(ArmIdError::OtherType { .. })));
        assert!(VmId::parse("/subscriptions/s/providers/Microsoft.Compute/virtualMachines/vm1").is_err());
        assert_eq!(ArmId::parse("/subscriptions/s").unwrap().resource_type(), "");
        assert!(serde_json::from_str::<VmId>("\"/subscriptions/s\"").is_err());
    }

    #[test]
    fn an_id_sorts_by_its_key() {
        let a = ArmId::parse("/subscriptions/A").unwrap();
        let b = ArmId::parse("/subscriptions/b").unwrap();
        assert!(a < b);
        assert_eq!(format!("{a:?}"), "/subscriptions/A");
        assert_eq!(a.parent(), None);
    }

    #[test]
    fn an_id_is_one_key_in_every_letter_case() {
        let of = |text: &str| ArmId::parse(text).unwrap();
        assert_eq!(of("/subscriptions/A").key(), "/subscriptions/a");
        let hash = |id: ArmId| {
            let mut state = std::hash::DefaultHasher::new();
            id.hash(&mut state);
            state.finish()
        };
        assert_eq!(hash(of("/subscriptions/A")), hash(of("/Subscriptions/a")));
        assert_ne!(hash(of("/subscriptions/A")), hash(of("/subscriptions/b")));
    }
}
