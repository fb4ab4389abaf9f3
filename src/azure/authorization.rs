//! Who may do what: the app's own rights, and who has which role. Read only.

use portcullis_domain::rights::Permission;
use serde_json::Value;
use uuid::Uuid;

use super::arm::{ApiVersion, Arm, gather, text_at};
use super::error::CallFailed;

/// Role-based access control.
#[derive(Clone, Debug)]
pub struct Authorization {
    arm: Arm,
}

/// That somebody has a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleAssignment {
    /// Whose it is, by object id.
    pub principal: String,
    /// `User`, `Group` or `ServicePrincipal`, as it came.
    pub principal_type: String,
    /// The role definition's id.
    pub role: String,
}

/// A role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleDefinition {
    /// Its id.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// What it allows.
    pub permissions: Vec<Permission>,
}

impl Authorization {
    pub(super) fn new(arm: Arm) -> Self {
        Authorization { arm }
    }

    /// What the app's own identity may do in a resource group: an entry for each role assignment that acts there. Azure has no
    /// such list of a whole subscription (REST specification).
    pub async fn permissions(&self, subscription: &Uuid, group: &str) -> Result<Vec<Permission>, CallFailed> {
        let what = format!("reading what the app may do in resource group {group}");
        let path = format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Authorization/permissions");
        Ok(gather(&self.arm, &what, &path, ApiVersion::AUTHORIZATION).await?.iter().map(Permission::read).collect())
    }

    /// Who has which role in a subscription: assigned to it, above it, and below it.
    pub async fn assignments(&self, subscription: &Uuid) -> Result<Vec<RoleAssignment>, CallFailed> {
        let what = format!("listing who has which role in subscription {subscription}");
        let path = format!("/subscriptions/{subscription}/providers/Microsoft.Authorization/roleAssignments");
        Ok(gather(&self.arm, &what, &path, ApiVersion::AUTHORIZATION).await?.iter().map(RoleAssignment::read).collect())
    }

    /// The roles that can be assigned in a subscription.
    pub async fn definitions(&self, subscription: &Uuid) -> Result<Vec<RoleDefinition>, CallFailed> {
        let what = format!("listing the roles of subscription {subscription}");
        let path = format!("/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions");
        Ok(gather(&self.arm, &what, &path, ApiVersion::AUTHORIZATION).await?.iter().map(RoleDefinition::read).collect())
    }
}

impl RoleAssignment {
    /// Reads one of the list. What it does not say is empty, and then it is nobody's, or of no role.
    pub fn read(body: &Value) -> Self {
        RoleAssignment {
            principal: text_at(body, "/properties/principalId").to_owned(),
            principal_type: text_at(body, "/properties/principalType").to_owned(),
            role: text_at(body, "/properties/roleDefinitionId").to_owned(),
        }
    }
}

impl RoleDefinition {
    /// Reads one of the list. What it does not say is empty, and then it allows nothing.
    pub fn read(body: &Value) -> Self {
        let permissions = body.pointer("/properties/permissions").and_then(Value::as_array);
        RoleDefinition {
            id: text_at(body, "/id").to_owned(),
            name: text_at(body, "/properties/roleName").to_owned(),
            permissions: permissions.into_iter().flatten().map(Permission::read).collect(),
        }
    }
}
