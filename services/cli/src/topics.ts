import { newInstance, openLog, topicSettings } from "@reins/runtime"
import { configured, reading } from "./open.ts"

/** Creates the topics that are missing and verifies those that stand. */
export async function apply(options: { readonly json?: boolean }): Promise<void> {
  const config = configured()
  const { log } = await openLog(config, newInstance("cli"))
  try {
    const wanted = topicSettings(config.prefix, config.partitions)
    const created = await log.applyTopics(wanted)
    if (options.json === true)
      process.stdout.write(
        `${JSON.stringify({ created, verified: wanted.map((topic) => topic.name).filter((name) => !created.includes(name)) }, null, 2)}\n`,
      )
    else
      for (const topic of wanted)
        process.stdout.write(
          `${created.includes(topic.name) ? "created " : "stands  "} ${topic.name} (${topic.partitions} partitions, ${topic.cleanup})\n`,
        )
  } finally {
    await log.close()
  }
}

export async function describe(options: { readonly json?: boolean }): Promise<void> {
  await reading(async ({ log }, config) => {
    const topics = (await log.describeTopics()).filter((topic) => topic.name.startsWith(`${config.prefix}.`))
    if (options.json === true) process.stdout.write(`${JSON.stringify(topics, null, 2)}\n`)
    else
      for (const topic of topics)
        process.stdout.write(
          `${topic.name.padEnd(32)} ${String(topic.partitions).padStart(4)} partitions  ${topic.cleanup}  ${JSON.stringify(topic.config)}\n`,
        )
    if (topics.length === 0)
      process.stderr.write(`There is no topic under the prefix ${config.prefix} yet: \`reins topics apply\` creates them.\n`)
  })
}
