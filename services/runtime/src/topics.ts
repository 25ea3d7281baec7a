import { fixedTopics, shippedBackends, toolsTopic, topicNames } from "@reins/events"
import type { TopicSettings } from "@reins/log"

/** The topics that Reins needs under this prefix, with the settings in which they must stand. */
export function topicSettings(prefix: string, partitions: number, backends: readonly string[] = shippedBackends): readonly TopicSettings[] {
  const fixed = fixedTopics.map((topic) => ({
    name: `${prefix}.${topic.suffix}`,
    partitions: topic.coPartitioned ? partitions : 1,
    cleanup: topic.cleanup,
    config: topic.config,
  }))
  return [...fixed, ...backends.map((backend) => toolsTopicSettings(prefix, partitions, backend))]
}

export function toolsTopicSettings(prefix: string, partitions: number, backend: string): TopicSettings {
  return { name: topicNames(prefix).tools(backend), partitions, cleanup: toolsTopic.cleanup, config: toolsTopic.config }
}
