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

@description('Tags of both.')
param tags object = {}

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

output componentId string = component.id
output connectionString string = component.properties.ConnectionString
