// `npm run chaos -- --minutes N --seed S [--brokers 3] [--sessions 200] [--together]`: the exit code is the verdict.

import process from "node:process"
import { parseArgs } from "node:util"
import { told } from "./report.ts"
import { chaos } from "./run.ts"

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "2" },
    seed: { type: "string" },
    brokers: { type: "string", default: "1" },
    sessions: { type: "string", default: "200" },
    together: { type: "boolean", default: false },
  },
})
const minutes = Number(values.minutes)
const sessions = Number(values.sessions)
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed)
if (!(minutes > 0) || !Number.isInteger(sessions) || sessions < 1 || !Number.isInteger(seed) || !["1", "3"].includes(values.brokers)) {
  process.stderr.write("Usage: npm run chaos -- --minutes N [--seed S] [--brokers 1|3] [--sessions 200] [--together]\n")
  process.exit(2)
}
const report = await chaos({
  seed,
  faultsMs: minutes * 60_000,
  sessions,
  brokers: values.brokers === "3" ? 3 : 1,
  apart: !values.together,
  settleMs: 180_000,
  say: (line) => void process.stdout.write(`${line}\n`),
})
process.stdout.write(`\n${told(report)}\n`)
process.exit(report.breaches.length === 0 && report.missing.length === 0 ? 0 : 1)
