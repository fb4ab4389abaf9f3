targetScope = 'resourceGroup'

@description('The region of Application Insights and of a new workspace.')
param location string

@description('The name of Application Insights and of a new workspace.')
param name string

@description('The resource id of the workspace for the app\'s own log. Empty makes one. It need not be Sentinel\'s, where each gigabyte costs more.')
param workspaceId string = ''

@description('For how many days a new workspace keeps the app\'s log. It is for finding faults; what must be kept is in the audit records.')
@minValue(30)
@maxValue(730)
param retentionDays int = 30

@description('The app\'s identity, which sends its log as itself.')
param principalId string

@description('Tags of both.')
param tags object = {}

// Built-in roles have the same id in every tenant.
var metricsPublisher = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '3913510d-42f4-4e42-8a64-420c390055eb')
var isNew = empty(workspaceId)

resource workspace 'Microsoft.OperationalInsights/workspaces@2022-10-01' = if (isNew) {
  name: name
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: retentionDays
    features: {
      disableLocalAuth: true
      enableLogAccessUsingOnlyResourcePermissions: true
    }
  }
}

resource component 'Microsoft.Insights/components@2020-02-02' = {
  name: name
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    DisableLocalAuth: true
    WorkspaceResourceId: isNew ? workspace.id : workspaceId
  }
}

resource publisher 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(component.id, principalId, metricsPublisher)
  scope: component
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: metricsPublisher
  }
}

output componentId string = component.id
output connectionString string = component.properties.ConnectionString
