//! Where a VM stands in the network: its addresses and the security groups in front of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use crate::arm_id::{ArmId, ArmIdError, NicId, NsgId, SubnetId, VmId};
use crate::json::{items, text};

/// A VM as ARM answers it, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Its id.
    pub id: VmId,
    /// Its network interfaces; none while it has none.
    pub nics: Vec<NicId>,
    /// Its tags, as Azure has them.
    pub tags: BTreeMap<String, String>,
}

impl Vm {
    /// Reads a VM.
    pub fn read(body: &Value) -> Result<Self, ArmIdError> {
        let profile = body.pointer("/properties/networkProfile").unwrap_or(&Value::Null);
        let nics = items(profile, "networkInterfaces").iter();
        let nics = nics.map(|nic| NicId::parse(text(nic, "id"))).collect::<Result<_, _>>()?;
        let tags = body.get("tags").and_then(Value::as_object).into_iter().flatten();
        let tags = tags.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
        Ok(Vm { id: VmId::parse(text(body, "id"))?, nics, tags })
    }
}

/// A network interface as ARM answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nic {
    /// Its id.
    pub id: NicId,
    /// The VM that it belongs to, if any.
    pub vm: Option<VmId>,
    /// Its private addresses of all its configurations.
    pub addresses: Vec<IpAddr>,
    /// The subnets of its configurations, each once.
    pub subnets: Vec<SubnetId>,
    /// Its own security group, if it has one; the subnet's is not in the interface's body.
    pub nsg: Option<NsgId>,
}

impl Nic {
    /// Reads a network interface.
    pub fn read(body: &Value) -> Result<Self, ArmIdError> {
        let properties = body.get("properties").unwrap_or(&Value::Null);
        let configurations = items(properties, "ipConfigurations").iter().filter_map(|c| c.get("properties"));
        let (mut addresses, mut subnets) = (Vec::new(), Vec::new());
        for configuration in configurations {
            addresses.extend(text(configuration, "privateIPAddress").parse::<IpAddr>());
            if let Some(subnet) = reference(configuration, "subnet") {
                subnets.push(SubnetId::parse(subnet)?);
            }
        }
        subnets.sort();
        subnets.dedup();
        Ok(Nic {
            id: NicId::parse(text(body, "id"))?,
            vm: reference(properties, "virtualMachine").map(VmId::parse).transpose()?,
            addresses,
            subnets,
            nsg: reference(properties, "networkSecurityGroup").map(NsgId::parse).transpose()?,
        })
    }
}

/// The security group of a subnet's body, if it has one.
pub fn subnet_nsg(body: &Value) -> Result<Option<NsgId>, ArmIdError> {
    let properties = body.get("properties").unwrap_or(&Value::Null);
    reference(properties, "networkSecurityGroup").map(NsgId::parse).transpose()
}

/// The interfaces that a subnet's body names as standing in it.
pub fn subnet_nics(body: &Value) -> Vec<NicId> {
    let configurations = items(body.get("properties").unwrap_or(&Value::Null), "ipConfigurations").iter();
    configurations.filter_map(|one| NicId::from_arm_id(ArmId::parse(text(one, "id")).ok()?.parent()?).ok()).collect()
}

fn reference<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).map(|r| text(r, "id")).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn recorded(name: &str) -> Value {
        let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn recorded_bodies_of_one_vm_name_it_in_two_letter_cases() {
        let nic = Nic::read(&recorded("rec_nic_get.json")["response"]["body"]).unwrap();
        let vm = Vm::read(&recorded("rec_vm_list.json")["response"]["body"]["value"][0]).unwrap();
        assert_eq!(nic.vm.as_ref(), Some(&vm.id));
        assert_ne!(nic.vm.unwrap().to_string(), vm.id.to_string());
        assert!(vm.nics.contains(&nic.id));
        assert_eq!(nic.addresses, ["10.0.0.4".parse::<IpAddr>().unwrap()]);
        assert_eq!((nic.subnets.len(), nic.nsg), (1, None));
    }

    #[test]
    fn a_vm_without_interfaces_and_an_interface_without_address_are_read() {
        let vm = Vm::read(
            &json!({"id": "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm1", "properties": {}}),
        )
        .unwrap();
        assert_eq!(vm.nics, []);
        let nic = Nic::read(&json!({"id": "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/networkInterfaces/n",
            "properties": {"ipConfigurations": [{"properties": {}}], "networkSecurityGroup": {"id": "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/g"}}}))
        .unwrap();
        assert!(nic.addresses.is_empty() && nic.vm.is_none());
        assert_eq!(nic.nsg.unwrap().name(), "g");
    }

    #[test]
    fn a_subnet_names_its_group() {
        let group = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/networkSecurityGroups/g";
        assert_eq!(subnet_nsg(&json!({"properties": {"networkSecurityGroup": {"id": group}}})).unwrap().unwrap().name(), "g");
        assert_eq!(subnet_nsg(&json!({"properties": {}})).unwrap(), None);
        assert!(subnet_nsg(&json!({"properties": {"networkSecurityGroup": {"id": "g"}}})).is_err());
        let interfaces = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Network/networkInterfaces";
        let configurations = json!([{"id": format!("{interfaces}/one/ipConfigurations/a")}, {"id": format!("{interfaces}/two/ipConfigurations/b")},
            {"id": "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Compute/virtualMachineScaleSets/set"}]);
        let nics = subnet_nics(&json!({"properties": {"ipConfigurations": configurations}}));
        assert_eq!(nics.iter().map(NicId::name).collect::<Vec<_>>(), ["one", "two"]);
    }
}
