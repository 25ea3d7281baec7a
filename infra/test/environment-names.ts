/** Every name that a service of ours reads from its environment. */
export const environmentNames: ReadonlySet<string> = new Set([
  "KAFKA_BROKERS",
  "KAFKA_SSL_CA",
  "KAFKA_SASL_MECHANISM",
  "KAFKA_SASL_USERNAME",
  "KAFKA_SASL_PASSWORD",
  "SCHEMA_REGISTRY_URL",
  "SCHEMA_REGISTRY_USERNAME",
  "SCHEMA_REGISTRY_PASSWORD",
  "REINS_TOPIC_PREFIX",
  "REINS_PARTITIONS",
  "REINS_DATA",
  "REINS_MODEL",
  "REINS_HOST",
  "REINS_PORT",
  "ANTHROPIC_API_KEY",
  "ANTHROPIC_BASE_URL",
])
