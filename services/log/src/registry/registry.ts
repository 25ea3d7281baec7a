/** Where Avro schemas live: Confluent's wire format puts a registry's id before every value. */
export interface SchemaRegistry {
  /** The id of this schema under its record name, registering it if it is new there. Throws `SchemaIncompatibleError`. */
  register(subject: string, schema: string): Promise<number>
  /** The schema with this id, or null when the registry has none. Throws `LogUnavailableError` when it cannot be asked. */
  schema(id: number): Promise<string | null>
}

/** The registry refused a schema: it would break readers or writers of earlier versions. */
export class SchemaIncompatibleError extends Error {
  readonly code = "schema-incompatible"
  readonly retryable = false
}
