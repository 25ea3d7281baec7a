// `npm run crashpoints [-- --memory | --kafka] [--points REGEXP] [--lanes 6] [--sample N]`: a process dies at every point of the golden stories,
// on the memory log and on a broker of its own. The exit code is the verdict.

import { availableParallelism, loadavg } from "node:os"
import process from "node:process"
import { parseArgs } from "node:util"
import { startKafka } from "@reins/infra/kafka"
import { Random } from "../simulation/random.ts"
import { crashAll, KafkaRuns } from "./on-kafka.ts"
import { MemoryRuns, stages } from "./on-memory.ts"
import { type Told, table } from "./table.ts"

const { values } = parseArgs({
  options: {
    memory: { type: "boolean", default: false },
    kafka: { type: "boolean", default: false },
    lanes: { type: "string", default: "6" },
    /** Only points that are called so, such as `snapshots|blob`. */
    points: { type: "string", default: "" },
    sample: { type: "string" },
    seed: { type: "string", default: "1" },
  },
})
const isWanted = ({ at }: { readonly at: { readonly point: string } }): boolean => new RegExp(values.points).test(at.point)
const both = values.memory === values.kafka
const told: Told[] = []
const say = (line: string): void => void process.stdout.write(`${line}\n`)
say(`load ${loadavg()[0]?.toFixed(1)} on ${availableParallelism()} cores`)

if (both || values.memory) {
  const runs = await new MemoryRuns().open()
  for (const stage of stages) {
    const began = performance.now()
    const name = `${stage.story}, ${stage.shape}`
    const points = (await runs.points(stage)).filter(isWanted)
    for (const point of points) {
      const { at, reached, judgement } = await runs.crash(point)
      told.push({ log: `memory, ${name}`, point: at.point, reached, account: judgement, breaches: judgement.breaches })
    }
    say(`memory, ${name}: ${points.length} points in ${((performance.now() - began) / 1000).toFixed(0)} s`)
  }
  await runs.close()
}

if (both || values.kafka) {
  const kafka = await startKafka()
  const runs = await new KafkaRuns(kafka.env).open()
  try {
    const began = performance.now()
    const all = (await runs.points()).filter(isWanted)
    const random = new Random(Number(values.seed))
    const count = Math.min(all.length, Number(values.sample ?? all.length))
    const points =
      values.sample === undefined
        ? all
        : Array.from({ length: count }, () => all.splice(random.int(0, all.length - 1), 1)[0] ?? random.pick(all))
    say(`kafka: ${points.length} of the stories' points, ${values.lanes} at a time`)
    const times: number[] = []
    await crashAll(runs, points, Number(values.lanes), ({ story, at, reached, judgement, recoveredMs }) => {
      told.push({ log: `kafka, ${story}`, point: at.point, reached, account: judgement, breaches: judgement.breaches })
      if (reached) times.push(recoveredMs)
      if (told.length % 20 === 0) say(`${told.length} deaths, ${((performance.now() - began) / 1000).toFixed(0)} s`)
    })
    times.sort((a, b) => a - b)
    const percentile = (percent: number): string => `${times[Math.ceil((times.length * percent) / 100) - 1] ?? 0} ms`
    say(`kafka: death → end of the session: p50 ${percentile(50)}, p95 ${percentile(95)}, max ${percentile(100)}`)
  } finally {
    await runs.close()
    await kafka.stop()
  }
}

say(`\n${table(told)}\n`)
const breaches = told.flatMap((one) => one.breaches.map((text) => `BREACH ${one.log}, ${one.point}: ${text}`))
for (const text of breaches) say(text)
const reached = told.filter((one) => one.reached).length
say(`${told.length} points, ${reached} deaths, ${breaches.length} breaches, load ${loadavg()[0]?.toFixed(1)}`)
process.exit(breaches.length === 0 && reached > 0.8 * told.length ? 0 : 1)
