import assert from "node:assert/strict"
import { randomBytes } from "node:crypto"
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, describe, it } from "node:test"
import { sharedKafka, skipWithoutKafka } from "@reins/infra/kafka"
import { blobsHeader, folderOf, type LogRecord, readNamed } from "@reins/log"
import { type Session, stateDigest } from "@reins/session"
import { type Call, calls, says } from "@reins/simulated-model"
import { defineTool, toolsBackend } from "@reins/worker-kit"
import { z } from "zod"
import { type S3Server, startS3 } from "../conformance/s3-server.ts"
import { Bench, type Environment, until } from "./harness.ts"
import { HostedWorld } from "./hosted-world.ts"

// What is too large for a record, from end to end: a picture in a message of the official SDK, a result of a tool, and what becomes of a
// session when the disk loses one of them.

const skipKafka = await skipWithoutKafka()
const canary = `CANARY${randomBytes(6).toString("hex")}`
/** One of a megabyte, as base64; its text is not repeated, so that a cut or a gap would show. */
const picture = Buffer.concat([Buffer.from(canary), randomBytes(760_000)]).toString("base64")
const report = `${canary} ${Array.from({ length: 180_000 }, (_, n) => `line ${n}`).join("\n")}`
const sessionId = "sesn_large"

const worker = toolsBackend("reports", "reports", [
  defineTool({ name: "report", description: "Writes a report.", input: z.strictObject({}), effect: "pure", run: () => report }),
])

function answered(call: Call) {
  const last = JSON.stringify(call.request.messages.at(-1)?.content ?? "")
  return last.includes("tool_result") || !last.includes("Write the report.") ? says("I see.") : calls({ name: "report", input: {} })
}

/** One session with what is too large for a record, over one partition. */
class LargeWorld extends HostedWorld {
  static async open(env: Environment): Promise<LargeWorld> {
    const world = await LargeWorld.start(
      // A picture counts as text here, and is not to be summarised.
      { ...env, REINS_PARTITIONS: "1", REINS_CONTEXT_TOKENS: "50000000" },
      { gateway: "open", workers: [worker] },
    )
    world.model.script = answered
    return world
  }

  /** The folder of blobs; empty where they stand in a bucket. */
  get blobs(): string {
    const { blobs, prefix } = this.config
    return blobs?.kind === "folder" ? join(blobs.path, prefix) : ""
  }

  /** The newest record of a type whose field stands in a blob, and its file. */
  async blobOf(type: string, topic: string = this.names.sessions): Promise<{ readonly record: LogRecord; readonly file: string }> {
    const record = (await this.records(topic)).findLast(({ headers }) => headers["type"] === type && headers[blobsHeader] !== undefined)
    const [named] = readNamed(record?.headers[blobsHeader] ?? "") ?? []
    assert.ok(record !== undefined && named !== undefined, `${type} names a blob`)
    return { record, file: join(this.blobs, folderOf(sessionId), named.sha256) }
  }

  async rests(turns: number): Promise<Session> {
    return until(async () => {
      const session = await this.session(sessionId)
      return session.phase === "idle" && session.turns === turns && !session.wake && session
    }, `turn ${turns} is over`)
  }

  async parked(): Promise<Extract<Session, { phase: "parked" }>> {
    return until(async () => {
      const parked = (await this.records()).findLast(({ headers }) => headers["type"] === "session.parked")
      const resumed = (await this.records()).findLast(({ headers }) => headers["type"] === "session.resumed")
      if (parked === undefined || (resumed?.offset ?? -1) > parked.offset) return false
      const { codec } = this.host
      const decoded = codec.decode(parked.value as Uint8Array)
      return decoded.ok && (decoded.said as unknown as Extract<Session, { phase: "parked" }>)
    }, "it is parked")
  }

  async snapshot(): Promise<void> {
    const { offset } = (await this.records()).at(-1) as LogRecord
    await until(
      async () => (await this.records(this.names.snapshots)).some(({ headers }) => Number(headers["offset"] ?? -1) >= offset),
      "its snapshot stands",
    )
  }

  bodies(): string[] {
    return this.model.calls.map(({ body }) => body)
  }
}

function sightings(dir: string): string[] {
  const wanted = [canary, Buffer.from(canary).toString("base64").slice(0, 20)]
  return globSync("**", { cwd: dir, withFileTypes: true })
    .filter((file) => file.isFile())
    .map((file) => join(file.parentPath, file.name))
    .filter((file) => wanted.some((word) => readFileSync(file).includes(word)))
}

function story(kafka: () => Promise<Environment>, isEmbedded: boolean): void {
  const bench = new Bench()
  let world: LargeWorld

  before(async () => {
    world = await LargeWorld.open(await kafka())
    const agent = { name: "t", model: "claude-sonnet-5-5", tools: [{ name: "report", backend: "reports" }] }
    await world.command(sessionId, { type: "session.start", agent })
  })
  after(async () => {
    await world?.stop()
    await bench.close()
  })

  async function send(text: string, ...blocks: readonly object[]): Promise<void> {
    const content = [...blocks, { type: "text", text }] as never
    await world.client().beta.sessions.events.send(sessionId, { events: [{ type: "user.message", content }] })
  }

  it("a picture of a megabyte in a message of the SDK reaches the model, and the log holds its name", async () => {
    await until(async () => (await world.session(sessionId)).phase === "idle", "it begins")
    const source = { type: "base64", media_type: "image/png", data: picture }
    await send("What is this?", { type: "image", source })
    await world.rests(1)
    assert.ok(world.bodies().at(-1)?.includes(picture))
    const { record, file } = await world.blobOf("message.received")
    assert.ok((record.value?.length ?? 0) < 2000)
    assert.ok(readFileSync(file, "utf8").includes(picture))
    const shown = await world.client().beta.sessions.events.list(sessionId, { types: ["user.message"] })
    assert.ok(JSON.stringify(shown.data).includes(picture))
  })

  it("a result of two megabytes too", async () => {
    await send("Write the report.")
    await world.rests(3)
    assert.ok(world.bodies().at(-1)?.includes(JSON.stringify(report).slice(1, -1)))
    const { record, file } = await world.blobOf("tool-call.completed")
    assert.ok((record.value?.length ?? 0) < 2000)
    assert.equal(readFileSync(file, "utf8"), JSON.stringify(report))
    assert.equal((await world.blobOf("tool-call.finished", world.names.tools("reports"))).file, file, "the same bytes stand once")
  })

  it("goes on after a restart, and every request is rebuilt to the byte", async () => {
    await world.restart()
    await send("And now?")
    await world.rests(4)
    const body = world.bodies().at(-1) ?? ""
    assert.ok(body.includes(picture) && body.includes(JSON.stringify(report).slice(1, -1)))
    const replayed = await bench.run(["replay", sessionId, "--check"], world.env)
    assert.equal(replayed.code, 0, replayed.stderr)
    assert.match(replayed.stdout, /^4 requests rebuilt, 0 differ\./m)
  })

  it("waits for a person where a blob is damaged, says which, and goes on once it is back", async () => {
    const other = Buffer.concat([Buffer.from(canary), randomBytes(300_000)]).toString("base64")
    await send("And this?", { type: "image", source: { type: "base64", media_type: "image/png", data: other } })
    await world.rests(5)
    const { record, file } = await world.blobOf("message.received")
    const bytes = readFileSync(file)
    const digest = stateDigest(await world.session(sessionId))
    await world.host.stop()
    writeFileSync(file, Buffer.from(bytes).fill(0x20, 1000, 1001))
    await world.restart()
    await send("Still there?")
    const { code, message } = await world.parked()
    assert.equal(code, "blob_damaged")
    assert.ok(message.includes(`[0] says at offset ${record.offset}`) && message.includes(file), message)
    const replayed = await bench.run(["replay", sessionId, "--check"], world.env)
    assert.equal(replayed.code, 6)
    assert.match(replayed.stderr, /is damaged in the blob store/)
    // Others are not concerned.
    const environment = await world
      .client()
      .beta.environments.create({ name: `e-${randomBytes(4).toString("hex")}`, config: { type: "self_hosted" } })
    assert.ok(environment.id)
    writeFileSync(file, bytes)
    await world.command(sessionId, { type: "session.resume" })
    await world.rests(6)
    assert.ok(world.bodies().at(-1)?.includes(other))
    const checked = await bench.run(["replay", sessionId, "--check"], world.env)
    assert.equal(checked.code, 0, checked.stderr)
    assert.notEqual(stateDigest(await world.session(sessionId)), digest)
    const { data } = await world.client().beta.sessions.events.list(sessionId, { types: ["user.message"] })
    assert.equal(data.length, 5)
  })

  it("waits as well where one is missing of which a snapshot knew", async () => {
    await world.snapshot()
    const { file } = await world.blobOf("message.received")
    const bytes = readFileSync(file)
    await world.host.stop()
    rmSync(file)
    await world.restart()
    await send("Once more.")
    const { code, message } = await world.parked()
    assert.equal(code, "blob_missing")
    assert.ok(message.includes(file), message)
    writeFileSync(file, bytes)
    await world.command(sessionId, { type: "session.resume" })
    await world.rests(7)
    assert.ok(world.bodies().at(-1)?.includes(picture))
    assert.deepEqual(world.failures, [])
  })

  it("leaves no file behind when it is deleted", async () => {
    assert.ok(existsSync(join(world.blobs, folderOf(sessionId))))
    assert.ok(sightings(world.blobs).length > 0)
    await world.client().beta.sessions.delete(sessionId)
    await until(() => !existsSync(join(world.blobs, folderOf(sessionId))), "its folder is gone")
    await until(() => sightings(isEmbedded ? world.dir : world.blobs).length === 0, "the canary is nowhere on the disk")
    assert.deepEqual(world.failures, [])
  })
}

describe("values that are too large for a record, embedded", { timeout: 240_000 }, () => story(async () => ({}), true))

describe("values that are too large for a record, in a bucket", { timeout: 120_000 }, () => {
  const bench = new Bench()
  let s3: S3Server
  let world: LargeWorld

  before(async () => {
    s3 = await startS3()
    world = await LargeWorld.open({
      REINS_BLOBS: `s3://${s3.bucket}/of/reins`,
      AWS_ENDPOINT_URL_S3: s3.endpoint,
      AWS_ACCESS_KEY_ID: s3.accessKeyId,
      AWS_SECRET_ACCESS_KEY: s3.secretAccessKey,
    })
  })
  after(async () => {
    await world?.stop()
    await s3?.stop()
    await bench.close()
  })

  const objects = (): string[] => globSync("**/*object", { cwd: s3.dir })

  it("go there, come back after a restart, to the byte, and are gone with their session", async () => {
    await world.command(sessionId, {
      type: "session.start",
      agent: { name: "t", model: "claude-sonnet-5-5", tools: [{ name: "report", backend: "reports" }] },
    })
    await until(async () => (await world.session(sessionId)).phase === "idle", "it begins")
    const content = [
      { type: "image", source: { type: "base64", media_type: "image/png", data: picture } },
      { type: "text", text: "Write the report." },
    ]
    await world.client().beta.sessions.events.send(sessionId, { events: [{ type: "user.message", content: content as never }] })
    await world.rests(2)
    assert.ok(
      objects().length >= 2 && objects().every((name) => name.startsWith(`${s3.bucket}/of/reins/${world.names.prefix}/sesn_large.`)),
    )
    await world.restart()
    await world
      .client()
      .beta.sessions.events.send(sessionId, { events: [{ type: "user.message", content: [{ type: "text", text: "And now?" }] }] })
    await world.rests(3)
    assert.ok(world.bodies().at(-1)?.includes(picture))
    const replayed = await bench.run(["replay", sessionId, "--check"], world.env)
    assert.equal(replayed.code, 0, replayed.stderr)
    const collected = await bench.run(["blobs", "collect", "--json"], world.env)
    assert.deepEqual((JSON.parse(collected.stdout) as { collected: number; stored: number }).collected, 0)
    await world.client().beta.sessions.delete(sessionId)
    await until(() => objects().length === 0, "the bucket is empty")
    assert.deepEqual(world.failures, [])
  })
})

describe("values that are too large for a record, on Kafka", { skip: skipKafka, timeout: 240_000 }, () => {
  const blobs = mkdtempSync(join(tmpdir(), "reins-large-blobs-"))
  after(() => rmSync(blobs, { recursive: true, force: true }))
  story(async () => ({ ...(await sharedKafka()).env, REINS_BLOBS: blobs }), false)
})
