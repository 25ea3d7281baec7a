import assert from "node:assert/strict"
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { test } from "node:test"
import { fileURLToPath } from "node:url"
import { cached } from "../kafka/artifacts.ts"
import { inheritedEnv } from "../kafka/config.ts"
import { sharedKafka, skipWithoutKafka, startKafka } from "../kafka/local.ts"
import { isFree } from "../kafka/ports.ts"
import { describeCluster, eventually } from "../kafka/probe.ts"

const skip = await skipWithoutKafka()
const file = (name: string): string => fileURLToPath(new URL(name, import.meta.url))
const folderFor = (context: { after(end: () => void): void }): string => {
  const folder = mkdtempSync(join(tmpdir(), "reins-infra-"))
  context.after(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
const portOf = (address: string): number => Number(address.split(":").at(-1))

function runs(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** Starts a Node program and collects what it prints until `until` matches. */
async function program(
  args: readonly string[],
  until: RegExp,
  env: NodeJS.ProcessEnv = inheritedEnv(),
): Promise<{ readonly child: ChildProcess; readonly stdout: () => string; readonly stderr: () => string }> {
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"], env })
  let stdout = ""
  let stderr = ""
  child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString("utf8")))
  child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString("utf8")))
  const gaveUp = (): string | undefined => (child.exitCode === null ? undefined : `It exited with ${child.exitCode}:\n${stdout}\n${stderr}`)
  await eventually(
    120_000,
    () => (until.test(stdout) ? undefined : gaveUp()),
    async () => {
      if (!until.test(stdout)) throw new Error(`Not yet: ${stdout}`)
    },
  )
  return { child, stdout: () => stdout, stderr: () => stderr }
}

async function exitOf(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode
  return await new Promise((resolve) => child.once("exit", resolve))
}

test("a broker survives its kill: same port, same cluster, same data", { skip }, async (context) => {
  const dataDir = folderFor(context)
  const kafka = await startKafka({ registry: false, dataDir })
  context.after(() => kafka.stop())
  const [broker] = kafka.brokers
  assert.ok(broker)
  assert.equal(kafka.bootstrap, `127.0.0.1:${broker.port}`)
  assert.deepEqual(kafka.env, { KAFKA_BROKERS: kafka.bootstrap })
  const pid = broker.pid

  await broker.kill("SIGKILL")
  assert.equal(runs(pid), false)
  await assert.rejects(describeCluster("127.0.0.1", broker.port, 2_000))

  await broker.restart()
  assert.notEqual(broker.pid, pid)
  assert.deepEqual((await describeCluster("127.0.0.1", broker.port, 5_000)).brokerIds, [1])

  await kafka.stop()
  assert.equal(runs(broker.pid), false)
  assert.ok(existsSync(join(dataDir, "broker-1", "data", "meta.properties")), "a folder that was asked for is kept")
})

test("three brokers form one cluster and go on when one is gone", { skip }, async (context) => {
  const kafka = await startKafka({ brokers: 3, registry: false })
  context.after(() => kafka.stop())
  const [first, second, third] = kafka.brokers
  assert.ok(first && second && third)
  await first.kill("SIGKILL")
  await eventually(
    60_000,
    () => undefined,
    async () => {
      for (const broker of [second, third]) {
        const view = await describeCluster("127.0.0.1", broker.port, 5_000)
        assert.deepEqual(
          view.brokerIds.toSorted((a, b) => a - b),
          [2, 3],
        )
      }
    },
  )
  await first.restart()
  await eventually(
    60_000,
    () => undefined,
    async () => {
      const view = await describeCluster("127.0.0.1", second.port, 5_000)
      assert.deepEqual(
        view.brokerIds.toSorted((a, b) => a - b),
        [1, 2, 3],
      )
    },
  )
})

test("the registry refuses a change that an old or a new reader could not read, with no setting by the client", { skip }, async () => {
  const { registryUrl } = await sharedKafka()
  assert.ok(registryUrl)
  assert.deepEqual(await (await fetch(`${registryUrl}/config`)).json(), { compatibilityLevel: "FULL_TRANSITIVE" })
  const register = async (fields: readonly object[]): Promise<number> => {
    const answer = await fetch(`${registryUrl}/subjects/infra-test-order/versions`, {
      method: "POST",
      headers: { "content-type": "application/vnd.schemaregistry.v1+json" },
      body: JSON.stringify({ schema: JSON.stringify({ type: "record", name: "Order", fields }) }),
    })
    return answer.status
  }
  const id = { name: "id", type: "string" }
  assert.equal(await register([id]), 200)
  assert.equal(await register([id, { name: "cents", type: "int" }]), 409)
  assert.equal(await register([id, { name: "cents", type: "int", default: 0 }]), 200)
})

test("a data folder keeps the schemas and their ids over a restart", { skip }, async (context) => {
  const dataDir = folderFor(context)
  const schema = JSON.stringify({ type: "record", name: "Kept", fields: [{ name: "id", type: "string" }] })
  const first = await startKafka({ dataDir })
  context.after(() => first.stop())
  const answer = await fetch(`${first.registryUrl}/subjects/kept/versions`, {
    method: "POST",
    headers: { "content-type": "application/vnd.schemaregistry.v1+json" },
    body: JSON.stringify({ schema }),
  })
  const { id } = (await answer.json()) as { id: number }
  assert.ok(id > 0)
  await first.stop()

  const second = await startKafka({ dataDir })
  context.after(() => second.stop())
  const kept = (await (await fetch(`${second.registryUrl}/schemas/ids/${id}`)).json()) as { schema: string }
  assert.deepEqual(JSON.parse(kept.schema), JSON.parse(schema))
})

test("a process that is killed with SIGKILL leaves no broker, no registry and no folder behind", { skip }, async (context) => {
  const temporary = folderFor(context)
  const script = join(temporary, "asker.ts")
  writeFileSync(
    script,
    `import { startKafka } from ${JSON.stringify(new URL("../kafka/local.ts", import.meta.url).href)}
     const kafka = await startKafka()
     console.log("up " + JSON.stringify([kafka.brokers[0].pid, kafka.bootstrap, new URL(kafka.registryUrl).host]))
     setInterval(() => undefined, 1000)`,
  )
  const asker = await program([script], /up .*\n/, { ...inheritedEnv(), TMPDIR: temporary })
  const [pid, bootstrap, registry] = JSON.parse(/up (.*)\n/.exec(asker.stdout())?.[1] ?? "") as [number, string, string]
  const left = (): string[] => readdirSync(temporary).filter((name) => name.startsWith("reins-kafka-"))
  assert.ok(runs(pid))
  assert.equal(left().length, 1)

  asker.child.kill("SIGKILL")
  await eventually(
    60_000,
    () => undefined,
    async () => {
      assert.equal(runs(pid), false)
      assert.ok((await isFree(portOf(bootstrap))) && (await isFree(portOf(registry))))
      assert.deepEqual(left(), [])
    },
  )
})

test("a supervisor that is killed alone takes its brokers along", {
  skip: skip || (process.platform === "linux" ? false : "reads /proc"),
}, async (context) => {
  const kafka = await startKafka({ registry: false })
  context.after(() => kafka.stop())
  const [broker] = kafka.brokers
  assert.ok(broker)
  const status = readFileSync(`/proc/${broker.pid}/status`, "utf8")
  const supervisor = Number(/^PPid:\s+(\d+)$/m.exec(status)?.[1])
  assert.notEqual(supervisor, process.pid)
  process.kill(supervisor, "SIGKILL")
  await eventually(
    60_000,
    () => undefined,
    async () => assert.equal(runs(broker.pid), false),
  )
})

test("npm run kafka -- --print says only export lines on stdout, stays up, and ends all on SIGTERM", { skip }, async (context) => {
  const kafka = await program([file("../kafka/main.ts"), "--print"], /SCHEMA_REGISTRY_URL=.*\n/)
  context.after(() => kafka.child.kill("SIGKILL"))
  const match = /^export KAFKA_BROKERS=(127\.0\.0\.1:\d+)\nexport SCHEMA_REGISTRY_URL=(http:\S+)\n$/.exec(kafka.stdout())
  assert.ok(match, kafka.stdout())
  const [, bootstrap = "", registryUrl = ""] = match
  assert.deepEqual((await describeCluster("127.0.0.1", portOf(bootstrap), 5_000)).brokerIds, [1])
  assert.equal((await fetch(`${registryUrl}/subjects`)).status, 200)
  assert.match(kafka.stderr(), /Ready after/)

  kafka.child.kill("SIGTERM")
  assert.equal(await exitOf(kafka.child), 0)
  assert.ok((await isFree(portOf(bootstrap))) && (await isFree(portOf(new URL(registryUrl).host))))
})

test("a port that was asked for and is taken is an error that shows why", { skip }, async (context) => {
  const squatter = createServer().listen(0, "127.0.0.1")
  context.after(() => squatter.close())
  await new Promise((resolve) => squatter.once("listening", resolve))
  const address = squatter.address()
  assert.ok(address !== null && typeof address === "object")
  await assert.rejects(startKafka({ registry: false, ports: { brokers: [address.port] } }), { code: "kafka-port-taken" })
})

test("a bad option ends with exit code 2 and the usage", async () => {
  for (const args of [["--brokers", "2"], ["--port", "x"], ["--wat"]]) {
    const child = spawn(process.execPath, [file("../kafka/main.ts"), ...args], { stdio: ["ignore", "ignore", "pipe"] })
    let stderr = ""
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString("utf8")))
    assert.equal(await exitOf(child), 2)
    assert.match(stderr, /--registry-port N/)
  }
})

test("without Maven and with an empty cache the tests are skipped loudly, or fail when Kafka is required", async (context) => {
  const empty = folderFor(context)
  const script = join(empty, "ask.ts")
  writeFileSync(
    script,
    `import { skipWithoutKafka } from ${JSON.stringify(new URL("../kafka/local.ts", import.meta.url).href)}
     console.log("answer " + await skipWithoutKafka())`,
  )
  const { REINS_TEST_KAFKA: _kafka, REINS_REQUIRE_KAFKA: _require, ...env } = inheritedEnv()
  const bare = { ...env, PATH: "", XDG_CACHE_HOME: empty }
  const asked = await program([script], /answer .*\n/, bare)
  assert.match(asked.stdout(), /Java|mvn/)
  assert.match(asked.stderr(), /SKIPPED, NOT PROVEN: .*(Java|mvn)/)
  await assert.rejects(program([script], /answer/, { ...bare, REINS_REQUIRE_KAFKA: "1" }), /exited with 1[\s\S]*(Java|mvn)/)
})

test("the cache is filled once, whole or not at all", async (context) => {
  const folder = join(folderFor(context), "artifact")
  await assert.rejects(
    cached(folder, async (partial) => {
      writeFileSync(join(partial, "half"), "")
      throw new Error("the network went away")
    }),
    /went away/,
  )
  assert.equal(existsSync(folder), false)

  let fills = 0
  const fill = async (partial: string): Promise<void> => {
    fills += 1
    await new Promise((resolve) => setTimeout(resolve, 50))
    writeFileSync(join(partial, "whole"), "")
  }
  await Promise.all([cached(folder, fill), cached(folder, fill), cached(folder, fill)])
  assert.equal(fills, 1)
  assert.deepEqual(readdirSync(folder), ["whole"])
  assert.deepEqual(
    readdirSync(join(folder, "..")).filter((name) => name.includes("partial")),
    [],
  )
})
