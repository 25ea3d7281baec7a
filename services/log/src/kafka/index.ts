export type { KafkaOptions, SocketFactory } from "./client.ts"
export { openKafka } from "./kafka-log.ts"
export { assertPatched } from "./patched.ts"
