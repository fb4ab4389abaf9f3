targetScope = 'resourceGroup'

@description('The region of both accounts.')
param location string

@description('The account of the store: records, audit records, Event Grid\'s dead letters. 3 to 24 lower-case letters and digits, unused in all of Azure.')
@minLength(3)
@maxLength(24)
param storeName string

@description('The account of the Functions host: its leases and timers, and the package. As above.')
@minLength(3)
@maxLength(24)
param hostName string

@description('The redundancy of the store. Standard_LRS loses the store with its building, Standard_ZRS with its region; a region without zones refuses Standard_ZRS.')
@allowed([
  'Standard_LRS'
  'Standard_ZRS'
  'Standard_GRS'
  'Standard_GZRS'
])
param storeSku string = 'Standard_ZRS'

@description('For how many days an audit record can be neither changed nor deleted, by nobody; 0 makes no such policy. The policy is made unlocked: who may write the account may still shorten it until you lock it, and once locked the account cannot be deleted while a record is younger.')
@minValue(0)
@maxValue(146000)
param auditDays int = 0

@description('Whether the policy of auditDays has been locked: then it is left as it is, since a locked one can be made longer by its own command alone, and a deployment that writes it is refused.')
param auditLocked bool = false

@description('The container of records and indexes.')
param stateContainer string

@description('The container of audit records.')
param auditContainer string

@description('For how many days deleted blobs and containers, and earlier versions of records, can be had back. Fewer cost less, since records are written often; more gives you longer to find that something was lost.')
@minValue(1)
@maxValue(365)
param keepDays int = 7

@description('Tags of both accounts.')
param tags object = {}

resource store 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: storeName
  location: location
  tags: tags
  sku: {
    name: storeSku
  }
  kind: 'StorageV2'
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    allowCrossTenantReplication: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      bypass: 'AzureServices'
      // The app has no network of its own to come from, and Event Grid's addresses are not fixed: identity is what lets in.
      defaultAction: 'Allow'
    }
  }
}

resource storeBlobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: store
  name: 'default'
  properties: {
    isVersioningEnabled: true
    deleteRetentionPolicy: {
      enabled: true
      days: keepDays
    }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: keepDays
    }
  }
}

resource state 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: storeBlobs
  name: stateContainer
  properties: {
    publicAccess: 'None'
  }
}

resource audit 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: storeBlobs
  name: auditContainer
  properties: {
    publicAccess: 'None'
  }
}

resource deadLetters 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: storeBlobs
  name: 'event-dead-letters'
  properties: {
    publicAccess: 'None'
  }
}

// Each audit record is written once and never appended to, so nothing of what the policy forbids is ever needed.
resource auditKept 'Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies@2023-05-01' = if (auditDays > 0 && !auditLocked) {
  parent: audit
  name: 'default'
  properties: {
    immutabilityPeriodSinceCreationInDays: auditDays
    allowProtectedAppendWrites: false
  }
}

// A record is written at each look, and each write leaves a version: without an end they would outgrow the store.
resource storeLifecycle 'Microsoft.Storage/storageAccounts/managementPolicies@2023-05-01' = {
  parent: store
  name: 'default'
  properties: {
    policy: {
      rules: [
        {
          name: 'earlier-versions-of-records'
          enabled: true
          type: 'Lifecycle'
          definition: {
            actions: {
              version: {
                delete: {
                  daysAfterCreationGreaterThan: keepDays
                }
              }
            }
            filters: {
              blobTypes: [
                'blockBlob'
              ]
              prefixMatch: [
                '${stateContainer}/'
              ]
            }
          }
        }
      ]
    }
  }
  dependsOn: [
    storeBlobs
  ]
}

// An account of its own, so that the host's role over a whole account, which it needs, does not reach the audit records.
resource host 'Microsoft.Storage/storageAccounts@2023-05-01' = {
  name: hostName
  location: location
  tags: tags
  sku: {
    name: 'Standard_LRS'
  }
  kind: 'StorageV2'
  properties: {
    accessTier: 'Hot'
    allowBlobPublicAccess: false
    allowSharedKeyAccess: false
    allowCrossTenantReplication: false
    defaultToOAuthAuthentication: true
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      bypass: 'AzureServices'
      defaultAction: 'Allow'
    }
  }
}

resource hostBlobs 'Microsoft.Storage/storageAccounts/blobServices@2023-05-01' = {
  parent: host
  name: 'default'
  properties: {
    deleteRetentionPolicy: {
      enabled: true
      days: keepDays
    }
    containerDeleteRetentionPolicy: {
      enabled: true
      days: keepDays
    }
  }
}

resource package 'Microsoft.Storage/storageAccounts/blobServices/containers@2023-05-01' = {
  parent: hostBlobs
  name: 'package'
  properties: {
    publicAccess: 'None'
  }
}

output storeId string = store.id
output storeEndpoint string = store.properties.primaryEndpoints.blob
output stateContainer string = state.name
output auditContainer string = audit.name
output deadLetterContainer string = deadLetters.name
output packageUrl string = '${host.properties.primaryEndpoints.blob}${package.name}'
