import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { topicNames } from "@reins/events"
import { BlobDamagedError, type Blobs, BlobsUnavailableError, MemoryBlobs, sha256Of, withBlobs } from "../src/blobs/index.ts"
import {
  type Append,
  AppendRejectedError,
  AppendUnknownError,
  AppendWithdrawnError,
  asideOf,
  blobsHeader,
  type Log,
  type LogRecord,
  readNamed,
} from "../src/index.ts"
import { MemoryBroker, type MemoryLog } from "../src/memory.ts"
import { Codec, decodeRecord } from "../src/registry/codec.ts"

const names = topicNames("t")
const topics = [names.sessions, names.commands, names.tools("shop")]
const large = JSON.stringify([{ type: "text", text: "é".repeat(200_000) }])
const small = '[{"type":"text","text":"hello"}]'

const envelope = (sessionId: string, n: number) => ({
  eventId: `evt_${n}`,
  sessionId,
  tenant: "default",
  at: 0,
  by: "test",
  causedBy: null,
  traceparent: null,
})

interface Stage {
  readonly broker: MemoryBroker
  readonly plain: MemoryLog
  readonly log: Log
  readonly codec: Codec
  readonly blobs: MemoryBlobs
  message(content: string, given?: Partial<Append> & { readonly sessionId?: string }): Append
}

async function stage(store: (blobs: MemoryBlobs) => Blobs = (blobs) => blobs): Promise<Stage> {
  const broker = new MemoryBroker()
  const plain = broker.connect()
  await plain.applyTopics(topics.map((name) => ({ name, partitions: 2, cleanup: "delete", config: {} })))
  const codec = await Codec.open(broker.registry)
  const blobs = new MemoryBlobs()
  let count = 0
  return {
    broker,
    plain,
    codec,
    blobs,
    log: withBlobs(plain, { codec, blobs: store(blobs) }),
    message: (content, { sessionId = "s", ...given } = {}) => {
      const n = count++
      return {
        topic: names.sessions,
        partition: 0,
        key: () => `${sessionId}/${n}`,
        value: codec.encode("sessions", {
          type: "message.received",
          ...envelope(sessionId, n),
          commandId: `c${n}`,
          command: { partition: 0, offset: n },
          content,
        }),
        headers: { type: "message.received", session: sessionId },
        certainty: "always",
        ...given,
      }
    },
  }
}

async function standing(log: Log, topic = names.sessions, how?: { bare: boolean }): Promise<LogRecord[]> {
  const records: LogRecord[] = []
  for await (const some of log.replay(topic, 0, 0, undefined, how)) records.push(...some)
  return records
}

async function contents({ log, codec }: Stage): Promise<unknown[]> {
  return (await standing(log)).map((record) => {
    const decoded = decodeRecord(codec, "sessions", record)
    return decoded.ok ? decoded.said["content"] : "reason" in decoded && decoded.reason
  })
}

/** The same store, but for these. */
function but(blobs: Blobs, given: Partial<Blobs>): Blobs {
  return {
    place: blobs.place,
    put: (sessionId, bytes) => blobs.put(sessionId, bytes),
    get: (sessionId, sha256) => blobs.get(sessionId, sha256),
    list: () => blobs.list(),
    collect: (blob, olderThanMs) => blobs.collect(blob, olderThanMs),
    removeSession: (sessionId) => blobs.removeSession(sessionId),
    ...given,
  }
}

/** Every put waits for what the test says of it, in the order in which they came. */
function slow(blobs: Blobs): { readonly store: Blobs; readonly puts: { resolve(): void; reject(error: Error): void }[] } {
  const puts: { resolve(): void; reject(error: Error): void }[] = []
  const put: Blobs["put"] = (sessionId, bytes) =>
    new Promise((resolve, reject) => puts.push({ resolve: () => void blobs.put(sessionId, bytes).then(resolve, reject), reject }))
  return { store: but(blobs, { put }), puts }
}

const turns = async (): Promise<void> => {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
}

describe("a record with a field that is too large for it", () => {
  it("names its blob and is read whole; the log has a placeholder", async () => {
    const at = await stage()
    const placed = await at.log.append(at.message(large))
    const sha256 = sha256Of(Buffer.from(large))
    const [raw] = await standing(at.plain)
    assert.deepEqual(readNamed(raw?.headers[blobsHeader] ?? ""), [{ field: "content", sha256, bytes: Buffer.byteLength(large) }])
    assert.ok((raw?.value?.length ?? 0) < 500)
    const decoded = at.codec.decode(raw?.value as Uint8Array)
    assert.equal(decoded.ok && decoded.said["content"], `{"blob":"sha256:${sha256}","bytes":${Buffer.byteLength(large)}}`)
    assert.deepEqual([raw?.offset, raw?.timestamp], [placed.offset, placed.timestamp])
    assert.deepEqual(await contents(at), [large])
    const [bare] = await standing(at.log, names.sessions, { bare: true })
    assert.deepEqual(bare, raw)
  })

  it("is as it was where it fits, up to the last byte", async () => {
    const at = await stage()
    const fits = JSON.stringify("x".repeat(256 * 1024 - 2))
    for (const content of [small, fits, JSON.stringify("x".repeat(256 * 1024 - 1))]) await at.log.append(at.message(content))
    assert.deepEqual(
      (await standing(at.plain)).map(({ headers }) => headers[blobsHeader] !== undefined),
      [false, false, true],
    )
  })

  it("says plain JSON as plain JSON: a command as anyone types it, a dispatch for a worker in another language", async () => {
    const at = await stage()
    const command = { type: "message.send", commandId: "c", sessionId: "s", content: [{ type: "text", text: "x".repeat(300_000) }] }
    const dispatch = {
      type: "tool-call.dispatched",
      ...envelope("s", 1),
      toolUseId: "toolu_1",
      tool: "count",
      attempt: 1,
      effect: "pure",
      idempotencyKey: "s/toolu_1",
      arguments: { text: "y".repeat(300_000) },
      deadlineAt: 1,
      sessionOffset: 0,
      settings: null,
    }
    for (const [topic, said] of [
      [names.commands, command],
      [names.tools("shop"), dispatch],
    ] as const) {
      await at.log.append({
        topic,
        partition: 0,
        key: () => "s/1",
        value: Buffer.from(JSON.stringify(said)),
        headers: { type: said.type, session: "s" },
        certainty: "always",
      })
    }
    const [read] = await standing(at.log, names.commands)
    const sent = JSON.parse(Buffer.from(read?.value as Uint8Array).toString()) as { content: { blob: string; bytes: number } }
    assert.match(sent.content.blob, /^sha256:[0-9a-f]{64}$/)
    const aside = asideOf(read as LogRecord)
    assert.deepEqual(aside, { texts: { content: JSON.stringify(command.content) } })
    const [dispatched] = await standing(at.log, names.tools("shop"))
    const decoded = decodeRecord(at.codec, "tools", dispatched as LogRecord)
    assert.equal(decoded.ok && decoded.said["arguments"], JSON.stringify(dispatch.arguments))
  })

  it("tells what is missing or damaged with its record, and reads on", async () => {
    const at = await stage()
    for (const content of [small, large, small]) await at.log.append(at.message(content))
    for (const how of ["missing", "damaged"] as const) {
      const mend = at.blobs.damage("s", sha256Of(Buffer.from(large)), how)
      assert.deepEqual(await contents(at), [small, `blob_${how}`, small])
      const decoded = decodeRecord(at.codec, "sessions", (await standing(at.log))[1] as LogRecord)
      assert.match(
        "message" in decoded ? decoded.message : "",
        /t\.sessions\[0\] says at offset 1 is (missing|damaged) .*folder s\..*resume/,
      )
      mend()
      assert.deepEqual(await contents(at), [small, large, small])
    }
  })

  it("is not read by who has no blob store: it is no record with a placeholder", async () => {
    const at = await stage()
    await at.log.append(at.message(large))
    const decoded = decodeRecord(at.codec, "sessions", (await standing(at.plain))[0] as LogRecord)
    assert.ok(!decoded.ok && "reason" in decoded && decoded.reason === "blob_missing" && /REINS_BLOBS/.test(decoded.message))
  })

  it("does not lend its blobs to another session, nor to a field that cannot be large", async () => {
    const at = await stage()
    const sha256 = await at.blobs.put("victim", Buffer.from(large))
    const named = `content=${sha256}:9`
    for (const [headers, reason] of [
      [{ session: "victim", [blobsHeader]: named }, "invalid"],
      [{ session: "s", [blobsHeader]: named }, "blob_missing"],
      [{ session: "s", [blobsHeader]: "nonsense" }, "blob_missing"],
      [{ session: "s", [blobsHeader]: `content=../../${sha256}:9` }, "blob_missing"],
      [{ session: "s", [blobsHeader]: `content=${sha256}:99999999999` }, "blob_damaged"],
    ] as const) {
      await at.plain.append({ ...at.message(small), headers })
      const decoded = decodeRecord(at.codec, "sessions", (await standing(at.log)).at(-1) as LogRecord)
      assert.equal(!decoded.ok && "reason" in decoded && decoded.reason, reason, JSON.stringify(headers))
    }
    const own = await at.blobs.put("s", Buffer.from('"evt_forged"'))
    await at.plain.append({ ...at.message(small), headers: { session: "s", [blobsHeader]: `eventId=${own}:12` } })
    const decoded = decodeRecord(at.codec, "sessions", (await standing(at.log)).at(-1) as LogRecord)
    assert.equal(!decoded.ok && "reason" in decoded && decoded.reason, "invalid")
  })
})

describe("an append that waits for its blob", () => {
  it("keeps its place: what is appended to the partition later does not overtake it, what goes elsewhere does (C1, C2)", async () => {
    const at = await stage()
    const { store, puts } = slow(at.blobs)
    const log = withBlobs(at.plain, { codec: at.codec, blobs: store })
    const placed = [log.append(at.message(large)), log.append(at.message(small)), log.append(at.message(large.replace("text", "tex")))]
    const elsewhere = await log.append(at.message(small, { partition: 1 }))
    assert.equal(elsewhere.offset, 0)
    await turns()
    assert.equal((await standing(at.plain)).length, 0)
    assert.equal(puts.length, 2, "blobs are put side by side")
    puts[1]?.resolve()
    await turns()
    assert.equal((await standing(at.plain)).length, 0)
    puts[0]?.resolve()
    assert.deepEqual(
      (await Promise.all(placed)).map(({ offset }) => offset),
      [0, 1, 2],
    )
    // The way is free again.
    assert.equal((await log.append(at.message(small))).offset, 3)
  })

  it("is unknown where the blob does not come to stand, and nothing of it is appended; what must stand is put again", async () => {
    const at = await stage()
    let failing = 2
    const down = new BlobsUnavailableError("no route")
    const warned: Error[] = []
    const put: Blobs["put"] = (sessionId, bytes) => (failing-- > 0 ? Promise.reject(down) : at.blobs.put(sessionId, bytes))
    const store = but(at.blobs, { put })
    const log = withBlobs(at.plain, { codec: at.codec, blobs: store, warn: (error) => warned.push(error) })
    await assert.rejects(log.append(at.message(large, { certainty: "once" })), AppendUnknownError)
    assert.equal((await standing(at.plain)).length, 0)
    assert.equal((await log.append(at.message(large, { certainty: "until-withdrawn" }))).offset, 0)
    assert.deepEqual(warned, [down])
    assert.equal(at.blobs.has("s", sha256Of(Buffer.from(large))), true)
  })

  it("is taken back with its partition, unless it is to stand whatever happens", async () => {
    const at = await stage()
    const { store, puts } = slow(at.blobs)
    const log = withBlobs(at.plain, { codec: at.codec, blobs: store })
    const outcomes = (["once", "until-withdrawn", "always"] as const).map((certainty) => log.append(at.message(large, { certainty })))
    const after = log.append(at.message(small, { certainty: "once" }))
    log.withdraw(names.sessions, 0)
    for (const one of [outcomes[0], outcomes[1], after]) await assert.rejects(one as Promise<unknown>, AppendWithdrawnError)
    for (const put of puts) put.resolve()
    assert.equal((await outcomes[2])?.offset, 0)
    assert.equal((await standing(at.plain)).length, 1)
  })

  it("is given up when the log is closed, and refused for good where it is larger than anything", async () => {
    const at = await stage()
    const monster = Buffer.from(JSON.stringify({ type: "message.send", sessionId: "s", content: "x".repeat(65 * 1024 * 1024) }))
    const append = { ...at.message(small), topic: names.commands, value: monster }
    await assert.rejects(at.log.append(append), AppendRejectedError)
    const { store } = slow(at.blobs)
    let monotonic = 0
    const clock = { monotonic: () => (monotonic += 1000), after: (_ms: number, run: () => void) => (setImmediate(run), () => undefined) }
    const log = withBlobs(at.broker.connect(), { codec: at.codec, blobs: store, clock })
    const never = log.append(at.message(large))
    await Promise.all([assert.rejects(never, AppendWithdrawnError), log.close()])
  })
})

describe("a follower of records with blobs", () => {
  it("gets every record once, in order, each whole; another partition does not wait (C4)", async () => {
    const at = await stage()
    const gate = Promise.withResolvers<void>()
    const get: Blobs["get"] = async (sessionId, sha256) => {
      await gate.promise
      return at.blobs.get(sessionId, sha256)
    }
    const store = but(at.blobs, { get })
    const log = withBlobs(at.plain, { codec: at.codec, blobs: store })
    const told: string[] = []
    for (const [content, partition] of [
      [small, 0],
      [large, 0],
      [small, 0],
      [small, 1],
    ] as const)
      await log.append(at.message(content, { partition }))
    await log.follow({
      instance: "i",
      topics: [names.sessions],
      records: (_topic, partition, records) => {
        for (const record of records) {
          const decoded = decodeRecord(at.codec, "sessions", record)
          told.push(`${partition}/${record.offset} ${decoded.ok ? String(decoded.said["content"]).length : "?"}`)
        }
      },
      caughtUp: (_topic, partition) => void told.push(`caught up ${partition}`),
    })
    await turns()
    assert.deepEqual(told.sort(), ["0/0 32", "1/0 32", "caught up 1"])
    gate.resolve()
    await turns()
    assert.deepEqual(told, ["0/0 32", "1/0 32", "caught up 1", `0/1 ${large.length}`, "0/2 32", "caught up 0"])
  })

  it("asks a store that does not answer until it does; what was lost meanwhile is not delivered", async () => {
    const at = await stage()
    await at.log.append(at.message(large))
    let asked = 0
    const get: Blobs["get"] = (sessionId, sha256) =>
      ++asked < 3 ? Promise.reject(new BlobsUnavailableError("down")) : at.blobs.get(sessionId, sha256)
    const store = but(at.blobs, { get })
    const log = withBlobs(at.plain, { codec: at.codec, blobs: store })
    const { promise, resolve } = Promise.withResolvers<readonly LogRecord[]>()
    const following = await log.follow({
      group: "g",
      instance: "i",
      topics: [names.sessions],
      records: (_t, _p, records) => resolve(records),
    })
    const [record] = await promise
    assert.equal(asked, 3)
    assert.ok(decodeRecord(at.codec, "sessions", record as LogRecord).ok)
    await following.stop()
    asked = -1_000_000
    const told: LogRecord[] = []
    const again = await log.follow({
      group: "g",
      instance: "j",
      topics: [names.sessions],
      records: (_t, _p, records) => void told.push(...records),
    })
    await turns()
    await again.stop()
    asked = 10
    await new Promise((wake) => setTimeout(wake, 150))
    assert.deepEqual(told, [])
  })

  it("does not load what its reader has folded already", async () => {
    const at = await stage()
    for (const content of [large, large]) await at.log.append(at.message(content))
    const damaged: Blobs["get"] = () => Promise.reject(new BlobDamagedError("It was read."))
    const store = but(at.blobs, { get: damaged })
    const log = withBlobs(at.plain, { codec: at.codec, blobs: store })
    const told: LogRecord[] = []
    let position = 0
    await log.follow({
      instance: "i",
      topics: [names.sessions],
      position: (_topic, partition) => (partition === 0 ? position : 0),
      from: () => {
        position = 2
        return 0
      },
      records: (_t, _p, records) => void told.push(...records),
    })
    await turns()
    assert.deepEqual(told, [])
  })
})
