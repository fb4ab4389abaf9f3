// What the app may do with the data collection rule of table.bicep: write rows by it.

@description('The object id of the identity of the app, which may write rows and nothing else.')
param principalId string

@description('The name of the data collection rule, which must exist already, in the resource group of this deployment.')
param ruleName string = 'portcullis'

// Monitoring Metrics Publisher, a built-in role.
var publisher = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '3913510d-42f4-4e42-8a64-420c390055eb')

resource rule 'Microsoft.Insights/dataCollectionRules@2023-03-11' existing = {
  name: ruleName
}

resource mayPublish 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: rule
  name: guid(rule.id, principalId, publisher)
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: publisher
  }
}
