import { version } from "@reins/runtime"
import { Command } from "commander"
import { allow, deny, result } from "./answer.ts"
import { approvalsList } from "./approvals.ts"
import { blobsCollect } from "./blobs.ts"
import { connect } from "./connect.ts"
import { dlqList, dlqSettle, dlqShow } from "./dlq.ts"
import { events } from "./events.ts"
import { fail } from "./fail.ts"
import { keysCreate, keysList, keysRevoke } from "./keys.ts"
import { replay } from "./replay.ts"
import { answered, run, send } from "./run.ts"
import { list, show } from "./sessions.ts"
import { apply, describe } from "./topics.ts"
import { dev, up } from "./up.ts"
import { worker } from "./worker.ts"

const several = (value: string, before: readonly string[] | undefined): readonly string[] => [...(before ?? []), value]

const program = new Command("reins")
  .description("An agent harness whose only memory is a log.")
  .version(version)
  .option("-v, --verbose", "show stacks of errors")
  .addHelpText("before", 'Examples:\n  reins run "What is 17 * 23, and what time is it in Tokyo?"\n  reins events SESSION --jsonl\n')
  .showHelpAfterError()
  .exitOverride((error) => {
    process.exit(error.exitCode === 0 ? 0 : 2)
  })

program
  .command("run")
  .description("start a session, show it as it grows, end with its outcome (embedded unless KAFKA_BROKERS is set)")
  .argument("<prompt>")
  .option("--agent <file>", "the agent, JSON or YAML; without it a default agent with the built-in tools")
  .option("--worker <file>", "serve the tools of this file too (embedded); NAME=FILE names the backend", several)
  .option("--session <id>", "the session's id")
  .option("--timeout <seconds>", "leave the session after so long (exit 7)")
  .option("--json", "end with the session as one JSON document on stdout")
  .option("-q, --quiet", "nothing on stderr but errors")
  .action(run)
program
  .command("dev")
  .description("everything in one process on the embedded log; stays up")
  .option("--worker <file>", "serve the tools of this file too; NAME=FILE names the backend", several)
  .action(dev)
program.command("up").description("host the named services, all by default, in this process on Kafka").argument("[services...]").action(up)
program
  .command("worker")
  .description("serve the tools that a module exports, on Kafka")
  .argument("<file>")
  .option("--backend <name>", "the backend they serve; default: the file's base name")
  .action(worker)
const sessions = program.command("sessions").description("what sessions there are, and what people say to them")
sessions.command("list").option("--json").option("--status <status>").option("--agent <name>").action(list)
sessions.command("show").argument("<session>").option("--json").action(show)
for (const [name, type, what] of [
  ["interrupt", "session.interrupt", "stop the turn that runs"],
  ["end", "session.end", "end it for good"],
  ["resume", "session.resume", "let a parked session go on"],
  ["archive", "session.archive", "close it for good and keep it for reading"],
  ["delete", "session.delete", "delete it"],
] as const) {
  sessions.command(name).description(what).argument("<session>").option("--timeout <seconds>").option("--json").action(answered(type))
}
sessions
  .command("send")
  .description("say something to it, show what follows")
  .argument("<session>")
  .argument("<text>")
  .option("--worker <file>", "serve the tools of this file too (embedded); NAME=FILE names the backend", several)
  .option("--timeout <seconds>", "leave the session after so long (exit 7)")
  .option("--json", "end with the session as one JSON document on stdout")
  .action(send)
sessions
  .command("allow")
  .description("let a held call run, once, with the arguments that are shown; the call may be left out where only one waits")
  .argument("<session>")
  .argument("[call]")
  .option("--timeout <seconds>", "leave the session after so long (exit 7)")
  .option("--json", "end with the session as one JSON document on stdout")
  .action(allow)
sessions
  .command("deny")
  .description("answer a held call in its place; the call may be left out where only one waits")
  .argument("<session>")
  .argument("[call]")
  .option("--reason <text>", "what the model is told")
  .option("--timeout <seconds>", "leave the session after so long (exit 7)")
  .option("--json", "end with the session as one JSON document on stdout")
  .action(deny)
sessions
  .command("result")
  .description("give the result of a call that the client runs, or whose outcome nobody knows: [call] text, or [call] @file")
  .argument("<session>")
  .argument("<call-or-text>")
  .argument("[text]")
  .option("--error", "the call failed, and this says how")
  .option("--timeout <seconds>", "leave the session after so long (exit 7)")
  .option("--json", "end with the session as one JSON document on stdout")
  .action(result)
sessions
  .command("connect")
  .description("follow it live, say something, allow, deny, interrupt; leaving it does nothing to it")
  .argument("<session>")
  .option("--all", "from its beginning, not from now")
  .option("--exit", "leave when the input is at its end and the session rests")
  .option("--worker <file>", "serve the tools of this file too (embedded); NAME=FILE names the backend", several)
  .action(connect)
program
  .command("approvals")
  .description("the calls that wait for someone, in all sessions")
  .command("list")
  .option("--json")
  .action(approvalsList)
program
  .command("events")
  .description("every record of a session: where it stands, the fold's verdict, what it says")
  .argument("<session>")
  .option("--jsonl", "one JSON object per record")
  .option("-f, --follow", "go on as the session grows")
  .action(events)
program
  .command("replay")
  .description("rebuild a session and its model requests from the log; executes nothing")
  .argument("<session>")
  .option("--to <offset>", "up to this offset of the session log")
  .option("--check", "compare every rebuilt request with the recorded hash (exit 6 on a difference)")
  .option("--from-snapshot", "with --check: compare the newest snapshot of the session with the whole log")
  .option("--json")
  .action(replay)
const topics = program.command("topics").description("the topics of the log")
topics.command("apply").description("create what is missing, verify what stands").option("--json").action(apply)
topics.command("describe").option("--json").action(describe)
const keys = program.command("keys").description("the API keys: who may call the gateway")
keys
  .command("create")
  .description("make a key and show it, this once")
  .requiredOption("--tenant <tenant>", "whose sessions, agents and environments it reaches")
  .requiredOption("--name <name>", "what it is for")
  .option("--json")
  .action(keysCreate)
keys.command("list").option("--json").action(keysList)
keys.command("revoke").argument("<id>").action(keysRevoke)
const dlq = program.command("dlq").description("the dead letters: records that nobody could read")
dlq.command("list").option("--json").option("--all", "also those retried or dropped").action(dlqList)
dlq.command("show").argument("<offset>").action(dlqShow)
dlq
  .command("retry")
  .description("send it back to where it came from, bytes untouched")
  .argument("<offset>")
  .action((offset: string) => dlqSettle(offset, "retried"))
dlq
  .command("drop")
  .description("note that it is of no use")
  .argument("<offset>")
  .action((offset: string) => dlqSettle(offset, "dropped"))
program
  .command("blobs")
  .description("what stands beside the log, being too large for a record")
  .command("collect")
  .description("remove blobs that no record names; the eraser does so every day")
  .option("--older-than <hours>", "leave what was put since (default: 24, at least 1)")
  .option("--json")
  .action(blobsCollect)

try {
  await program.parseAsync(process.argv)
} catch (error) {
  fail(error, program.opts()["verbose"] === true)
}
