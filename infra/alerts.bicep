targetScope = 'resourceGroup'

@description('The region of the alerts that ask the log.')
param location string

@description('The name of the app, with which each alert\'s name begins.')
param name string

@description('The Service Bus namespace.')
param namespaceId string

@description('Its queues, each watched for dead letters.')
param queueNames array

@description('Application Insights, whose log is asked.')
param componentId string

@description('Whom to tell: resource ids of action groups. With none the alerts stand in the portal and nobody is told.')
param actionGroupIds array = []

@description('Tags of the alerts.')
param tags object = {}

var metricActions = [for id in actionGroupIds: {
  actionGroupId: id
}]

// Each looks at a quarter of an hour every five minutes: a fault of one minute is told within ten, as late as Azure's log
// is, and a start of the host, during which no timer runs, is not told.
var questions = [
  {
    key: 'failures'
    severity: 1
    about: 'A function failed: neither the store nor the queue took its work, or the program was killed. The log of the function says which; work of a queue comes again, up to ten times.'
    // What the API refuses is an answer and no failure; 503 is what it says when it cannot answer.
    query: 'requests | where tobool(success) == false and (operation_Name != "api" or resultCode startswith "5")'
    operator: 'GreaterThan'
    threshold: 0
  }
  {
    key: 'silent'
    severity: 0
    about: 'The function schedule, which runs every minute, has not run for a quarter of an hour: no end of a grant is kept and no row is sent again. See whether the app is stopped, what its first log lines say, and whether its identity still has its roles.'
    query: 'requests | where operation_Name == "schedule"'
    operator: 'LessThan'
    threshold: 1
  }
  {
    key: 'unswept'
    severity: 1
    about: 'The function sweep, which runs every five minutes, has not run for a quarter of an hour: what no event tells of is not found. See whether the app is stopped, what its first log lines say, and whether its identity still has its roles.'
    query: 'requests | where operation_Name == "sweep"'
    operator: 'LessThan'
    threshold: 1
  }
  {
    key: 'alarms'
    severity: 1
    about: 'Portcullis raised an alarm: a port could not be shut, or something stays open that nobody decided on. GET /api/alarms has each that stands, with its cure.'
    query: 'traces | where message has "an alarm was raised"'
    operator: 'GreaterThan'
    threshold: 0
  }
  {
    key: 'rows'
    severity: 1
    about: 'Rows for Microsoft Sentinel, or messages for a queue, were not taken: they wait in the store and are sent again every minute. A new role may need half an hour; else see the data collection rule, its stream and the identity\'s role on it.'
    query: 'traces | where message has "rows were not taken" or message has "the store keeps a message that its queue does not take"'
    operator: 'GreaterThan'
    threshold: 0
  }
]

resource deadLetters 'Microsoft.Insights/metricAlerts@2018-03-01' = [for queueName in queueNames: {
  name: '${name}-dead-letters-${queueName}'
  location: 'global'
  tags: tags
  properties: {
    description: 'The queue ${queueName} has dead letters: neither the store nor the queue took this work, or the program was killed, ten times. Read them before you send them again.'
    severity: 1
    enabled: true
    scopes: [
      namespaceId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT5M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'dead-letters'
          criterionType: 'StaticThresholdCriterion'
          metricNamespace: 'Microsoft.ServiceBus/namespaces'
          metricName: 'DeadletteredMessages'
          dimensions: [
            {
              name: 'EntityName'
              operator: 'Include'
              values: [
                queueName
              ]
            }
          ]
          operator: 'GreaterThan'
          threshold: 0
          timeAggregation: 'Maximum'
        }
      ]
    }
    autoMitigate: true
    actions: metricActions
  }
}]

resource log 'Microsoft.Insights/scheduledQueryRules@2021-08-01' = [for question in questions: {
  name: '${name}-${question.key}'
  location: location
  tags: tags
  properties: {
    displayName: '${name}-${question.key}'
    description: question.about
    severity: question.severity
    enabled: true
    scopes: [
      componentId
    ]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      allOf: [
        {
          query: question.query
          timeAggregation: 'Count'
          operator: question.operator
          threshold: question.threshold
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    autoMitigate: true
    actions: {
      actionGroups: actionGroupIds
    }
  }
}]
