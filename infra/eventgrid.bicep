// Once for each governed subscription, in that subscription and after the code: Event Grid takes a function as a destination
// only when it is there. events.sh does so: az deployment sub create --template-file infra/eventgrid.bicep.
targetScope = 'subscription'

@description('The region of the resource group. The topic itself has none: it is global.')
param location string

@description('The resource group of the topic, in the governed subscription, made if it is not there. A topic lies in the subscription whose events it has.')
param resourceGroupName string = 'portcullis-events'

@description('The topic. Where the subscription has a topic already, its name: there can be one only, and another is refused.')
param topicName string = 'portcullis-events'

@description('The resource group of a topic that is there already. Empty makes the topic. A topic of others is used as it is: it is not changed.')
param existingTopicResourceGroup string = ''

@description('The event subscription. Two deployments of Portcullis that govern one subscription need two names.')
param eventSubscriptionName string

@description('The resource id of the function app.')
param appId string

@description('The resource id of the store\'s account, for events that are given up.')
param storeId string

@description('The container for them.')
param deadLetterContainer string

@description('The identity that writes them. Empty makes no dead letters: an event that is given up is gone without a word, and the sweep finds in five minutes what it would have told.')
param eventsIdentityId string

@description('Whom to tell when events do not arrive: resource ids of action groups. With none the alerts stand in the portal and nobody is told.')
param actionGroupIds array = []

var isNew = empty(existingTopicResourceGroup)

resource group 'Microsoft.Resources/resourceGroups@2022-09-01' = if (isNew) {
  name: resourceGroupName
  location: location
}

module topic 'eventgrid-topic.bicep' = {
  name: 'portcullis-topic'
  scope: resourceGroup(isNew ? resourceGroupName : existingTopicResourceGroup)
  params: {
    isNew: isNew
    topicName: topicName
    eventSubscriptionName: eventSubscriptionName
    appId: appId
    storeId: storeId
    deadLetterContainer: deadLetterContainer
    eventsIdentityId: eventsIdentityId
    actionGroupIds: actionGroupIds
  }
  dependsOn: [
    group
  ]
}
