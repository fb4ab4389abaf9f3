// What the app may read of Microsoft Sentinel: the incidents of one workspace, for requests that name one.

@description('The Log Analytics workspace, which must exist already, in the resource group of this deployment.')
param workspaceName string

@description('The object id of the identity of the app, which may read incidents and nothing else.')
param principalId string

var role = loadJsonContent('../roles.json').incidents

resource workspace 'Microsoft.OperationalInsights/workspaces@2022-10-01' existing = {
  name: workspaceName
}

// A role's name is unique in the whole tenant, hence the place in it. It is made for the group, and given at the workspace alone.
resource definition 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(resourceGroup().id, 'portcullis', 'incidents')
  properties: {
    roleName: '${role.roleName} (${subscription().subscriptionId} ${resourceGroup().name})'
    description: role.description
    type: 'CustomRole'
    permissions: [
      {
        actions: role.actions
        notActions: []
      }
    ]
    assignableScopes: [
      resourceGroup().id
    ]
  }
}

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(workspace.id, principalId, 'portcullis', 'incidents')
  scope: workspace
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: definition.id
  }
}
