import { onKafka } from "./on-kafka.ts"
const [shape, s, n] = process.argv.slice(2)
console.log(shape, await onKafka(shape as "hosted", Number(s), Number(n), { bootstrap: process.env["KAFKA_BROKERS"] as string, registryUrl: process.env["SCHEMA_REGISTRY_URL"] as string }))
process.exit(0)
