targetScope = 'resourceGroup'

@description('Whether the topic is made, or is there already.')
param isNew bool

@description('The topic.')
param topicName string

@description('The event subscription.')
param eventSubscriptionName string

@description('The resource id of the function app.')
param appId string

@description('The resource id of the store\'s account.')
param storeId string

@description('The container for events that are given up.')
param deadLetterContainer string

@description('The identity that writes them. Empty makes no dead letters.')
param eventsIdentityId string

var hasDeadLetters = !empty(eventsIdentityId)

var topicIdentity = hasDeadLetters ? {
  type: 'UserAssigned'
  userAssignedIdentities: {
    '${eventsIdentityId}': {}
  }
} : {
  type: 'None'
}

var deadLetters = hasDeadLetters ? {
  deadLetterWithResourceIdentity: {
    identity: {
      type: 'UserAssigned'
      userAssignedIdentity: eventsIdentityId
    }
    deadLetterDestination: {
      endpointType: 'StorageBlob'
      properties: {
        resourceId: storeId
        blobContainerName: deadLetterContainer
      }
    }
  }
} : {}

resource made 'Microsoft.EventGrid/systemTopics@2022-06-15' = if (isNew) {
  name: topicName
  location: 'global'
  identity: topicIdentity
  properties: {
    source: subscription().id
    topicType: 'Microsoft.Resources.Subscriptions'
  }
}

resource topic 'Microsoft.EventGrid/systemTopics@2022-06-15' existing = {
  name: topicName
}

resource events 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2022-06-15' = {
  parent: topic
  name: eventSubscriptionName
  properties: union({
    destination: {
      endpointType: 'AzureFunction'
      properties: {
        resourceId: '${appId}/functions/jit_activity'
        // A batch fails as a whole, and one event more or less costs nothing.
        maxEventsPerBatch: 1
        preferredBatchSizeInKilobytes: 64
      }
    }
    eventDeliverySchema: 'EventGridSchema'
    filter: {
      includedEventTypes: [
        'Microsoft.Resources.ResourceActionSuccess'
        'Microsoft.Resources.ResourceWriteSuccess'
        'Microsoft.Resources.ResourceDeleteSuccess'
      ]
      // By operation and not by subject: whether an event names the policy or the VM is not documented.
      advancedFilters: [
        {
          operatorType: 'StringContains'
          key: 'data.operationName'
          values: [
            'Microsoft.Security/locations/jitNetworkAccessPolicies/initiate/action'
            'Microsoft.Security/locations/jitNetworkAccessPolicies/write'
            'Microsoft.Security/locations/jitNetworkAccessPolicies/delete'
          ]
        }
      ]
    }
    // Event Grid's own limits: an event that comes a day late still says who it was.
    retryPolicy: {
      maxDeliveryAttempts: 30
      eventTimeToLiveInMinutes: 1440
    }
  }, deadLetters)
  dependsOn: [
    made
  ]
}
