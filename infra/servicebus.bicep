targetScope = 'resourceGroup'

@description('The region of the namespace.')
param location string

@description('The namespace. 6 to 50 letters, digits and hyphens, unused in all of Azure.')
@minLength(6)
@maxLength(50)
param name string

@description('Its queues: those that functions/*/function.json name.')
param queueNames array

@description('Tags of the namespace.')
param tags object = {}

resource namespace 'Microsoft.ServiceBus/namespaces@2024-01-01' = {
  name: name
  location: location
  tags: tags
  // Basic cannot hold a message for later, and everything that waits here is such a message.
  sku: {
    name: 'Standard'
    tier: 'Standard'
  }
  properties: {
    disableLocalAuth: true
    minimumTlsVersion: '1.2'
    publicNetworkAccess: 'Enabled'
  }
}

resource queues 'Microsoft.ServiceBus/namespaces/queues@2024-01-01' = [for queueName in queueNames: {
  parent: namespace
  name: queueName
  properties: {
    // It would drop a look that is only like an earlier one.
    requiresDuplicateDetection: false
    requiresSession: false
    // A failure means that neither store nor queue took the work; ten of them are not bad luck any more.
    maxDeliveryCount: 10
    // A sweep message that nobody took within its five minutes is superseded by the next sweep: no dead letter.
    deadLetteringOnMessageExpiration: false
    enablePartitioning: false
  }
}]

output id string = namespace.id
// The endpoint is https://HOST:443/, and the host name is what client and host want.
output hostName string = split(split(namespace.properties.serviceBusEndpoint, '://')[1], ':')[0]
