import { parseArgs } from "node:util"
import { startKafka } from "./local.ts"
import { isFree } from "./ports.ts"

const usage = `A real Kafka and a real schema registry on loopback, until ^C.

  npm run kafka
  npm run -s kafka -- --print > kafka.env

  --print             only the environment lines on stdout, everything else on stderr
  --brokers 1|3       default 1
  --port N            the broker's port (further brokers take the next ones); default 9092, or a free one
  --registry-port N   default 8081, or a free one
  --data DIR          keep the data there between runs; default: a temporary folder
`

const defaultPort = 9092
const defaultRegistryPort = 8081

function refuse(sentence: string): never {
  process.stderr.write(`${sentence}\n\n${usage}`)
  process.exit(2)
}

function readArguments(): ReturnType<typeof parse> {
  try {
    return parse()
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error))
  }
}

function parse(): {
  print?: boolean
  brokers?: string
  port?: string
  "registry-port"?: string
  data?: string
  help?: boolean
} {
  return parseArgs({
    options: {
      print: { type: "boolean" },
      brokers: { type: "string" },
      port: { type: "string" },
      "registry-port": { type: "string" },
      data: { type: "string" },
      help: { type: "boolean", short: "h" },
    },
  }).values
}

function portNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const port = Number(text)
  if (!Number.isInteger(port) || port < 1 || port > 65_533) refuse(`${name} takes a port number, not “${text}”.`)
  return port
}

/** The default port when it is free; undefined lets the library choose, and the caller says so. */
async function defaultIfFree(port: number, what: string, say: (line: string) => void): Promise<number | undefined> {
  if (await isFree(port)) return port
  say(`Port ${port} is taken, so the ${what} gets another one.`)
  return undefined
}

async function main(): Promise<void> {
  const args = readArguments()
  if (args.help) {
    process.stdout.write(usage)
    return
  }
  const brokers = args.brokers ?? "1"
  if (brokers !== "1" && brokers !== "3") refuse(`--brokers takes 1 or 3, not “${brokers}”.`)
  const size = brokers === "3" ? 3 : 1
  const say = (line: string): void => void (args.print ? process.stderr : process.stdout).write(`${line}\n`)

  const asked = portNumber("--port", args.port)
  const first = asked ?? (await defaultIfFree(defaultPort, "broker", say))
  const registry = portNumber("--registry-port", args["registry-port"]) ?? (await defaultIfFree(defaultRegistryPort, "registry", say))
  const ports = {
    ...(first === undefined ? {} : { brokers: Array.from({ length: size }, (_, index) => first + index) }),
    ...(registry === undefined ? {} : { registry }),
  }

  // From here on a signal ends the brokers first. Before it, or if we are killed, the supervisor does.
  const stopped = Promise.withResolvers<void>()
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => stopped.resolve())

  say("Starting Kafka and the schema registry (the first time fetches about 200 MB and takes a minute) …")
  const startedAtMs = performance.now()
  const starting = startKafka({ brokers: size, ports, ...(args.data === undefined ? {} : { dataDir: args.data }) })
  const kafka = await Promise.race([starting, stopped.promise])
  if (kafka === undefined) process.exit(130)

  say(`Ready after ${((performance.now() - startedAtMs) / 1_000).toFixed(1)} s. ^C ends it.`)
  for (const [name, value] of Object.entries(kafka.env)) process.stdout.write(`export ${name}=${value}\n`)
  const alive = setInterval(() => undefined, 1 << 30)
  await stopped.promise
  clearInterval(alive)
  await kafka.stop()
}

await main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
})
