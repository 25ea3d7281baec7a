import { z } from "zod"
import { envelope } from "./envelope.ts"
import { isJsonField } from "./fields.ts"

/** Which topic a record type belongs to; the Avro namespace is `reins.<family>`. */
export type Family = "sessions" | "tools" | "commands" | "declarations" | "deltas" | "snapshots" | "agents" | "keys"

export interface Definition<T extends string = string, S extends z.ZodObject = z.ZodObject> {
  readonly type: T
  readonly family: Family
  /** The Avro record's full name, which is also its subject in the registry (RecordNameStrategy). */
  readonly recordName: string
  /** One sentence. */
  readonly meaning: string
  readonly saidBy: readonly string[]
  readonly heardBy: readonly string[]
  /** Without `type`: what the Avro record holds. */
  readonly schema: S
  readonly example: z.infer<S> & { readonly type: T }
}

type Fields = Record<string, z.ZodType>

function pascal(type: string): string {
  return type.replace(/(^|[.-])([a-z])/g, (_, __, letter: string) => letter.toUpperCase())
}

const exampleEnvelope = {
  eventId: "evt_01",
  sessionId: "sesn_my1",
  tenant: "default",
  at: 1_795_000_000_000,
  by: "intake@host-1",
  causedBy: null,
  traceparent: null,
}

function define<T extends string, F extends Fields>(
  family: Family,
  given: { type: T; meaning: string; saidBy: readonly string[]; heardBy: readonly string[]; fields: F; example: z.infer<z.ZodObject<F>> },
) {
  const schema = z.object({ ...envelope, ...given.fields })
  return {
    type: given.type,
    family,
    recordName: `reins.${family}.${pascal(given.type)}`,
    meaning: given.meaning,
    saidBy: given.saidBy,
    heardBy: given.heardBy,
    schema,
    example: { type: given.type, ...exampleEnvelope, ...given.example } as unknown as z.infer<typeof schema> & { readonly type: T },
  }
}

/** A fact of the session log. */
export const sessionFact = <T extends string, F extends Fields>(given: {
  type: T
  meaning: string
  saidBy: readonly string[]
  heardBy: readonly string[]
  fields: F
  example: z.infer<z.ZodObject<F>>
}) => define("sessions", given)

/** A fact on the topic of a tool backend. */
export const toolFact = <T extends string, F extends Fields>(given: {
  type: T
  meaning: string
  saidBy: readonly string[]
  heardBy: readonly string[]
  fields: F
  example: z.infer<z.ZodObject<F>>
}) => define("tools", given)

/** Something asked for; the only imperatives on the wire. It has no envelope of ours: anyone may write it. */
export const command = <T extends string, F extends Fields>(given: {
  type: T
  meaning: string
  fields: F
  example: z.infer<z.ZodObject<F>>
}) => {
  const schema = z.object({
    commandId: z.string().min(1).max(200).nullish(),
    sessionId: z.string().min(1).max(200).nullish(),
    ...given.fields,
  })
  return {
    type: given.type,
    family: "commands" as const,
    recordName: `reins.commands.${pascal(given.type)}`,
    meaning: given.meaning,
    saidBy: ["anyone"] as const,
    heardBy: ["intake"] as const,
    schema,
    example: { type: given.type, commandId: "any-unique-string", sessionId: "sesn_my1", ...given.example } as unknown as z.infer<
      typeof schema
    > & { readonly type: T },
  }
}

const jsonFieldsOf = new WeakMap<z.ZodObject, ReadonlySet<string>>()

/** The fields of a record that hold JSON as text: they may be as large as what people and programs give, and everything else of a record is small. */
export function jsonFields({ schema }: Pick<Definition, "schema">): ReadonlySet<string> {
  let fields = jsonFieldsOf.get(schema)
  if (fields === undefined) {
    fields = new Set(Object.entries(schema.shape).flatMap(([name, field]) => (isJsonField(field as z.ZodType) ? [name] : [])))
    jsonFieldsOf.set(schema, fields)
  }
  return fields
}
