import type { z } from "zod"
import type { Definition } from "./define.ts"

/** An Avro schema as JSON. */
export type AvroSchema = string | { [key: string]: unknown } | AvroSchema[]

interface ZodDef {
  readonly type: string
  readonly innerType?: z.ZodType
  readonly element?: z.ZodType
  readonly shape?: Record<string, z.ZodType>
  readonly entries?: Record<string, string>
}

function pascal(name: string): string {
  return name.charAt(0).toUpperCase() + name.slice(1)
}

/** Translates one zod schema. Named types take the name of the field they stand in, under the record's namespace. */
function translate(schema: z.ZodType, name: string, namespace: string): AvroSchema {
  const def = (schema as unknown as { _zod: { def: ZodDef } })._zod.def
  const meta = schema.meta() as { content?: string } | undefined
  switch (def.type) {
    case "string":
      return meta?.content === "json" ? { type: "string", content: "json" } : "string"
    case "boolean":
      return "boolean"
    case "number":
      return meta?.content === "timestamp-millis" ? { type: "long", logicalType: "timestamp-millis" } : "long"
    case "enum":
      return { type: "enum", name: pascal(name), namespace, symbols: Object.keys(def.entries ?? {}) }
    case "nullable":
      return ["null", translate(def.innerType as z.ZodType, name, namespace)]
    case "optional":
      return translate(def.innerType as z.ZodType, name, namespace)
    case "array":
      return { type: "array", items: translate(def.element as z.ZodType, name.replace(/s$/, ""), namespace) }
    case "object":
      return { type: "record", name: pascal(name), namespace, fields: fieldsOf(def.shape ?? {}, `${namespace}.${pascal(name)}`) }
    default:
      throw new Error(`No Avro for zod ${def.type} at ${namespace}.${name}.`)
  }
}

function fieldsOf(shape: Record<string, z.ZodType>, namespace: string): AvroSchema[] {
  return Object.entries(shape).map(([name, schema]) => {
    const type = translate(schema, name, namespace)
    // A default on every nullable field is what lets later versions add and drop them in both directions (FULL_TRANSITIVE).
    return Array.isArray(type) ? { name, type, default: null } : { name, type }
  })
}

/** The Avro schema of a record type: the print of which its zod schema is the pen. */
export function avroOf(definition: Pick<Definition, "recordName" | "meaning"> & { readonly schema: z.ZodObject }): AvroSchema {
  const dot = definition.recordName.lastIndexOf(".")
  const shape = (definition.schema as unknown as { _zod: { def: ZodDef } })._zod.def.shape ?? {}
  return {
    type: "record",
    name: definition.recordName.slice(dot + 1),
    namespace: definition.recordName.slice(0, dot),
    doc: definition.meaning,
    fields: fieldsOf(shape, definition.recordName),
  }
}
