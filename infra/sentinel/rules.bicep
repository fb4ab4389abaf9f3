// What Microsoft Sentinel makes of the rows of Portcullis: analytics rules, hunting queries, a workbook. The table must be there
// already (table.bicep): a rule that names an unknown table or column is refused.

@description('The Log Analytics workspace, which must exist already, with Microsoft Sentinel on, in the resource group of this deployment.')
param workspaceName string

@description('The region of the workbook, which is kept there.')
param location string

@description('Whether the analytics rules run. Off, they are there to be read and tried, and make no incident.')
param rulesEnabled bool = true

var rules = [
  loadYamlContent('analytics/any-source.yaml')
  loadYamlContent('analytics/break-glass.yaml')
  loadYamlContent('analytics/contradicted.yaml')
  loadYamlContent('analytics/critical-port.yaml')
  loadYamlContent('analytics/missed.yaml')
  loadYamlContent('analytics/opening-without-grant.yaml')
  loadYamlContent('analytics/overlong.yaml')
  loadYamlContent('analytics/rejected.yaml')
  loadYamlContent('analytics/service-failing.yaml')
  loadYamlContent('analytics/stuck-open.yaml')
  loadYamlContent('analytics/subscription-silent.yaml')
  loadYamlContent('analytics/sweep-silent.yaml')
  loadYamlContent('analytics/unaudited.yaml')
]

var hunts = [
  loadYamlContent('hunting/returns.yaml')
  loadYamlContent('hunting/unusual-hours.yaml')
  loadYamlContent('hunting/who-opens-around.yaml')
]

resource workspace 'Microsoft.OperationalInsights/workspaces@2022-10-01' existing = {
  name: workspaceName
}

resource alertRules 'Microsoft.SecurityInsights/alertRules@2024-09-01' = [
  for rule in rules: {
    scope: workspace
    name: rule.id
    kind: 'Scheduled'
    properties: {
      displayName: rule.name
      description: rule.description
      enabled: rulesEnabled
      severity: rule.severity
      tactics: rule.tactics
      techniques: rule.techniques
      query: rule.query
      queryFrequency: rule.queryFrequency
      queryPeriod: rule.queryPeriod
      triggerOperator: rule.triggerOperator
      triggerThreshold: rule.triggerThreshold
      suppressionEnabled: rule.suppressionEnabled
      suppressionDuration: rule.suppressionDuration
      eventGroupingSettings: rule.eventGroupingSettings
      alertDetailsOverride: rule.alertDetailsOverride
      customDetails: rule.customDetails
      entityMappings: rule.entityMappings
      incidentConfiguration: rule.incidentConfiguration
    }
  }
]

// Without the etag a search that is there already is refused (409), so that nothing could be deployed twice. ARM reads it from the
// properties, and the types have it at the root, where ARM takes no such member. One after another, since Azure keeps all of a workspace
// in one place and has refused writes beside each other.
@batchSize(1)
resource searches 'Microsoft.OperationalInsights/workspaces/savedSearches@2020-08-01' = [
  for hunt in hunts: {
    parent: workspace
    name: hunt.id
    properties: {
      #disable-next-line BCP037
      etag: '*'
      // Sentinel shows what is saved under this name among its hunting queries.
      category: 'Hunting Queries'
      displayName: hunt.name
      query: hunt.query
      version: 2
      tags: [
        {
          name: 'description'
          value: hunt.description
        }
        {
          name: 'tactics'
          value: join(hunt.tactics, ',')
        }
        {
          name: 'techniques'
          value: join(hunt.techniques, ',')
        }
      ]
    }
  }
]

resource workbook 'Microsoft.Insights/workbooks@2022-04-01' = {
  name: guid(workspace.id, 'portcullis')
  location: location
  kind: 'shared'
  properties: {
    displayName: 'Portcullis'
    category: 'sentinel'
    version: '1.0'
    sourceId: workspace.id
    serializedData: loadTextContent('workbook.json')
  }
}

@description('The analytics rules, by their ids.')
output ruleIds array = [for (rule, n) in rules: alertRules[n].id]
