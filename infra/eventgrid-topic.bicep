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

@description('Whom to tell: resource ids of action groups.')
param actionGroupIds array

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

var metricActions = [for id in actionGroupIds: {
  actionGroupId: id
}]

// Names of metrics: Microsoft, "Monitoring data reference for Azure Event Grid push delivery". One event that fails is tried four
// times in six minutes; a host that starts fails once.
var questions = [
  {
    key: 'failing'
    severity: 2
    metric: 'DeliveryAttemptFailCount'
    threshold: 3
    about: 'Events of this subscription reach the function jit_activity only after many tries, or not at all. Until they do the sweep finds openings within five minutes. See whether the app is stopped, and what its log says.'
  }
  {
    key: 'dead-letters'
    severity: 1
    metric: 'DeadLetteredCount'
    threshold: 0
    about: 'Event Grid gave up events of this subscription after a day of tries, and wrote them into the store. The sweep has found what they told of; they say when events did not arrive.'
  }
  {
    key: 'dropped'
    severity: 1
    metric: 'DroppedEventCount'
    threshold: 0
    about: 'Event Grid gave up events of this subscription and could not keep them: the event subscription has no place for dead letters, or its identity may not write there.'
  }
]

resource alerts 'Microsoft.Insights/metricAlerts@2018-03-01' = [for question in questions: {
  name: '${eventSubscriptionName}-events-${question.key}'
  location: 'global'
  properties: {
    description: question.about
    severity: question.severity
    enabled: true
    scopes: [
      topic.id
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: question.key
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: 'Microsoft.EventGrid/systemTopics'
          metricName: question.metric
          dimensions: [
            {
              name: 'EventSubscriptionName'
              operator: 'Include'
              values: [
                eventSubscriptionName
              ]
            }
          ]
          operator: 'GreaterThan'
          threshold: question.threshold
          timeAggregation: 'Total'
        }
      ]
    }
    autoMitigate: true
    actions: metricActions
  }
  dependsOn: [
    made
    events
  ]
}]
