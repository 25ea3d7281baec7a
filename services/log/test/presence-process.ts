// A process with an entry in a folder of members, for tests that stop and kill it:
//
//   node presence-process.ts <stateDir> <group> <instance>             keeps an entry until it ends
//   node presence-process.ts <stateDir> <group> <instance> release     leaves in peace, and lives on
//   node presence-process.ts <stateDir> <group> <instance> ask         says in JSON what it knows of the instance and the group

import { Presence } from "../src/kafka/presence.ts"

const [stateDir, group, instance, what] = process.argv.slice(2) as [string, string, string, string?]
const presence = Presence.open(stateDir)
if (what === "ask") {
  process.stdout.write(`${JSON.stringify({ isGone: presence.isGone(group, instance), unburied: presence.unburied(group) })}\n`)
} else {
  const entry = presence.enter(group, instance)
  if (what === "release") entry?.release()
  process.stdout.write(entry === null ? "refused\n" : "entered\n")
  // Until a signal ends it, or its parent does.
  process.stdin.resume()
}
