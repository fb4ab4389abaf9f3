targetScope = 'resourceGroup'

@description('The region of the identities. A wrong one is refused by Azure.')
param location string

@description('The name of the app\'s identity, which holds every right that the app has.')
param name string

@description('Tags of both identities.')
param tags object = {}

// User-assigned, so that its roles exist before the app starts and outlive the app when it is made anew.
resource app 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: name
  location: location
  tags: tags
}

// Event Grid's own, so that what writes dead letters can do nothing else, and the app's identity is lent to nobody.
resource events 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: '${name}-events'
  location: location
  tags: tags
}

output id string = app.id
output clientId string = app.properties.clientId
output principalId string = app.properties.principalId
output eventsId string = events.id
output eventsPrincipalId string = events.properties.principalId
