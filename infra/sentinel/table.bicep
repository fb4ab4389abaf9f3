// The table of Portcullis in a workspace of Microsoft Sentinel, and the data collection rule by which the app writes to it.

@description('The Log Analytics workspace, which must exist already, in the resource group of this deployment.')
param workspaceName string

@description('The region of the workspace: a data collection rule must be where its workspace is.')
param location string

@description('For how many days rows can be queried. The first 90 days cost nothing more where Microsoft Sentinel is on.')
@minValue(30)
@maxValue(730)
param retentionInDays int = 90

@description('For how many days rows are kept in all, the rest of them in the archive.')
@minValue(30)
@maxValue(4383)
param totalRetentionInDays int = 365

@description('The name of the data collection rule.')
param ruleName string = 'portcullis'

var tableName = 'Portcullis_CL'
var streamName = 'Custom-${tableName}'

var columns = loadJsonContent('table.json')
// A table spells one of the types in another way than a data collection rule does.
var tableColumns = [
  for column in columns: {
    name: column.name
    type: column.type == 'datetime' ? 'dateTime' : column.type
    description: column.description
  }
]
var streamColumns = [
  for column in columns: {
    name: column.name
    type: column.type
  }
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2022-10-01' existing = {
  name: workspaceName
}

resource table 'Microsoft.OperationalInsights/workspaces/tables@2022-10-01' = {
  parent: workspace
  name: tableName
  properties: {
    // Analytics rules read no other plan.
    plan: 'Analytics'
    retentionInDays: retentionInDays
    totalRetentionInDays: max(retentionInDays, totalRetentionInDays)
    schema: {
      name: tableName
      description: 'What Portcullis does and finds: one row an audit record. A row may come twice: count by AuditId.'
      columns: tableColumns
    }
  }
}

resource rule 'Microsoft.Insights/dataCollectionRules@2023-03-11' = {
  name: ruleName
  location: location
  // Only a rule that is made as Direct has an endpoint of its own, and none becomes one later.
  kind: 'Direct'
  properties: {
    description: 'Rows of Portcullis on their way to ${tableName}'
    streamDeclarations: {
      '${streamName}': {
        columns: streamColumns
      }
    }
    destinations: {
      logAnalytics: [
        {
          name: 'workspace'
          workspaceResourceId: workspace.id
        }
      ]
    }
    dataFlows: [
      {
        streams: [
          streamName
        ]
        destinations: [
          'workspace'
        ]
        transformKql: 'source'
        outputStream: streamName
      }
    ]
  }
  dependsOn: [
    table
  ]
}

@description('The setting PORTCULLIS_LOGS_ENDPOINT.')
output endpoint string = rule.properties.endpoints.logsIngestion

@description('The setting PORTCULLIS_LOGS_RULE_ID.')
output immutableId string = rule.properties.immutableId

@description('The setting PORTCULLIS_LOGS_STREAM.')
output stream string = streamName
