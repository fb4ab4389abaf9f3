targetScope = 'resourceGroup'

@description('The region of plan and app. One without Flex Consumption refuses the plan.')
param location string

@description('The name of the app, and the first part of its address. Unused in all of Azure.')
param name string

@description('The resource id of the app\'s identity.')
param identityId string

@description('The client id of the app\'s identity.')
param identityClientId string

@description('observe says what would be shut and changes nothing; enforce shuts it.')
@allowed([
  'observe'
  'enforce'
])
param mode string

@description('The subscriptions to govern. Empty means all that the identity can see.')
param subscriptions array

@description('The blob endpoint of the store.')
param blobEndpoint string

@description('The container of records and indexes.')
param stateContainer string

@description('The container of audit records.')
param auditContainer string

@description('The Service Bus namespace, a bare host name.')
param serviceBusHostName string

@description('The Logs Ingestion endpoint of the data collection rule.')
param logsEndpoint string

@description('The immutable id of the data collection rule.')
param logsRuleId string

@description('The stream of the data collection rule.')
param logsStream string

@description('The resource id of Microsoft Sentinel\'s workspace, whose incidents requests may name. Empty connects none.')
param sentinelWorkspaceId string

@description('The client id of the API\'s registration. Empty lets nobody in but to health.')
param apiClientId string

@description('The longest opening that is let stand, an ISO 8601 duration.')
param longestOpening string

@description('How many VMs one sweep of a subscription may send to be shut.')
param closeCap int

@description('What a newer JIT request makes of an older one for the same port.')
@allowed([
  'replaces'
  'adds'
])
param jitNewer string

@description('The connection string of Application Insights. It holds no secret that lets in: local auth is off.')
param insightsConnectionString string

@description('The account of the Functions host.')
param hostStorageName string

@description('The address of the container that the package lies in.')
param packageUrl string

@description('Instances that are kept running, as objects with name and instanceCount.')
param alwaysReady array

@description('How many instances one function may have at most. Flex Consumption takes 40 to 1000.')
@minValue(40)
@maxValue(1000)
param maximumInstances int

@description('The memory of an instance in MB: 512, 2048 or 4096. The handler needs little; with less memory comes less of a core.')
@minValue(512)
@maxValue(4096)
param instanceMemory int

@description('Tags of plan and app.')
param tags object = {}

// Bicep knows only the host of the graph that came before Microsoft Graph.
var graphEndpoint = environment().name == 'AzureUSGovernment' ? 'https://graph.microsoft.us' : 'https://graph.microsoft.com'

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: name
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true
  }
}

resource site 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  // azd finds the app to deploy to by this tag.
  tags: union(tags, {
    'azd-service-name': 'app'
  })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageUrl
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      runtime: {
        name: 'custom'
        version: '1.0'
      }
      scaleAndConcurrency: {
        alwaysReady: alwaysReady
        instanceMemoryMB: instanceMemory
        maximumInstanceCount: maximumInstances
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      http20Enabled: true
      // Every setting that the program reads, in its order, also where it is the default: what is in force can be seen in one
      // place. Then those of the Functions host. A check holds the list against the program and docs/deploying.md.
      appSettings: [
        {
          name: 'PORTCULLIS_MODE'
          value: mode
        }
        {
          name: 'PORTCULLIS_TENANT_ID'
          value: tenant().tenantId
        }
        {
          name: 'PORTCULLIS_SUBSCRIPTIONS'
          value: join(subscriptions, ',')
        }
        {
          name: 'PORTCULLIS_BLOB_ENDPOINT'
          value: blobEndpoint
        }
        {
          name: 'PORTCULLIS_STATE_CONTAINER'
          value: stateContainer
        }
        {
          name: 'PORTCULLIS_AUDIT_CONTAINER'
          value: auditContainer
        }
        {
          name: 'ServiceBus__fullyQualifiedNamespace'
          value: serviceBusHostName
        }
        {
          name: 'PORTCULLIS_SERVICEBUS_ENDPOINT'
          value: ''
        }
        {
          name: 'PORTCULLIS_LOGS_ENDPOINT'
          value: logsEndpoint
        }
        {
          name: 'PORTCULLIS_LOGS_RULE_ID'
          value: logsRuleId
        }
        {
          name: 'PORTCULLIS_LOGS_STREAM'
          value: logsStream
        }
        {
          name: 'PORTCULLIS_SENTINEL_WORKSPACE'
          value: sentinelWorkspaceId
        }
        {
          name: 'PORTCULLIS_ARM_ENDPOINT'
          value: environment().resourceManager
        }
        {
          name: 'PORTCULLIS_LOGIN_ENDPOINT'
          value: environment().authentication.loginEndpoint
        }
        {
          name: 'PORTCULLIS_GRAPH_ENDPOINT'
          value: graphEndpoint
        }
        {
          name: 'PORTCULLIS_API_AUDIENCE'
          value: apiClientId
        }
        {
          name: 'PORTCULLIS_CLIENT_ID'
          value: identityClientId
        }
        {
          name: 'PORTCULLIS_LONGEST_OPENING'
          value: longestOpening
        }
        {
          name: 'PORTCULLIS_CLOSE_CAP'
          value: string(closeCap)
        }
        {
          name: 'PORTCULLIS_JIT_NEWER'
          value: jitNewer
        }
        {
          name: 'PORTCULLIS_POLICIES'
          value: 'policies'
        }
        {
          name: 'APPLICATIONINSIGHTS_CONNECTION_STRING'
          value: insightsConnectionString
        }
        {
          name: 'APPLICATIONINSIGHTS_AUTHENTICATION_STRING'
          value: 'ClientId=${identityClientId};Authorization=AAD'
        }
        // The host of this host.json marks its traces as not recorded though it records them.
        {
          name: 'OTEL_TRACES_SAMPLER'
          value: 'always_on'
        }
        {
          name: 'ServiceBus__credential'
          value: 'managedidentity'
        }
        {
          name: 'ServiceBus__clientId'
          value: identityClientId
        }
        {
          name: 'AzureWebJobsStorage__accountName'
          value: hostStorageName
        }
        {
          name: 'AzureWebJobsStorage__credential'
          value: 'managedidentity'
        }
        {
          name: 'AzureWebJobsStorage__clientId'
          value: identityClientId
        }
        {
          name: 'OVERRIDE_USE_MI_FIC_ASSERTION_CLIENTID'
          value: identityClientId
        }
      ]
    }
  }
}

// A publishing password would be a second way to bring code in, without Entra ID.
// Azure has refused these without a place (error 51008), which their types do not know.
resource scmPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: site
  name: 'scm'
  #disable-next-line BCP187
  location: location
  properties: {
    allow: false
  }
}

resource ftpPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: site
  name: 'ftp'
  #disable-next-line BCP187
  location: location
  properties: {
    allow: false
  }
}

output id string = site.id
output hostName string = site.properties.defaultHostName
